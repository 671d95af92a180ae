-- What a fresh Supabase project holds, in small: the platform's roles own auth and storage, and the role that people
-- use is no superuser. Roles are made by the test.

create schema extensions;
create schema auth authorization supabase_auth_admin;
create schema storage authorization supabase_storage_admin;
create schema vault authorization supabase_admin;
grant usage on schema auth, storage, extensions to sb_postgres, anon, authenticated, service_role;
grant create on schema extensions to sb_postgres;
grant usage on schema public to anon, authenticated, service_role;
create extension hstore schema extensions;

set role supabase_auth_admin;
create type auth.aal_level as enum ('aal1', 'aal2');
create table auth.users (
  id uuid primary key, email varchar(255) unique, phone text, raw_user_meta_data jsonb, created_at timestamptz default now(),
  email_confirmed_at timestamptz, phone_confirmed_at timestamptz,
  confirmed_at timestamptz generated always as (least(email_confirmed_at, phone_confirmed_at)) stored
);
create table auth.identities (id uuid primary key default gen_random_uuid(), user_id uuid not null references auth.users on delete cascade, provider text not null);
create table auth.sessions (id uuid primary key, user_id uuid not null references auth.users on delete cascade, aal auth.aal_level);
create table auth.refresh_tokens (id bigserial primary key, token text, session_id uuid references auth.sessions on delete cascade);
create table auth.schema_migrations (version text primary key);
insert into auth.schema_migrations values ('20240101000000');
create function auth.uid() returns uuid language sql stable as $$ select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid $$;
alter table auth.users enable row level security;
comment on table auth.users is 'Auth: Stores user login data within a secure schema.';
grant all on all tables in schema auth to sb_postgres;
grant all on all sequences in schema auth to sb_postgres;
grant all on all functions in schema auth to sb_postgres;
reset role;

set role supabase_storage_admin;
create table storage.buckets (id text primary key, name text unique, public bool default false);
create table storage.objects (id uuid primary key default gen_random_uuid(), bucket_id text references storage.buckets, name text, owner_id text, metadata jsonb);
create table storage.migrations (id int primary key, name text);
insert into storage.migrations values (1, 'initial');
create function storage.count_objects() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger platform_trigger before insert on storage.objects for each row execute function storage.count_objects();
alter table storage.objects enable row level security;
grant all on all tables in schema storage to sb_postgres, service_role;
grant select on storage.objects to authenticated;
reset role;

create table vault.secrets (id int, secret text);
alter table vault.secrets owner to supabase_admin;
create function extensions.grant_access() returns event_trigger language plpgsql as $$ begin null; end $$;
alter function extensions.grant_access() owner to supabase_admin;
create event trigger issue_access on ddl_command_end execute function extensions.grant_access();
alter event trigger issue_access owner to supabase_admin;
create publication supabase_realtime;
alter publication supabase_realtime owner to sb_postgres;
alter default privileges for role supabase_admin in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role sb_postgres in schema public grant all on tables to anon, authenticated, service_role;
