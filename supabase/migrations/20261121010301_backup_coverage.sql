-- What a loss of the database would cost, as of the last backup, increment or drill: so that it can be shown without asking the store.

create table caretaker.backup_coverage (
  only_row boolean primary key default true check (only_row),
  -- The newest moment that backups and increments bring back.
  covered_until timestamptz not null,
  -- How long until the database would be open again, as the last proven drill took in proportion; null before there was one.
  open_again_ms bigint,
  drilled_at timestamptz,
  noted_at timestamptz not null default now()
);

alter table caretaker.backup_coverage enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.backup_coverage to service_role;
  end if;
end
$$;
