-- What the database report found, kept by jobs: the rows of one slot belong together.
create table caretaker.database_findings (
  slot timestamptz not null,
  section text not null,
  -- The worst first.
  position int not null,
  -- A table, an index, a statement without its values, a session.
  object text not null,
  figures jsonb not null,
  -- What to do about it; null where nothing is.
  advice text,
  primary key (slot, section, position)
);
create index database_findings_object on caretaker.database_findings (section, object, slot);

alter table caretaker.database_findings enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.database_findings to service_role;
  end if;
end
$$;
