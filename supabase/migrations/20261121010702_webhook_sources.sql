-- True for an event that never arrived and was asked for (`webhooks reconcile`).
alter table caretaker.inbox add column fetched boolean not null default false;

-- What may be emptied by age. An event enters with its being done, so accepting one does not pay for it.
create index inbox_payloads on caretaker.inbox (received_at) where state in ('applied', 'ignored') and octet_length(payload) > 0;

-- What is known of each source: until when it was asked for what never arrived, and since when it is silent.
create table caretaker.webhook_sources (
  source text primary key,
  reconciled_until timestamptz,
  counted_until timestamptz,
  silent_since timestamptz
);

-- Events that arrived by hour, from which the usual rate is known.
create table caretaker.webhook_counts (
  source text not null,
  hour timestamptz not null,
  received int not null,
  primary key (source, hour)
);

alter table caretaker.webhook_sources enable row level security;
alter table caretaker.webhook_counts enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.webhook_sources, caretaker.webhook_counts to service_role;
  end if;
end
$$;
