-- The tables of pg_cron 1.6, without the extension, and the jobs that people make with it.
create schema cron;
create sequence cron.jobid_seq;
create table cron.job (
  jobid bigint primary key default nextval('cron.jobid_seq'),
  schedule text not null,
  command text not null,
  nodename text not null default 'localhost',
  nodeport int not null default 5432,
  database text not null default current_database(),
  username text not null default current_user,
  active boolean not null default true,
  jobname text
);
alter table cron.job enable row level security;
create policy cron_job_policy on cron.job using (username = current_user);

create table session_logs (id bigint generated always as identity primary key, user_id int, created_at timestamptz not null default now(), note text);
create index idx_session_logs_user_id on session_logs (user_id);
create table error_logs (id bigint generated always as identity primary key, created_at timestamptz not null default now(), message text);
create table error_logs_archive (like error_logs);
create table spark_cache (key text primary key, expires_at timestamptz not null);
create table feedback_logs (id int primary key, created_at timestamptz not null, comments text, anonymized boolean default false);
create materialized view daily_metrics as select date_trunc('day', created_at) as day, count(*) as rows from session_logs group by 1;
create unique index on daily_metrics (day);
create function close_stale_sessions() returns int language sql as 'select 1';

insert into cron.job (jobname, schedule, command) values
  ('daily-maintenance', '0 2 * * *', $$
    BEGIN
        -- Vacuum and analyze tables
        VACUUM ANALYZE session_logs;
        VACUUM ANALYZE error_logs;

        -- Update table statistics
        ANALYZE;

        -- Clean up expired cache entries
        DELETE FROM spark_cache WHERE expires_at < NOW();

        -- Archive old error logs
        INSERT INTO error_logs_archive
        SELECT * FROM error_logs WHERE created_at < NOW() - INTERVAL '30 days';
        DELETE FROM error_logs WHERE created_at < NOW() - INTERVAL '30 days';
    END
    $$),
  ('weekly-optimization', '0 3 * * 0', $$
    BEGIN
        REINDEX INDEX CONCURRENTLY idx_session_logs_user_id;
        ANALYZE;
    END
    $$),
  ('Monthly lifecycle', '0 4 1 * *', $$
    DO $do$ BEGIN
        DELETE FROM session_logs WHERE created_at < NOW() - INTERVAL '24 months';
        UPDATE feedback_logs SET comments = '[ANONYMIZED]', anonymized = true
        WHERE created_at < NOW() - INTERVAL '12 months' AND anonymized = false;
    END $do$
    $$),
  ('refresh-daily-metrics', '0 1 * * *', 'REFRESH MATERIALIZED VIEW CONCURRENTLY daily_metrics;'),
  (null, '*/10 * * * *', 'select close_stale_sessions()'),
  ('nightly-vacuum', '0 3 * * *', 'VACUUM'),
  ('purge errors', '0 5 * * *', $$delete from public.error_logs where created_at < now() - interval '7 days' and message is not null -- noise$$),
  ('short lived', '30 seconds', $$delete from spark_cache where expires_at < now() - interval '1 hour'$$),
  ('month end', '0 0 $ * *', 'select 1'),
  ('at boot', '@reboot', 'select 1'),
  ('hourly', '@hourly', 'call sweep(1)'),
  ('every other monday', '0 0 */2 * 1', 'select 2'),
  ('history', '0 0 * * *', $$delete from cron.job_run_details where end_time < now() - interval '7 days'$$),
  ('backup', '0 1 * * *', $$select 'it''s "a"
second ${line} \ `tick`'$$),
  ('call edge', '*/5 * * * *', $$select net.http_post('https://x.supabase.co/functions/v1/y', headers := '{"Authorization":"Bearer eyJhbGciOiJIUzI1NiJ9.e30.sig"}')$$),
  ('other way', '0 6 * * *', $$with moved as (delete from error_logs where now() - created_at > '90 days'::interval returning *) insert into error_logs_archive select * from moved$$),
  ('full', '0 7 * * 0', 'vacuum (full, analyze) session_logs, error_logs (message)'),
  ('table index', '0 8 * * 0', 'reindex table session_logs'),
  ('concurrent', '0 9 * * *', 'create index concurrently if not exists i on session_logs (note)'),
  ('remote', '0 10 * * *', $$select dblink_exec('other', 'delete from x') where current_user = 'postgres'$$);
insert into cron.job (jobname, schedule, command, active) values ('paused', '0 11 * * *', 'analyze session_logs', false);
insert into cron.job (jobname, schedule, command, database) values ('elsewhere', '0 12 * * *', 'select 1', 'another');
insert into cron.job (jobname, schedule, command, username) values ('as another', '0 13 * * *', 'select 1', 'reporting');
