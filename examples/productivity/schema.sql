-- A personal productivity app on Vercel: tasks that devices keep in step, and a language model that reads them. Times are
-- timestamptz; a person is a row of users, which extends auth.users.

create table users (
  id uuid primary key references auth.users (id) on delete cascade,
  email text not null unique,
  full_name text not null,
  timezone text not null default 'UTC',
  last_active_at timestamptz,
  created_at timestamptz not null default now()
);

create table user_preferences (
  user_id uuid primary key references users (id) on delete cascade,
  theme text not null default 'system' check (theme in ('system', 'light', 'dark')),
  settings jsonb not null default '{}',
  updated_at timestamptz not null default now()
);

create table devices (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  name text not null,
  push_token text,
  last_seen_at timestamptz not null default now()
);
create index idx_devices_user_id on devices (user_id);

-- Tasks -----------------------------------------------------------------------------------------------------------------

create table tasks (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  title text not null,
  notes text,
  priority smallint not null default 2 check (priority between 1 and 4),
  due_date date,
  completed_at timestamptz,
  -- Deleted tasks can be brought back for 90 days.
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index idx_tasks_user_id on tasks (user_id, due_date);
create index idx_tasks_deleted_at on tasks (deleted_at) where deleted_at is not null;

-- The same columns, and a primary key: a task that were archived twice would show. No foreign key: what is filed away does
-- not follow the account by itself; the policy's link does.
create table tasks_archive (
  id uuid primary key,
  user_id uuid not null,
  title text not null,
  notes text,
  priority smallint not null,
  due_date date,
  completed_at timestamptz,
  deleted_at timestamptz not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  archived_at timestamptz not null default now()
);
create index idx_tasks_archive_user_id on tasks_archive (user_id);

create table sync_log (
  id bigint generated always as identity primary key,
  user_id uuid not null references users (id) on delete cascade,
  device_id uuid references devices (id) on delete set null,
  -- Archiving a task must not take the trace of its syncing along.
  task_id uuid references tasks (id) on delete set null,
  status text not null check (status in ('ok', 'conflict', 'failed')),
  error_code text,
  synced_at timestamptz not null default now()
);
create index idx_sync_log_user_id on sync_log (user_id);
create index idx_sync_log_device_id on sync_log (device_id);
create index idx_sync_log_task_id on sync_log (task_id);
create index idx_sync_log_synced_at on sync_log (synced_at);

-- The model, and what is counted ----------------------------------------------------------------------------------------

create table ai_requests (
  id bigint generated always as identity primary key,
  user_id uuid not null references users (id) on delete cascade,
  kind text not null check (kind in ('parse', 'plan', 'summarise')),
  inference_ms int not null,
  -- Whether the person kept what the model made of their words.
  accepted boolean,
  cache_hit boolean not null default false,
  fallback boolean not null default false,
  timed_out boolean not null default false,
  created_at timestamptz not null default now()
);
create index idx_ai_requests_user_id on ai_requests (user_id);
create index idx_ai_requests_created_at on ai_requests (created_at);

create table app_sessions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete set null,
  user_agent text,
  started_at timestamptz not null default now(),
  ended_at timestamptz
);
create index idx_app_sessions_user_id on app_sessions (user_id);
create index idx_app_sessions_started_at on app_sessions (started_at);

-- The dashboard's figures, a row a day.
create table dashboard_metrics (
  day date primary key,
  active_users_daily int not null,
  active_users_weekly int not null,
  active_users_monthly int not null,
  tasks_created int not null,
  tasks_completed int not null,
  completion_rate numeric(5, 4),
  avg_session_seconds int,
  inference_time_ms int,
  parse_accuracy numeric(5, 4),
  cache_hit_rate numeric(5, 4),
  fallback_rate numeric(5, 4)
);

create materialized view task_statistics as
  select
    date_trunc('day', created_at) as day,
    priority,
    count(*) as created,
    count(completed_at) as completed,
    round(count(completed_at)::numeric / count(*), 4) as completion_rate,
    avg(completed_at - created_at) as avg_time_to_complete
  from tasks
  group by 1, 2;
-- A plain unique index: without one the view cannot be refreshed concurrently.
create unique index task_statistics_day_priority on task_statistics (day, priority);
revoke all on task_statistics from anon, authenticated;

-- Who sees what ---------------------------------------------------------------------------------------------------------

alter table users enable row level security;
alter table user_preferences enable row level security;
alter table devices enable row level security;
alter table tasks enable row level security;
alter table tasks_archive enable row level security;
alter table sync_log enable row level security;
alter table ai_requests enable row level security;
alter table app_sessions enable row level security;
alter table dashboard_metrics enable row level security;

-- (select auth.uid()) is computed once a statement; auth.uid() would be computed once a row.
create policy own_row on users for select to authenticated using (id = (select auth.uid()));
create policy change_own on users for update to authenticated using (id = (select auth.uid())) with check (id = (select auth.uid()));
create policy own_row on user_preferences for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy own_rows on devices for all to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy own_rows on tasks for all to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy own_rows on tasks_archive for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on sync_log for select to authenticated using (user_id = (select auth.uid()));
create policy add_own on sync_log for insert to authenticated with check (user_id = (select auth.uid()));
-- ai_requests, app_sessions and dashboard_metrics have no policy: the service role alone reads them.
