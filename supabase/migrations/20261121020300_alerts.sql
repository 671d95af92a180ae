-- Conditions of the policy's rules, of checks and of events, as the last evaluation left them. One that is well has no row, or
-- one with the state "ok" until it is pruned: its id stays the same while an incident speaks of it.
create table caretaker.alerts (
  id uuid primary key default gen_random_uuid(),
  -- Deployments of several environments may share the database.
  environment text not null,
  rule text not null,
  -- The label set it stands for; {} for a rule that is not split.
  labels jsonb not null default '{}',
  source text not null check (source in ('rule', 'check', 'event', 'channel')),
  component text not null,
  severity text not null,
  state text not null check (state in ('ok', 'pending', 'firing')),
  -- What the step function keeps between two looks.
  step jsonb not null,
  summary text not null,
  cause text,
  value float8,
  -- Since when the condition holds, or held last.
  since timestamptz,
  fired_at timestamptz,
  resolved_at timestamptz,
  -- Events end by themselves at this time, unless their opposite comes first.
  expires_at timestamptz,
  -- Why a firing alert opened no incident: another is its cause, it is silenced, or its component is being worked on.
  withheld text check (withheld in ('inhibited', 'silenced', 'maintenance')),
  -- The component that inhibits it.
  root text,
  -- Components that suffer from it, as incidents were told last.
  affected text[] not null default '{}',
  runbook text,
  -- The rule's channels; null for those of the severity.
  notify text[],
  -- Whether incidents were told that it fires.
  announced boolean not null default false,
  evaluated_at timestamptz not null,
  unique (environment, rule, labels)
);
create index alerts_current on caretaker.alerts (environment, state) where state <> 'ok' or announced;

-- Until when alerts that match open no incident. The matchers are all to hold: [{"key": "component", "pattern": "stripe"}].
create table caretaker.silences (
  id uuid primary key default gen_random_uuid(),
  environment text not null,
  matchers jsonb not null,
  reason text not null,
  created_by jsonb not null,
  created_at timestamptz not null,
  ends_at timestamptz not null,
  -- Ended by hand, before its time.
  ended_at timestamptz
);
create index silences_ends on caretaker.silences (environment, ends_at);

-- What people are to be told, a row a channel: the outbox of alerts. Sent by the job `notify`, in order within an incident.
create table caretaker.notifications (
  id bigint generated always as identity primary key,
  environment text not null,
  -- Null for what speaks of the watcher itself.
  incident uuid,
  channel text not null,
  kind text not null check (kind in ('opened', 'reminder', 'escalation', 'reopened', 'raised', 'acknowledged', 'resolved', 'update', 'watching')),
  severity text not null,
  -- Names what is told: telling it twice is one row.
  key text not null,
  payload jsonb not null,
  state text not null default 'waiting' check (state in ('waiting', 'delivered', 'dead', 'superseded')),
  attempts int not null default 0,
  next_attempt_at timestamptz not null,
  created_at timestamptz not null,
  delivered_at timestamptz,
  -- Recipients that have it already, of a channel with several: hashes, salted with the id.
  reached text[] not null default '{}',
  -- The HTTP status of the last answer; null where none came.
  status int,
  error jsonb,
  unique (environment, channel, key)
);
create index notifications_waiting on caretaker.notifications (environment, channel, id) where state = 'waiting';
create index notifications_incident on caretaker.notifications (incident, channel, id);

-- One sender at a time for each channel, at the pace the channel takes.
create table caretaker.alert_channels (
  environment text not null,
  name text not null,
  -- The lease of the sender that is at it.
  busy_until timestamptz,
  -- Nothing is sent before: the pace, an answer's Retry-After, or patience after failures.
  next_at timestamptz,
  -- One after the other, without a success between.
  failures int not null default 0,
  failing_since timestamptz,
  delivered_at timestamptz,
  primary key (environment, name)
);

-- When the rules were evaluated last: a gap says that nobody watched.
create table caretaker.alert_evaluations (
  environment text primary key,
  at timestamptz not null
);

alter table caretaker.alerts enable row level security;
alter table caretaker.silences enable row level security;
alter table caretaker.notifications enable row level security;
alter table caretaker.alert_channels enable row level security;
alter table caretaker.alert_evaluations enable row level security;

do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.alerts, caretaker.silences, caretaker.notifications, caretaker.alert_channels, caretaker.alert_evaluations to service_role;
  end if;
end
$$;
