-- The productivity app's data, back to a thousand days ago. ../seed-functions.sql explains pg_temp. In the order of the foreign keys.

select pg_temp.sign_up();

insert into users (id, email, full_name, timezone, last_active_at, created_at)
select pg_temp.key('user', p), pg_temp.email(p), pg_temp.full_name(p), (array['UTC','Europe/Berlin','America/New_York','Asia/Tokyo'])[1 + pg_temp.pick(p, 11, 4)],
  now() - pg_temp.within(p, 12, 60), now() - pg_temp.account_age(p)
from generate_series(1, pg_temp.people()) p;

insert into user_preferences (user_id, theme, settings, updated_at)
select pg_temp.key('user', p), (array['system','light','dark'])[1 + pg_temp.pick(p, 13, 3)], jsonb_build_object('week_starts', pg_temp.pick(p, 14, 2), 'sound', p % 2 = 0), now() - pg_temp.account_age(p) / 2
from generate_series(1, pg_temp.people()) p;

insert into devices (id, user_id, name, push_token, last_seen_at)
select pg_temp.key('device', 2 * p + d), pg_temp.key('user', p), (array['phone','laptop'])[1 + d], case when d = 0 then md5('push:' || p) end, now() - pg_temp.within(2 * p + d, 15, 60)
from generate_series(1, pg_temp.people()) p, generate_series(0, p % 2) d;

insert into tasks (id, user_id, title, notes, priority, due_date, completed_at, deleted_at, created_at, updated_at)
select pg_temp.key('task', i), pg_temp.key('user', p), (array['Call','Write to','Read','Pay','Fix','Plan'])[1 + pg_temp.pick(i, 22, 6)] || ' ' || pg_temp.pick(i, 23, 5000),
  case when i % 3 = 0 then 'Note ' || md5('note:' || i) end, 1 + pg_temp.pick(i, 24, 4), (now() - age + make_interval(days => pg_temp.pick(i, 25, 30)))::date,
  case when i % 20 < 13 then now() - age * 0.9 end, case when i % 10 = 0 then now() - age * 0.8 end, now() - age, now() - age * 0.8
from generate_series(1, pg_temp.rows(0.3)) i, lateral (select pg_temp.person(i, 20) as p) who, lateral (select pg_temp.age_of(i, 26, p) as age) how_old;

insert into tasks_archive (id, user_id, title, notes, priority, due_date, completed_at, deleted_at, created_at, updated_at, archived_at)
select pg_temp.key('archived', i), pg_temp.key('user', pg_temp.person(i, 30)), 'Done with ' || pg_temp.pick(i, 32, 5000), null, 1 + pg_temp.pick(i, 33, 4), null,
  now() - age - interval '20 days', now() - age, now() - age - interval '40 days', now() - age, now() - age + interval '90 days'
from generate_series(1, pg_temp.rows(0.03)) i, lateral (select make_interval(days => 92 + pg_temp.pick(i, 34, 600)) as age) how_old;

insert into sync_log (user_id, device_id, task_id, status, error_code, synced_at)
select owner.user_id, pg_temp.key('device', 2 * owner.p), owner.id, status, case status when 'failed' then (array['timeout','offline','too_large'])[1 + pg_temp.pick(i, 42, 3)] end, now() - pg_temp.within(i, 43, 50)
from generate_series(1, pg_temp.rows(0.35)) i
join (select id, user_id, p from tasks join lateral generate_series(1, pg_temp.people()) p on pg_temp.key('user', p) = user_id) owner on owner.id = pg_temp.key('task', 1 + pg_temp.pick(i, 40, pg_temp.rows(0.3))),
  lateral (select case when pg_temp.pick(i, 41, 100) < 2 then 'failed' when pg_temp.pick(i, 41, 100) < 6 then 'conflict' else 'ok' end as status) what;

insert into ai_requests (user_id, kind, inference_ms, accepted, cache_hit, fallback, timed_out, created_at)
select pg_temp.key('user', p), (array['parse','parse','parse','plan','summarise'])[1 + pg_temp.pick(i, 52, 5)], 120 + pg_temp.pick(i, 53, 2400), i % 9 <> 0, i % 4 = 0, i % 25 = 0, i % 40 = 0, now() - pg_temp.within(i, 54, 250)
from generate_series(1, pg_temp.rows(0.15)) i, lateral (select pg_temp.person(i, 50) as p) who;

insert into app_sessions (id, user_id, user_agent, started_at, ended_at)
select pg_temp.key('session', i), pg_temp.key('user', p), 'Mozilla/5.0 (' || (array['Macintosh','Windows NT 10.0','X11; Linux x86_64'])[1 + pg_temp.pick(i, 62, 3)] || ')',
  now() - age, now() - age + make_interval(secs => 30 + pg_temp.pick(i, 63, 1800))
from generate_series(1, pg_temp.rows(0.17)) i, lateral (select pg_temp.person(i, 60) as p) who, lateral (select pg_temp.within(i, 64, 500) + interval '1 hour' as age) how_old;

-- Earlier days have their figures; yesterday's are still to be counted.
insert into dashboard_metrics (day, active_users_daily, active_users_weekly, active_users_monthly, tasks_created, tasks_completed, completion_rate, avg_session_seconds, inference_time_ms, parse_accuracy, cache_hit_rate, fallback_rate)
select (now() - make_interval(days => d))::date, 20 + pg_temp.pick(d, 70, 20), 80 + pg_temp.pick(d, 71, 20), 160, 15, 10, 0.66, 900 + pg_temp.pick(d, 72, 200), 1200 + pg_temp.pick(d, 73, 200), 0.89, 0.25, 0.04
from generate_series(2, 120) d;

refresh materialized view task_statistics;
