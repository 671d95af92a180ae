-- What the health job has seen. `check_name` is the check's canonical name (hyphens, lower case); the empty name stands for
-- the app as a whole, which is down while a critical check is. Status: up; down; maintenance, which is down while that was
-- announced; unknown, because nobody looked or nothing is configured. Environments that share the database have rows of their own.

-- How things stand: one row a check. Every other table follows from how this one changes.
create table caretaker.health_states (
  environment text not null,
  check_name text not null,
  status text not null check (status in ('up', 'down', 'maintenance', 'unknown')),
  -- A code of the fixed vocabulary in docs/health.md.
  cause text,
  -- Since when it has this status.
  since timestamptz not null,
  looked_at timestamptz not null,
  -- Who comes later than this knows nothing of the time between.
  valid_until timestamptz not null,
  duration_ms float8,
  primary key (environment, check_name)
);

-- Every look, for two days: what response times of a day are computed from.
create table caretaker.health_samples (
  environment text not null,
  check_name text not null,
  at timestamptz not null,
  status text not null,
  cause text,
  duration_ms float8,
  primary key (environment, check_name, at)
);
create index health_samples_at on caretaker.health_samples (at);

-- Only where the status changed, for two years. Time that nobody looked at begins with a row of its own, `unknown`.
create table caretaker.health_changes (
  environment text not null,
  check_name text not null,
  at timestamptz not null,
  status text not null,
  cause text,
  primary key (environment, check_name, at)
);
create index health_changes_at on caretaker.health_changes (environment, at);

-- Each day (UTC), for two years: computed from the changes and the looks, as often as anybody likes.
create table caretaker.health_days (
  environment text not null,
  check_name text not null,
  day date not null,
  -- Seconds; what is missing to a whole day is before the first look or still to come.
  up_s float8 not null,
  down_s float8 not null,
  maintenance_s float8 not null,
  unknown_s float8 not null,
  looks int not null,
  -- Of the looks that found it up, milliseconds, exact.
  p50_ms real,
  p95_ms real,
  rolled_at timestamptz not null,
  primary key (environment, check_name, day)
);

-- Maintenance announced by hand; what recurs is in the policy.
create table caretaker.maintenance_windows (
  id uuid primary key default gen_random_uuid(),
  environment text not null,
  title text not null,
  body text,
  -- Canonical names of checks; null: everything.
  components text[],
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  created_at timestamptz not null default now(),
  created_by jsonb not null,
  -- Called off before it began.
  cancelled_at timestamptz,
  check (starts_at <= ends_at)
);
create index maintenance_windows_ends on caretaker.maintenance_windows (environment, ends_at);

alter table caretaker.health_states enable row level security;
alter table caretaker.health_samples enable row level security;
alter table caretaker.health_changes enable row level security;
alter table caretaker.health_days enable row level security;
alter table caretaker.maintenance_windows enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.health_states, caretaker.health_samples, caretaker.health_changes, caretaker.health_days,
      caretaker.maintenance_windows to service_role;
  end if;
end
$$;
