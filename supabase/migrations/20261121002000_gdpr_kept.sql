-- Rows of an erased person that are kept on a legal basis. The reference to the person is gone from the row itself, so
-- this is what tells which rows must go when their time ends. `row_key` is the row's own primary key.
create table caretaker.gdpr_kept (
  id bigint generated always as identity primary key,
  request_id uuid not null references caretaker.gdpr_requests (id) on delete cascade,
  table_name text not null,
  row_key jsonb not null,
  basis text not null,
  until timestamptz not null,
  erased_at timestamptz,
  unique (table_name, row_key)
);
create index gdpr_kept_due on caretaker.gdpr_kept (until) where erased_at is null;

alter table caretaker.gdpr_kept enable row level security;

do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.gdpr_kept to service_role;
  end if;
end
$$;
