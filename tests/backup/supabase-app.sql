-- An app in such a project, made by the role that people use.

create table public.profiles (id uuid primary key references auth.users on delete cascade, nickname text, settings extensions.hstore);
alter table public.profiles enable row level security;
create policy own_profile on public.profiles for all to authenticated using (auth.uid() = id);
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin insert into public.profiles (id, nickname) values (new.id, new.raw_user_meta_data ->> 'name'); return new; end $$;
create trigger on_auth_user_created after insert on auth.users for each row execute function public.handle_new_user();
create policy own_files on storage.objects for select to authenticated using (owner_id = auth.uid()::text);
create view public.members with (security_invoker = true) as select p.id, p.nickname from public.profiles p;
alter publication supabase_realtime add table public.profiles;
create schema private;
create table private.notes (id bigint generated always as identity primary key, user_id uuid references auth.users, body text);

insert into auth.users (id, email, raw_user_meta_data, email_confirmed_at)
  select md5(n::text)::uuid, 'user' || n || '@example.com', jsonb_build_object('name', 'User ' || n), now() from generate_series(1, 300) n;
insert into auth.identities (user_id, provider) select id, 'email' from auth.users;
insert into auth.sessions select gen_random_uuid(), id, 'aal1' from auth.users limit 20;
insert into auth.refresh_tokens (token, session_id) select 'secret', id from auth.sessions;
insert into storage.buckets (id, name) values ('avatars', 'avatars');
insert into storage.objects (bucket_id, name, owner_id, metadata) select 'avatars', id || '.png', id::text, '{"mimetype": "image/png"}' from auth.users limit 50;
insert into private.notes (user_id, body) select id, 'note of ' || email from auth.users;
