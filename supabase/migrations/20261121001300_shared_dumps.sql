-- A dump that several invocations take part in. Its snapshot lives in the open transactions of the participants: each
-- imports it from another and exports it again, so it lasts as long as one of them is there.

create table caretaker.dumps (
  id text primary key,
  state text not null default 'open' check (state in ('open', 'sealed', 'lost')),
  -- What is the same for every participant: snapshot, tables, parts, what is stored already.
  plan jsonb not null,
  opened_at timestamptz not null default now()
);

create table caretaker.dump_parts (
  dump_id text not null references caretaker.dumps on delete cascade,
  number int not null,
  state text not null default 'waiting' check (state in ('waiting', 'taken', 'done')),
  attempt int not null default 0,
  taken_by uuid,
  lease_until timestamptz,
  result jsonb,
  primary key (dump_id, number)
);

create table caretaker.dump_participants (
  dump_id text not null references caretaker.dumps on delete cascade,
  id uuid not null,
  -- What SET TRANSACTION SNAPSHOT takes while this participant's transaction is open.
  snapshot text not null,
  -- When its invocation ends.
  leaves_at timestamptz not null,
  heartbeat_at timestamptz not null default now(),
  primary key (dump_id, id)
);

alter table caretaker.dumps enable row level security;
alter table caretaker.dump_parts enable row level security;
alter table caretaker.dump_participants enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.dumps, caretaker.dump_parts, caretaker.dump_participants to service_role;
  end if;
end
$$;
