-- Where a rule stopped that did not come to the end of its table: at its budget, or because others needed the table. The next
-- run goes on from there. Named by a digest of the rule: a changed rule begins anew.
create table caretaker.retention_positions (
  digest text primary key,
  rule text not null,
  position jsonb not null,
  reason text not null,
  updated_at timestamptz not null default now()
);
alter table caretaker.retention_positions enable row level security;

-- Partitions on their way out: written down before DETACH CONCURRENTLY, which no transaction can hold together with the DROP.
-- What a kill leaves between the two is found here, and dropped or, where the rule has changed its mind, attached again.
create table caretaker.detached_partitions (
  relation oid primary key,
  name text not null,
  parent text not null,
  root text not null,
  rule text not null,
  bound text not null,
  upper text not null,
  since timestamptz not null default now()
);
alter table caretaker.detached_partitions enable row level security;
