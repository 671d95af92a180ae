-- Figures by the minute, kept for a week, and by the hour, kept for 400 days. Durations are mergeable histograms: an hour's
-- percentile is made of its minutes' buckets, never of their percentiles.
create table caretaker.metric_series (
  id bigint generated always as identity primary key,
  -- Preview deployments may share the database.
  environment text not null,
  name text not null,
  labels jsonb not null default '{}',
  kind text not null check (kind in ('counter', 'gauge', 'histogram')),
  -- Who tells it: Caretaker of itself, the app, a log drain, a query of the policy.
  source text not null check (source in ('caretaker', 'app', 'logs', 'gauge')),
  unit text,
  help text,
  -- How often a gauge is looked at, seconds: its last value holds for twice as long.
  every_s int,
  made_at timestamptz not null default now(),
  -- Sums of everything before the mark `rolled`, for readers that want what ever was (Prometheus). Null: nothing yet.
  total_count bigint,
  total_sum float8,
  total_buckets int[],
  total_counts bigint[],
  unique (environment, name, labels)
);

-- No foreign key to the series: checking it would lock the series' row at every flush of every instance.
create table caretaker.metric_points (
  series bigint not null,
  -- The minute's beginning.
  at timestamptz not null,
  -- A counter's increments, a histogram's observations, how often a gauge was looked at; and the sum of their values.
  count bigint not null,
  sum float8 not null,
  min float8 not null,
  max float8 not null,
  last float8 not null,
  -- A histogram's buckets that are not empty, and how many observations are in each. The bounds are in lib/metrics/histogram.ts.
  buckets int[],
  counts bigint[],
  primary key (series, at)
) with (fillfactor = 70);

create table caretaker.metric_hours (like caretaker.metric_points including constraints, primary key (series, at));

-- How far something is: `rolled` (hours that are in metric_hours and in the totals), `jobs` (runs whose duration is counted),
-- `app` (when the app told something last), `gauge:NAME` (when a query of the policy was asked last, and what it failed with).
create table caretaker.metric_marks (
  environment text not null,
  name text not null,
  at timestamptz not null,
  detail jsonb,
  primary key (environment, name)
);

-- Batches of the app that were counted: one that is sent again is not.
create table caretaker.metric_batches (
  environment text not null,
  id text not null,
  at timestamptz not null,
  primary key (environment, id)
);

alter table caretaker.metric_series enable row level security;
alter table caretaker.metric_points enable row level security;
alter table caretaker.metric_hours enable row level security;
alter table caretaker.metric_marks enable row level security;
alter table caretaker.metric_batches enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.metric_series, caretaker.metric_points, caretaker.metric_hours, caretaker.metric_marks, caretaker.metric_batches
      to service_role;
  end if;
end
$$;
