-- What people agreed to, and took back: only ever added to. It proves a consent after the person is erased (Art. 7(1)), so
-- it names them by a keyed hash and holds nothing else of them.
create table caretaker.consents (
  id bigint generated always as identity primary key,
  subject_hash text not null,
  purpose text not null,
  -- Of the text that was agreed to, and that text's SHA-256.
  version text not null,
  text_sha256 text not null,
  given boolean not null,
  at timestamptz not null,
  recorded_by jsonb not null,
  -- How it was expressed: the request's id, a form's name. Nothing of the person.
  proof jsonb not null
);
create index consents_current on caretaker.consents (subject_hash, purpose, id desc);

alter table caretaker.consents enable row level security;

do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant select, insert on caretaker.consents to service_role;
  end if;
end
$$;
