-- Operator keys. Only their SHA-256 is kept: a key is 256 random bits, so a slow hash would add nothing.
create table caretaker.api_keys (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  role text not null check (role in ('admin', 'developer', 'support', 'viewer')),
  hash bytea not null unique,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);
alter table caretaker.api_keys enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.api_keys to service_role;
  end if;
end
$$;
