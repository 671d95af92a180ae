-- The shape of pg_cron's own schema: its table with row security, and its functions with the rights that they have.
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
create unique index jobname_username on cron.job (jobname, username);
alter table cron.job enable row level security;
create policy own_jobs on cron.job using (username = current_user);
grant usage on schema cron to public;
grant select on cron.job to public;
select pg_catalog.pg_extension_config_dump('cron.job', '');
select pg_catalog.pg_extension_config_dump('cron.jobid_seq', '');

-- What the scheduler in shared memory would have been told.
create table cron.heard (jobid bigint, what text);

create function cron.schedule_in_database(job_name text, schedule text, command text, database text, username text default null, active boolean default true)
returns bigint language plpgsql security definer set search_path = pg_catalog as $$
#variable_conflict use_column
declare made bigint;
begin
  if schedule_in_database.username is not null and schedule_in_database.username <> session_user
    and not (select rolsuper from pg_roles where rolname = session_user) then
    raise insufficient_privilege using message = 'must be superuser to create a job for another role';
  end if;
  if schedule_in_database.schedule !~ '^(\S+ ){4}\S+$' then raise invalid_parameter_value using message = 'invalid schedule: ' || schedule_in_database.schedule; end if;
  insert into cron.job (schedule, command, database, username, active, jobname)
    values (schedule_in_database.schedule, schedule_in_database.command, schedule_in_database.database, coalesce(schedule_in_database.username, session_user), schedule_in_database.active, job_name)
  on conflict (jobname, username) do update set schedule = excluded.schedule, command = excluded.command returning jobid into made;
  insert into cron.heard values (made, 'scheduled');
  return made;
end $$;
revoke all on function cron.schedule_in_database(text, text, text, text, text, boolean) from public;

create function cron.schedule(job_name text, schedule text, command text) returns bigint language sql security definer
  as $$ select cron.schedule_in_database(job_name, schedule, command, current_database()::text) $$;
create function cron.schedule(schedule text, command text) returns bigint language sql security definer
  as $$ select cron.schedule_in_database(null, schedule, command, current_database()::text) $$;

create function cron.alter_job(job_id bigint, schedule text default null, command text default null, database text default null, username text default null, active boolean default null)
returns void language plpgsql security definer set search_path = pg_catalog as $$
#variable_conflict use_column
begin
  if alter_job.username is not null and not (select rolsuper from pg_roles where rolname = session_user) then
    raise insufficient_privilege using message = 'must be superuser to alter username';
  end if;
  update cron.job j set schedule = coalesce(alter_job.schedule, j.schedule), command = coalesce(alter_job.command, j.command),
    database = coalesce(alter_job.database, j.database), username = coalesce(alter_job.username, j.username), active = coalesce(alter_job.active, j.active)
    where jobid = job_id;
  insert into cron.heard values (job_id, 'altered');
end $$;
revoke all on function cron.alter_job(bigint, text, text, text, text, boolean) from public;
