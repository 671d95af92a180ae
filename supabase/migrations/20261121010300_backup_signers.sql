-- Public keys that have signed backups of this database. Written by whoever makes one; read where the key itself is not, and to
-- go on believing what was signed before ENCRYPTION_KEY was changed.

create table caretaker.backup_signers (
  -- Ed25519, as the second field of a line of authorized_keys.
  public_key text primary key check (public_key ~ '^AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}$'),
  first_used_at timestamptz not null default now(),
  last_used_at timestamptz not null default now()
);

alter table caretaker.backup_signers enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.backup_signers to service_role;
  end if;
end
$$;
