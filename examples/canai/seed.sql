-- CanAI's data: people who tell of their business and get plans for it, back to a thousand days ago. ../seed-functions.sql
-- explains pg_temp. In the order of the foreign keys.

select pg_temp.sign_up();

insert into session_logs (id, user_id, interaction_type, interaction_details, product_track, response_time_ms, trust_delta, created_at)
select pg_temp.key('session', i), pg_temp.key('user', p),
  (array['discovery_hook','discovery_funnel','spark_layer','purchase_flow','detailed_input','intent_mirror','deliverable','spark_split','feedback'])[1 + pg_temp.pick(i, 12, 9)],
  jsonb_build_object('response_time_ms', 40 + pg_temp.pick(i, 13, 900), 'page', '/step/' || 1 + pg_temp.pick(i, 14, 9)),
  (array['business_builder','social_email','site_audit'])[1 + pg_temp.pick(i, 15, 3)],
  40 + pg_temp.pick(i, 13, 900), (pg_temp.pick(i, 16, 500) / 100.0)::numeric(4, 2), now() - pg_temp.age_of(i, 17, p)
from generate_series(1, pg_temp.rows(0.36)) i, lateral (select pg_temp.person(i, 10) as p) who;

insert into initial_prompt_logs (id, user_id, payload, business_name, custom_tone, created_at)
select pg_temp.key('initial', i), pg_temp.key('user', p),
  jsonb_build_object('challenge', 'How do I reach ' || pg_temp.pick(i, 22, 900) || ' more customers?', 'revenue', pg_temp.pick(i, 23, 500) * 1000),
  (array['Sprinkle Haven','North Pier Coffee','Oak & Ember','Kite Studio','Blue Door Books'])[1 + pg_temp.pick(i, 24, 5)] || ' ' || p,
  (array['warm','bold','optimistic','professional','playful'])[1 + pg_temp.pick(i, 25, 5)], now() - pg_temp.age_of(i, 26, p)
from generate_series(1, pg_temp.rows(0.09)) i, lateral (select pg_temp.person(i, 20) as p) who;

insert into prompt_logs (id, user_id, initial_prompt_id, prompt, output, created_at)
select pg_temp.key('prompt', i), initial.user_id, initial.id, 'Write the plan, part ' || i, md5('output:' || i), initial.created_at + interval '2 minutes'
from generate_series(1, pg_temp.rows(0.1)) i
join initial_prompt_logs initial on initial.id = pg_temp.key('initial', 1 + pg_temp.pick(i, 30, pg_temp.rows(0.09)));

insert into spark_logs (id, initial_prompt_id, user_id, selected_spark, regeneration_count, created_at)
select pg_temp.key('spark', i), initial.id, initial.user_id,
  jsonb_build_object('title', 'Spark ' || pg_temp.pick(i, 41, 5000), 'tagline', md5('tagline:' || i)), pg_temp.pick(i, 42, 4), initial.created_at + interval '1 minute'
from generate_series(1, pg_temp.rows(0.13)) i
join initial_prompt_logs initial on initial.id = pg_temp.key('initial', 1 + pg_temp.pick(i, 40, pg_temp.rows(0.09)));

insert into comparisons (id, prompt_id, user_id, canai_output, generic_output, trust_delta, emotional_resonance, created_at)
select pg_temp.key('comparison', i), prompt.id, prompt.user_id, md5('ours:' || i), md5('generic:' || i),
  (pg_temp.pick(i, 51, 500) / 100.0)::numeric(4, 2), jsonb_build_object('valence', pg_temp.pick(i, 52, 100) / 100.0, 'arousal', pg_temp.pick(i, 53, 100) / 100.0),
  prompt.created_at + interval '1 minute'
from generate_series(1, pg_temp.rows(0.03)) i
join prompt_logs prompt on prompt.id = pg_temp.key('prompt', 1 + pg_temp.pick(i, 50, pg_temp.rows(0.1)));

insert into spark_cache (cache_key, sparks, created_at, expires_at)
select md5('cache:' || i), jsonb_build_array(jsonb_build_object('title', 'Spark ' || i), jsonb_build_object('title', 'Spark ' || i + 1)),
  now() - age, now() - age + interval '24 hours'
from generate_series(1, pg_temp.rows(0.08)) i, lateral (select make_interval(secs => pg_temp.pick(i, 60, 172800)) as age) how_old;

insert into payment_logs (id, user_id, stripe_customer_id, stripe_invoice_id, amount_cents, currency, status, card_name, card_last4, product_track, paid_at, created_at)
select pg_temp.key('payment', i), pg_temp.key('user', p), pg_temp.stripe_customer(p), 'in_' || left(md5('invoice:' || i), 20),
  (array[9900, 4900, 7900])[1 + pg_temp.pick(i, 72, 3)], 'usd', status, upper(pg_temp.full_name(p)), lpad(pg_temp.pick(p, 73, 10000)::text, 4, '0'),
  (array['business_builder','social_email','site_audit'])[1 + pg_temp.pick(i, 72, 3)], case when status = 'paid' then now() - age end, now() - age
from generate_series(1, pg_temp.rows(0.02)) i, lateral (select pg_temp.person(i, 70) as p) who,
  lateral (select pg_temp.age_of(i, 74, p) as age, (array['paid','paid','paid','paid','paid','paid','paid','failed','refunded','pending'])[1 + pg_temp.pick(i, 75, 10)] as status) what;

insert into feedback_logs (id, user_id, contact_email, rating, comments, improvement_suggestions, anonymized, created_at)
select pg_temp.key('feedback', i), case when i % 20 <> 0 then pg_temp.key('user', p) end,
  -- From the website, typed by hand: the address in whatever case.
  case when i % 20 = 0 then case when i % 40 = 0 then upper(pg_temp.email(p)) else pg_temp.email(p) end end,
  1 + pg_temp.pick(i, 82, 5), 'It helped me with part ' || pg_temp.pick(i, 83, 1000), 'More examples for case ' || pg_temp.pick(i, 84, 1000), false, now() - pg_temp.age_of(i, 85, p)
from generate_series(1, pg_temp.rows(0.03)) i, lateral (select pg_temp.person(i, 80) as p) who;

insert into usage_logs (user_id, feature, quantity, created_at)
select pg_temp.key('user', p), (array['spark','plan','audit','share','export'])[1 + pg_temp.pick(i, 92, 5)], 1 + pg_temp.pick(i, 93, 5), now() - pg_temp.age_of(i, 94, p)
from generate_series(1, pg_temp.rows(0.08)) i, lateral (select pg_temp.person(i, 90) as p) who;

insert into share_logs (id, user_id, channel, recipient_email, message, created_at)
select pg_temp.key('share', i), pg_temp.key('user', p), channel,
  -- Half of those written to have an account of their own.
  case when channel = 'email' then case when i % 2 = 0 then pg_temp.email(1 + pg_temp.pick(i, 102, pg_temp.people())) else 'friend' || i || '@example.org' end end,
  'Have a look at this', now() - pg_temp.age_of(i, 103, p)
from generate_series(1, pg_temp.rows(0.02)) i, lateral (select pg_temp.person(i, 100) as p, (array['email','link','social'])[1 + pg_temp.pick(i, 104, 3)] as channel) who;

insert into error_logs (id, user_id, error_type, severity, message, context, created_at)
select pg_temp.key('error', i), case when i % 3 = 0 then pg_temp.key('user', p) end,
  (array['timeout','rate_limit','validation','upstream','database'])[1 + pg_temp.pick(i, 112, 5)],
  (array['info','warning','error','error','error','error','error','error','error','critical'])[1 + pg_temp.pick(i, 113, 10)],
  'The request took too long (' || pg_temp.pick(i, 114, 30000) || ' ms)', jsonb_build_object('endpoint', '/v1/messages', 'status', 500 + pg_temp.pick(i, 115, 5)),
  -- Two thirds are recent; the rest waits to be archived.
  now() - case when i <= 3 then pg_temp.age_of(i, 116, p) when i % 3 = 1 then make_interval(secs => 2592000 + pg_temp.pick(i, 117, 2592000)) else make_interval(secs => pg_temp.pick(i, 118, 2592000)) end
from generate_series(1, pg_temp.rows(0.05)) i, lateral (select pg_temp.person(i, 110) as p) who;

insert into error_logs_archive (id, user_id, error_type, severity, message, context, created_at)
select pg_temp.key('archived', i), case when i % 3 = 0 then pg_temp.key('user', pg_temp.person(i, 120)) end, 'timeout', 'error',
  'The request took too long (' || pg_temp.pick(i, 121, 30000) || ' ms)', '{}', now() - make_interval(days => 61 + pg_temp.pick(i, 122, 800))
from generate_series(1, pg_temp.rows(0.01)) i;

insert into trust_indicators (name, label, count) values
  ('plans_created', 'Plans created', 655), ('sparks_lit', 'Sparks lit', 18240), ('hours_saved', 'Hours saved', 4120), ('happy_founders', 'Happy founders', 500);

-- Earlier months have their report; last month's is still to be written.
insert into performance_reports (month, avg_response_time, total_users, total_plans_created, avg_trust_delta, uptime_percentage)
select date_trunc('month', now()) - make_interval(months => m), 380 + m, 300 - 10 * m, 400 - 20 * m, 2.4, 99.95
from generate_series(2, 6) m;

-- Every tenth of the first 200 people has recorded something; some of them twice. The first folder of a file's name is its owner's id.
select pg_temp.make_bucket('voice-notes');
select pg_temp.store_file('voice-notes', file, pg_temp.key('user', p), 'audio/wav', 8044 + octet_length(file))
from generate_series(1, least(200, pg_temp.people()), 10) p,
  lateral (select pg_temp.key('user', p) || '/' || unnest(case when p % 20 = 1 then array['hello.wav', 'plan/idea.wav'] else array['hello.wav'] end) as file) named;

refresh materialized view daily_metrics;
