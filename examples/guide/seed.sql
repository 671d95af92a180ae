-- The course shop's data, back to a thousand days ago. ../seed-functions.sql explains pg_temp. In the order of the foreign
-- keys. Nobody is in auth.users: accounts are STACK Auth's.

insert into users (id, email, display_name, created_at, last_seen_at)
select pg_temp.key('user', p), pg_temp.email(p), pg_temp.full_name(p), now() - pg_temp.account_age(p), now() - pg_temp.within(p, 11, 60)
from generate_series(1, pg_temp.people()) p;

insert into products (name, stripe_price_id, price_cents)
select name, 'price_' || left(md5(name), 14), price from (values ('Watercolours', 4900), ('Bread', 2900), ('Chess', 1900), ('Italian', 7900)) course (name, price);

insert into orders (id, user_id, product_id, status, created_at)
select pg_temp.key('order', i), pg_temp.key('user', p), 1 + pg_temp.pick(i, 22, 4), (array['paid','paid','paid','paid','abandoned','open'])[1 + pg_temp.pick(i, 23, 6)], now() - pg_temp.age_of(i, 24, p)
from generate_series(1, pg_temp.rows(0.08)) i, lateral (select pg_temp.person(i, 20) as p) who;

insert into invoices (id, user_id, order_id, stripe_customer_id, stripe_invoice_id, billing_name, billing_address, amount_cents, currency, paid_at, created_at)
select pg_temp.key('invoice', row_number() over (order by o.id)), o.user_id, o.id, pg_temp.stripe_customer(p), 'in_' || left(md5('invoice:' || o.id), 20), pg_temp.full_name(p),
  1 + pg_temp.pick(p, 31, 90) || ' Example Street', course.price_cents, 'eur', o.created_at + interval '2 minutes', o.created_at + interval '1 minute'
from orders o join products course on course.id = o.product_id join generate_series(1, pg_temp.people()) p on pg_temp.key('user', p) = o.user_id
where o.status = 'paid';

-- Every fourth person has handed something in.
insert into uploads (id, user_id, storage_path, bytes, created_at, deleted_at)
select pg_temp.key('upload', 4 * p + n), pg_temp.key('user', p), pg_temp.key('user', p) || '/homework-' || n || '.txt', 400 + pg_temp.pick(4 * p + n, 40, 4000), now() - pg_temp.account_age(p) / (1 + n),
  case when n = 3 then now() - pg_temp.within(p, 41, 90) end
from generate_series(1, pg_temp.people(), 4) p, generate_series(1, 1 + pg_temp.pick(p, 42, 3)) n;

insert into user_notifications (id, user_id, subject, sent_at, read_at)
select pg_temp.key('notification', i), pg_temp.key('user', p), (array['A new lesson','Your invoice','Maintenance on Sunday','We are back'])[1 + pg_temp.pick(i, 52, 4)], now() - age, case when i % 3 <> 0 then now() - age / 2 end
from generate_series(1, pg_temp.rows(0.08)) i, lateral (select pg_temp.person(i, 50) as p) who, lateral (select pg_temp.within(i, 53, 130) as age) how_old;

insert into workflow_runs (workflow, user_id, status, payload, started_at, finished_at)
select (array['welcome','invoice-mail','digest','crm-sync'])[1 + pg_temp.pick(i, 62, 4)], case when i % 4 <> 0 then pg_temp.key('user', p) end, status,
  case when i % 4 <> 0 then jsonb_build_object('email', pg_temp.email(p)) else '{}' end, now() - age, case when status <> 'running' then now() - age + interval '3 seconds' end
from generate_series(1, pg_temp.rows(0.1)) i, lateral (select pg_temp.person(i, 60) as p, pg_temp.within(i, 63, 45) as age, case when i % 50 = 0 then 'failed' when i = 1 then 'running' else 'done' end as status) what;

insert into feature_flags (name, enabled, rollout_percent) values ('new-player', true, 100), ('certificates', true, 25), ('dark-mode', false, 0);

insert into request_logs (id, user_id, route, status, duration_ms, created_at)
select pg_temp.key('request', i), case when i % 3 <> 0 then pg_temp.key('user', p) end, (array['/','/courses','/lessons/:id','/checkout','/api/progress'])[1 + pg_temp.pick(i, 72, 5)],
  case when pg_temp.pick(i, 73, 120) = 0 then 500 + pg_temp.pick(i, 74, 4) else 200 end, 15 + pg_temp.pick(i, 75, 600), now() - pg_temp.within(i, 76, 45)
from generate_series(1, pg_temp.rows(0.4)) i, lateral (select pg_temp.person(i, 70) as p) who;

insert into error_events (id, user_id, message, stack, user_context, created_at)
select pg_temp.key('error', i), case when i % 2 = 0 then pg_temp.key('user', p) end, 'Cannot read lesson ' || pg_temp.pick(i, 82, 90), 'at play (player.js:' || pg_temp.pick(i, 83, 900) || ')',
  jsonb_build_object('browser', (array['Firefox','Chrome','Safari'])[1 + pg_temp.pick(i, 84, 3)]), now() - pg_temp.within(i, 85, 120)
from generate_series(1, pg_temp.rows(0.03)) i, lateral (select pg_temp.person(i, 80) as p) who;

insert into feature_usage (user_id, feature, used_at)
select pg_temp.key('user', p), (array['player','notes','quiz','certificate'])[1 + pg_temp.pick(i, 92, 4)], now() - pg_temp.within(i, 93, 300)
from generate_series(1, pg_temp.rows(0.25)) i, lateral (select pg_temp.person(i, 90) as p) who;

insert into feedback (id, user_id, contact_email, rating, comment, created_at)
select pg_temp.key('feedback', i), case when i % 6 <> 0 then pg_temp.key('user', p) end,
  -- From the website, typed by hand: the address in whatever case.
  case when i % 6 = 0 then upper(pg_temp.email(p)) end, 1 + pg_temp.pick(i, 102, 5), 'Lesson ' || pg_temp.pick(i, 103, 90) || ' was just right', now() - pg_temp.age_of(i, 104, p)
from generate_series(1, pg_temp.rows(0.03)) i, lateral (select pg_temp.person(i, 100) as p) who;

-- Earlier weeks have their report; last week's is still to be written.
insert into adoption_reports (week, feature, users, uses)
select (date_trunc('week', now()) - make_interval(weeks => w))::date, feature, 60 + pg_temp.pick(w, 110, 40), 300 + pg_temp.pick(w, 111, 200)
from generate_series(2, 20) w, unnest(array['player','notes','quiz','certificate']) feature;

select pg_temp.make_bucket('uploads');
select pg_temp.store_file('uploads', storage_path, user_id, 'text/plain', bytes) from uploads where deleted_at is null order by storage_path;

refresh materialized view daily_figures;
