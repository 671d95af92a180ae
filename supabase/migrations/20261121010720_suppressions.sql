-- Who is not to be written to, by whom, and why: the ledger that outgoing messages ask (lib/platform/suppressions.ts).
-- Rows are only ever added; the newest of an address and scope says how things stand. The address is a keyed hash, and
-- stays when the person is erased: forgetting a STOP would write to them again.
create table caretaker.suppressions (
  id bigint generated always as identity primary key,
  channel text not null check (channel in ('sms', 'email')),
  address_tag bytea not null,
  -- The sender it is about (a number, a group of unsubscribes); '' for everybody.
  scope text not null default '',
  action text not null check (action in ('suppress', 'allow')),
  reason text not null,
  at timestamptz not null,
  -- What said so.
  source text not null,
  event_id text not null,
  unique (channel, address_tag, scope, source, event_id)
);
create index suppressions_current on caretaker.suppressions (channel, address_tag, scope, at desc, id desc);
alter table caretaker.suppressions enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.suppressions to service_role;
  end if;
end
$$;
