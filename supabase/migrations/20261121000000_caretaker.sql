-- Caretaker's own tables. RLS is on and there is no policy for anon or authenticated: only the service role and the
-- owner reach them. Every state change is a conditional update, made in one transaction with its audit row.

create schema if not exists caretaker;

-- The ledger of jobs. A firing is a claim on (job, slot); the unique constraint settles races between hosts.
create table caretaker.runs (
  id uuid primary key default gen_random_uuid(),
  job text not null,
  slot timestamptz not null,
  kind text not null default 'planned' check (kind in ('planned', 'caught-up', 'manual')),
  state text not null default 'queued' check (state in ('queued', 'dispatched', 'running', 'done', 'failed', 'skipped')),
  -- Grows by one with every taking: a worker that lost its lease finds another number here and stops.
  attempt int not null default 0,
  -- Grows by one with every dispatch to the queue; names the queue's job, so that dispatching twice is one job.
  dispatch int not null default 0,
  params jsonb not null default '{}',
  checkpoint jsonb,
  result jsonb,
  error jsonb,
  actor jsonb not null,
  queued_at timestamptz not null default now(),
  started_at timestamptz,
  heartbeat_at timestamptz,
  finished_at timestamptz,
  unique (job, slot)
);
create index runs_open on caretaker.runs (state) where state in ('queued', 'dispatched', 'running');
create index runs_recent on caretaker.runs (job, slot desc);

-- Since when a job is watched: slots before were nobody's to claim.
create table caretaker.watched_jobs (
  job text primary key,
  schedule text not null,
  since timestamptz not null,
  seen_slot timestamptz
);

-- Who did what. Each row's hash covers the row before, so that a change or a removal shows.
create table caretaker.audit (
  seq bigint primary key,
  at timestamptz not null,
  actor jsonb not null,
  action text not null,
  target text not null,
  detail jsonb not null default '{}',
  previous_hash bytea not null,
  hash bytea not null
);

-- What happened that somebody may want to hear of. Notifications are made from here, never inside a transaction.
create table caretaker.outbox (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  topic text not null,
  payload jsonb not null,
  delivered_at timestamptz
);
create index outbox_waiting on caretaker.outbox (id) where delivered_at is null;

-- Sliding-window counters, where no Redis is configured.
create unlogged table caretaker.rate_limits (
  key text not null,
  window_start timestamptz not null,
  hits int not null,
  primary key (key, window_start)
);

-- Webhook events as they came, verified. The payload is encrypted with the field key.
create table caretaker.inbox (
  id bigint generated always as identity primary key,
  source text not null,
  event_id text not null,
  type text not null,
  occurred_at timestamptz,
  received_at timestamptz not null default now(),
  payload bytea not null,
  state text not null default 'received' check (state in ('received', 'applied', 'ignored', 'dead')),
  attempts int not null default 0,
  next_attempt_at timestamptz not null default now(),
  applied_at timestamptz,
  error jsonb,
  unique (source, event_id)
);
create index inbox_waiting on caretaker.inbox (next_attempt_at) where state = 'received';

-- Requests of data subjects. `subject` is emptied when the request ends; the keyed hash stays.
create table caretaker.gdpr_requests (
  id uuid primary key default gen_random_uuid(),
  kind text not null check (kind in ('export', 'erase', 'rectify', 'consent')),
  state text not null default 'received' check (state in ('received', 'verified', 'in_progress', 'waiting', 'done', 'refused')),
  subject text,
  subject_hash text not null,
  requested_by jsonb not null,
  received_at timestamptz not null default now(),
  due_at timestamptz not null,
  finished_at timestamptz,
  checkpoint jsonb,
  receipt jsonb,
  reason text
);
-- Duplicates join the running request.
create unique index gdpr_requests_open on caretaker.gdpr_requests (subject_hash, kind)
  where state in ('received', 'verified', 'in_progress', 'waiting');
create index gdpr_requests_subject on caretaker.gdpr_requests (subject_hash);

-- The last health report, so that /health cannot be used to hammer what it checks.
create table caretaker.health_snapshots (
  scope text primary key,
  report jsonb not null,
  taken_at timestamptz not null,
  lease_until timestamptz
);

do $$
declare
  t text;
begin
  for t in select tablename from pg_tables where schemaname = 'caretaker' loop
    execute format('alter table caretaker.%I enable row level security', t);
  end loop;
  -- Supabase's roles are absent on a plain PostgreSQL.
  if exists (select from pg_roles where rolname = 'service_role') then
    grant usage on schema caretaker to service_role;
    grant all on all tables in schema caretaker to service_role;
  end if;
end
$$;
