-- Operators who are signed in to the dashboard. Only the SHA-256 of the cookie is kept: it is 256 random bits. A session
-- belongs to an operator key or to a Supabase user, and is worth what that is worth at each request.
create table caretaker.sessions (
  id uuid primary key default gen_random_uuid(),
  hash bytea not null unique,
  key_id uuid references caretaker.api_keys (id) on delete cascade,
  user_id uuid,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  ended_at timestamptz,
  check (num_nonnulls(key_id, user_id) = 1)
);
create index sessions_expired on caretaker.sessions (expires_at);
comment on table caretaker.sessions is 'Operators signed in to the dashboard; the cookie itself is not kept.';
comment on column caretaker.sessions.user_id is 'Of auth.users, which may be another schema owner''s: no foreign key.';
alter table caretaker.sessions enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.sessions to service_role;
  end if;
end
$$;
