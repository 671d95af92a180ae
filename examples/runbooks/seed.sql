-- An AI assistant's data, back to a thousand days ago. ../seed-functions.sql explains pg_temp. In the order of the foreign keys.

select pg_temp.sign_up();

insert into profiles (id, display_name, locale, created_at)
select pg_temp.key('user', p), pg_temp.full_name(p), (array['en','en','de','fr','es'])[1 + pg_temp.pick(p, 11, 5)], now() - pg_temp.account_age(p)
from generate_series(1, pg_temp.people()) p;

insert into subscriptions (user_id, stripe_customer_id, plan, token_limit, status, current_period_end)
select pg_temp.key('user', p), pg_temp.stripe_customer(p), plan, case plan when 'free' then 100000 when 'pro' then 1000000 else 5000000 end,
  (array['active','active','active','active','past_due','canceled'])[1 + pg_temp.pick(p, 13, 6)], now() + make_interval(days => pg_temp.pick(p, 14, 30))
from generate_series(1, pg_temp.people()) p, lateral (select (array['free','free','pro','team'])[1 + pg_temp.pick(p, 12, 4)] as plan) paid;

insert into api_keys (id, user_id, name, key_hash, last_used_at, revoked_at, created_at)
select pg_temp.key('key', i), pg_temp.key('user', p), (array['laptop','ci','zapier','phone'])[1 + pg_temp.pick(i, 22, 4)], encode(sha256(('key:' || i)::bytea), 'hex'),
  case when i % 4 <> 0 then now() - age / 3 end,
  -- Every fifth was rotated; of those, some today.
  case when i % 5 = 0 then now() - case when i % 15 = 0 then interval '3 hours' else age / 2 end end, now() - age
from generate_series(1, pg_temp.rows(0.015)) i, lateral (select pg_temp.person(i, 20) as p) who, lateral (select pg_temp.age_of(i, 24, p) as age) how_old;

insert into connected_accounts (id, user_id, provider, access_token_encrypted, created_at)
select pg_temp.key('account', i), pg_temp.key('user', p), provider, 'v1.' || encode(sha256(('token:' || i)::bytea), 'base64'), now() - pg_temp.age_of(i, 33, p)
from generate_series(1, pg_temp.rows(0.01)) i, lateral (select pg_temp.person(i, 30) as p, (array['google','github','slack'])[1 + pg_temp.pick(i, 32, 3)] as provider) who
on conflict do nothing;

insert into conversations (id, user_id, title, created_at, deleted_at)
select pg_temp.key('conversation', i), pg_temp.key('user', p), 'Question ' || pg_temp.pick(i, 42, 10000), now() - age, case when i % 8 in (0, 1) then now() - age / 2 end
from generate_series(1, pg_temp.rows(0.06)) i, lateral (select pg_temp.person(i, 40) as p) who, lateral (select pg_temp.age_of(i, 43, p) as age) how_old;

insert into messages (id, conversation_id, role, content, created_at)
select pg_temp.key('message', i), conversation.id, case when i % 2 = 1 then 'user' else 'assistant' end,
  case when i % 2 = 1 then 'How do I do step ' || pg_temp.pick(i, 51, 1000) || '?' else 'Like this: ' || md5('answer:' || i) end, conversation.created_at + make_interval(secs => i % 600)
from generate_series(1, pg_temp.rows(0.3)) i
join conversations conversation on conversation.id = pg_temp.key('conversation', 1 + pg_temp.pick(i, 50, pg_temp.rows(0.06)));

insert into token_usage (user_id, model, prompt_tokens, completion_tokens, created_at)
select pg_temp.key('user', p), (array['gpt-4o','gpt-4o-mini','gpt-4o-mini'])[1 + pg_temp.pick(i, 62, 3)], 100 + pg_temp.pick(i, 63, 3000), 50 + pg_temp.pick(i, 64, 1500), now() - pg_temp.age_of(i, 65, p)
from generate_series(1, pg_temp.rows(0.15)) i, lateral (select pg_temp.person(i, 60) as p) who;

insert into payments (id, user_id, stripe_invoice_id, billing_name, amount_cents, currency, status, paid_at, created_at)
select pg_temp.key('payment', i), pg_temp.key('user', p), 'in_' || left(md5('invoice:' || i), 20), pg_temp.full_name(p), (array[2000, 2000, 9900])[1 + pg_temp.pick(i, 72, 3)], 'usd', status,
  case when status = 'paid' then now() - age end, now() - age
from generate_series(1, pg_temp.rows(0.03)) i, lateral (select pg_temp.person(i, 70) as p) who,
  lateral (select pg_temp.age_of(i, 74, p) as age, (array['paid','paid','paid','paid','paid','paid','failed','refunded'])[1 + pg_temp.pick(i, 75, 8)] as status) what;

insert into request_logs (user_id, function_name, status, duration_ms, created_at)
select case when i % 5 <> 0 then pg_temp.key('user', p) end, (array['chat','chat','chat','history','billing','auth'])[1 + pg_temp.pick(i, 82, 6)],
  case when pg_temp.pick(i, 83, 100) = 0 then 500 + pg_temp.pick(i, 84, 4) when pg_temp.pick(i, 83, 100) < 5 then 400 + pg_temp.pick(i, 84, 5) else 200 end,
  -- Most are quick; one in thirty waits for the model.
  20 + pg_temp.pick(i, 85, 400) + case when pg_temp.pick(i, 86, 30) = 0 then 2000 + pg_temp.pick(i, 87, 4000) else 0 end, now() - pg_temp.within(i, 88, 45)
from generate_series(1, pg_temp.rows(0.25)) i, lateral (select pg_temp.person(i, 80) as p) who;

insert into error_logs (id, user_id, severity, message, context, created_at)
select pg_temp.key('error', i), case when i % 3 = 0 then pg_temp.key('user', p) end, (array['P3','P3','P3','P2','P2','P1'])[1 + pg_temp.pick(i, 92, 6)],
  'The model did not answer in ' || 5 + pg_temp.pick(i, 93, 55) || ' s', jsonb_build_object('function', 'chat', 'status', 500 + pg_temp.pick(i, 94, 4)), now() - pg_temp.within(i, 95, 120)
from generate_series(1, pg_temp.rows(0.03)) i, lateral (select pg_temp.person(i, 90) as p) who;

insert into auth_attempts (email, succeeded, ip_address, created_at)
select case when i % 10 = 0 then 'nobody' || pg_temp.pick(i, 102, 50) || '@example.org' when i % 2 = 0 then upper(pg_temp.email(p)) else pg_temp.email(p) end, i % 10 not in (0, 3),
  -- 203.0.113.0/24 is set aside for documentation.
  ('203.0.113.' || pg_temp.pick(i, 103, 256))::inet, now() - pg_temp.within(i, 104, 120)
from generate_series(1, pg_temp.rows(0.08)) i, lateral (select pg_temp.person(i, 100) as p) who;

insert into audit_logs (user_id, action, resource, ip_address, created_at)
select pg_temp.key('user', p), (array['key.created','key.revoked','role.granted','export.downloaded','settings.changed'])[1 + pg_temp.pick(i, 112, 5)], 'project/' || pg_temp.pick(i, 113, 40),
  ('203.0.113.' || pg_temp.pick(i, 114, 256))::inet, now() - pg_temp.age_of(i, 115, p)
from generate_series(1, pg_temp.rows(0.05)) i, lateral (select pg_temp.person(i, 110) as p) who;

insert into gdpr_requests (id, user_id, requester_email, kind, identity_verified_at, due_at, completed_at, created_at)
select pg_temp.key('request', i), case when i % 3 <> 0 then pg_temp.key('user', p) end, pg_temp.email(p), (array['access','portability','rectification','erasure'])[1 + pg_temp.pick(i, 132, 4)],
  now() - age + interval '1 day', now() - age + interval '30 days', case when age > interval '20 days' then now() - age + interval '9 days' end, now() - age
from generate_series(1, pg_temp.rows(0.003)) i, lateral (select pg_temp.person(i, 130) as p) who, lateral (select pg_temp.age_of(i, 133, p) as age) how_old;

-- Earlier months have their report; last month's is still to be written.
insert into usage_reports (month, model, active_users, prompt_tokens, completion_tokens)
select (date_trunc('month', now()) - make_interval(months => m))::date, model, 100 + m, 900000 + m, 400000 + m
from generate_series(2, 6) m, unnest(array['gpt-4o','gpt-4o-mini']) model;

insert into performance_metrics (day, function_name, requests, error_rate, p50_ms, p95_ms)
select (now() - make_interval(days => d))::date, function_name, 90 + pg_temp.pick(d, 140, 40), 0.01, 180 + pg_temp.pick(d, 141, 60), 900 + pg_temp.pick(d, 142, 900)
from generate_series(2, 120) d, unnest(array['auth','billing','chat','history']) function_name;
