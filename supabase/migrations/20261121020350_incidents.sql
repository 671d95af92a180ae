-- What operators are told of: one incident a cause, however many alerts it has. Opened by an alert or by hand.
create table caretaker.incidents (
  id uuid primary key default gen_random_uuid(),
  environment text not null,
  -- What people call it, from 1 in each environment.
  number int not null,
  title text not null,
  -- What the status page calls it, where somebody gave it a name that says nothing internal.
  public_title text,
  -- The root cause as the dependency tree has it; null where it was opened by hand and names none.
  component text,
  -- A name in the policy's `incidents.severities`.
  severity text not null,
  state text not null default 'investigating' check (state in ('investigating', 'identified', 'monitoring', 'resolved')),
  public boolean not null default false,
  opened_at timestamptz not null,
  opened_by jsonb not null,
  acknowledged_at timestamptz,
  acknowledged_by jsonb,
  -- By when somebody has to acknowledge, and when nobody had and that was noted.
  respond_by timestamptz,
  response_missed_at timestamptz,
  -- When more people are told unless somebody acknowledges, and when they were.
  escalate_at timestamptz,
  escalated_at timestamptz,
  -- The last time that it asked for somebody, and when it does so again unless somebody acknowledges.
  last_paged_at timestamptz,
  next_reminder_at timestamptz,
  -- Since when all its alerts are clear, and when it ends if they stay so: later each time it comes back.
  clear_since timestamptz,
  resolve_at timestamptz,
  reopened int not null default 0,
  resolved_at timestamptz,
  resolved_by jsonb,
  root_cause text,
  affected text[] not null default '{}',
  -- Who was told, by channel: they are told of its end, too.
  channels text[] not null default '{}',
  -- [{ "text", "doneAt", "doneBy" }], as the policy had it when the incident was opened.
  checklist jsonb not null default '[]',
  unique (environment, number),
  check ((state = 'resolved') = (resolved_at is not null))
);
-- One open incident a cause: settles the race between an alert and a person.
create unique index incidents_open on caretaker.incidents (environment, component) where state <> 'resolved';
create index incidents_recent on caretaker.incidents (environment, component, resolved_at desc);

-- The timeline. Rows are only ever added. What is public is on the status page, if the incident is.
create table caretaker.incident_events (
  id bigint generated always as identity primary key,
  incident uuid not null references caretaker.incidents on delete cascade,
  at timestamptz not null,
  kind text not null check (kind in ('opened', 'alert_firing', 'alert_clear', 'reopened', 'severity', 'acknowledged', 'response_missed', 'escalated',
    'reminded', 'state', 'update', 'note', 'checked', 'root_cause', 'resolved')),
  actor jsonb not null,
  detail jsonb not null default '{}',
  public boolean not null default false,
  body text
);
create index incident_events_incident on caretaker.incident_events (incident, id);

-- The alerts that an incident is made of.
create table caretaker.incident_alerts (
  incident uuid not null references caretaker.incidents on delete cascade,
  alert text not null,
  rule text not null,
  component text not null,
  severity text not null,
  since timestamptz not null,
  cleared_at timestamptz,
  summary text not null,
  cause text,
  value float8,
  runbook text,
  primary key (incident, alert)
);
create index incident_alerts_firing on caretaker.incident_alerts (alert) where cleared_at is null;

alter table caretaker.incidents enable row level security;
alter table caretaker.incident_events enable row level security;
alter table caretaker.incident_alerts enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.incidents, caretaker.incident_events, caretaker.incident_alerts to service_role;
  end if;
end
$$;
