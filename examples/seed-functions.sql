-- What every example's seed.sql is written with; local/example.ts runs this first, in the same transaction, and adds
-- pg_temp.people(), how many people there are, and pg_temp.rows(share), a share of the rows that were asked for, at least 10.
-- The same figures give the same rows, ids and all: nothing here is random. Only ages are told back from now(), so that
-- every retention rule finds work on any day.

-- A whole number below `below`, the same for the same arguments on every machine: PostgreSQL's own hash, not random().
create function pg_temp.pick(i bigint, salt int, below int) returns int language sql immutable as
$$ select ((hashint8extended(i, salt) & 9223372036854775807) % below)::int $$;

create function pg_temp.key(kind text, i bigint) returns uuid language sql immutable as $$ select md5(kind || ':' || i)::uuid $$;

-- A person's number, 1 to people(); three in ten rows belong to a tenth of them.
create function pg_temp.person(i bigint, salt int) returns int language sql immutable as
$$ select 1 + pg_temp.pick(i, salt, case when pg_temp.pick(i, salt + 1, 10) < 3 then greatest(1, pg_temp.people() / 10) else pg_temp.people() end) $$;

-- How long ago a person signed up: 30 to 1,000 days; every seventh is one of the first.
create function pg_temp.account_age(p int) returns interval language sql immutable as
$$ select make_interval(days => case when p % 7 = 1 then 940 else 30 end + pg_temp.pick(p, 7, case when p % 7 = 1 then 60 else 970 end), secs => pg_temp.pick(p, 8, 86400)) $$;

-- How long ago a row was written: since its person signed up. The first three are older than any rule asks for.
create function pg_temp.age_of(i bigint, salt int, p int) returns interval language sql immutable as
$$ select case when i <= 3 then make_interval(days => 750 + i::int, secs => pg_temp.pick(i, salt, 86400))
          else pg_temp.account_age(p) * (pg_temp.pick(i, salt, 1000000) / 1000000.0) end $$;

-- How long ago something happened that nobody keeps for long: within the last `days`.
create function pg_temp.within(i bigint, salt int, days int) returns interval language sql immutable as
$$ select make_interval(secs => pg_temp.pick(i, salt, 86400 * days)) $$;

-- Also used for the addresses in columns that no foreign key covers.
create function pg_temp.email(p int) returns text language sql immutable as
$$ select (array['ada','ben','chloe','dario','elif','femi','greta','hiro','ines','jonas','kofi','lena','mara','nils','oona','priya'])[1 + pg_temp.pick(p, 1, 16)]
   || '.' || (array['adler','baker','costa','diaz','evans','fischer','gomez','haddad','ito','jansen','keller','lopez','moreau','novak','okafor','park'])[1 + pg_temp.pick(p, 2, 16)]
   || p || '@example.com' $$;

create function pg_temp.full_name(p int) returns text language sql immutable as
$$ select initcap(replace(regexp_replace(split_part(pg_temp.email(p), '@', 1), '\d+$', ''), '.', ' ')) $$;

-- 555-01xx is set aside for stories: nobody has such a number.
create function pg_temp.phone(i bigint) returns text language sql immutable as
$$ select '+1' || 200 + pg_temp.pick(i, 3, 700) || '55501' || lpad(pg_temp.pick(i, 4, 100)::text, 2, '0') $$;

create function pg_temp.stripe_customer(p int) returns text language sql immutable as
$$ select 'cus_' || left(md5('customer:' || p), 14) $$;

-- Everybody signs up with Supabase Auth.
create function pg_temp.sign_up() returns void language sql as $$
  insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, last_sign_in_at,
    raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
  select '00000000-0000-0000-0000-000000000000', pg_temp.key('user', p), 'authenticated', 'authenticated', pg_temp.email(p), '',
    now() - pg_temp.account_age(p), now() - pg_temp.account_age(p) / 10,
    jsonb_build_object('provider', 'email', 'providers', jsonb_build_array('email'), 'stripe_customer_id', pg_temp.stripe_customer(p)),
    jsonb_build_object('name', pg_temp.full_name(p)), now() - pg_temp.account_age(p), now() - pg_temp.account_age(p) / 10
  from generate_series(1, pg_temp.people()) p;
  insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at, id)
  select id::text, id, jsonb_build_object('sub', id, 'email', email, 'email_verified', true), 'email', last_sign_in_at, created_at, created_at,
    md5('identity:' || id)::uuid
  from auth.users;
$$;

create function pg_temp.make_bucket(bucket text) returns void language sql as
$$ insert into storage.buckets (id, name, public) values (bucket, bucket, false) on conflict do nothing $$;

-- A file in Storage, of `bytes` bytes: exampleFile in local/example.ts writes its content.
create function pg_temp.store_file(bucket text, name text, owner uuid, mimetype text, bytes int) returns void language sql as $$
  insert into storage.objects (id, bucket_id, name, owner, owner_id, metadata, version)
  values (md5('object:' || $2)::uuid, $1, $2, $3, $3::text,
    jsonb_build_object('eTag', '""', 'size', $5, 'mimetype', $4, 'cacheControl', 'max-age=3600', 'contentLength', $5, 'httpStatusCode', 200),
    md5('version:' || $2)::uuid::text)
$$;
