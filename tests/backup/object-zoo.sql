-- One of every kind of object that pg_dump carries, with rows that are hard to carry.
-- Roles are made by the test: they belong to the server, not to the database.

create schema zoo;
create schema "Odd ""Name"" \! schema";
create extension if not exists hstore with schema public;
create extension if not exists pg_trgm with schema zoo;

create type zoo.mood as enum ('sad', 'ok', 'it''s "fine"');
create type zoo.pair as (a int, b text);
create domain zoo.positive as int constraint must_be_positive check (value > 0);
create type zoo.float_range as range (subtype = float8, subtype_diff = float8mi);
create collation zoo.c_copy from "C";
create sequence zoo.lonely increment by 7 start 100 cache 5;
select nextval('zoo.lonely'), nextval('zoo.lonely');
create sequence zoo.untouched;

create function zoo.plus_one(x int) returns int language sql immutable as $$ select x + 1; $$;
create function zoo.standard_body(x int) returns int language sql immutable
  begin atomic; select case when x > 0 then x else 0 end; end;
create function zoo.tricky() returns text language plpgsql as $body$
begin
  -- a body may hold what looks like the end of one: $$ ; and psql's words:
  /*
\restrict nothing
\unrestrict nothing
*/
  return 'a;b' || $q$c;d$q$;
end $body$;
create procedure zoo.proc(inout n int) language plpgsql as $$ begin n := n * 2; end $$;
create aggregate zoo.total (int) (sfunc = int4pl, stype = int, initcond = '0');
create operator zoo.=== (leftarg = int, rightarg = int, function = int4eq, commutator = operator(zoo.===));
create cast (zoo.mood as int) with inout as assignment;

create table zoo.parents (
  id bigint generated always as identity primary key,
  code text not null unique,
  mood zoo.mood default 'ok',
  amount zoo.positive,
  pair zoo.pair,
  span zoo.float_range,
  tags hstore,
  doubled int generated always as (amount * 2) stored,
  note text collate zoo.c_copy,
  created timestamptz not null default now(),
  constraint amount_small check (amount < 1000000)
);
comment on table zoo.parents is 'It''s a "table"; with a semicolon
and a second line';
comment on column zoo.parents.code is E'tab\tand backslash \\';

create table zoo.children (
  id serial primary key,
  parent_id bigint references zoo.parents (id) on delete cascade deferrable initially deferred,
  body bytea,
  doc jsonb,
  span int4range,
  exclude using gist (span with &&)
);
create index children_doc on zoo.children using gin (doc);
create index children_partial on zoo.children (parent_id) include (id) where doc is not null;
create index parents_trgm on zoo.parents using gin (code zoo.gin_trgm_ops);
create statistics zoo.correlated (dependencies, ndistinct) on parent_id, id from zoo.children;

create table zoo.measurements (at date not null, device int not null, value float8) partition by range (at);
create table zoo.measurements_2025 partition of zoo.measurements for values from ('2025-01-01') to ('2026-01-01');
create table zoo.measurements_2026 partition of zoo.measurements for values from ('2026-01-01') to ('2027-01-01') partition by hash (device);
create table zoo.measurements_2026_0 partition of zoo.measurements_2026 for values with (modulus 2, remainder 0);
create table zoo.measurements_2026_1 partition of zoo.measurements_2026 for values with (modulus 2, remainder 1);
create table zoo.measurements_rest partition of zoo.measurements default;
create index on zoo.measurements (device);

create table zoo.base (id int, label text);
create table zoo.derived (extra int) inherits (zoo.base);
alter table zoo.base add column late text default 'late';

create table "Odd ""Name"" \! schema"."select; drop" ("a ""b"" c" int, "line
break" text, "дом" text, "\." text);
create table zoo.no_columns ();
create table zoo.only_generated (g int generated always as (1) stored);
create table zoo.dropped (a int, b int, c text);
alter table zoo.dropped drop column b;
create unlogged table zoo.unlogged (a int);
create table zoo.empty (a int);
create table zoo.like_toast (id int primary key, big text);
alter table zoo.like_toast alter column big set storage external;
create table zoo.oid_types (a regclass, b money, c interval, d float4, e float8, f numeric, g timestamptz, h tsvector, i xml, j bit varying, k inet, l uuid, m int[][], n point, o timetz);

create view zoo.happy as select id, code from zoo.parents where mood = 'ok' with check option;
create materialized view zoo.counted as select count(*) as n from zoo.parents;
create unique index on zoo.counted (n);
create materialized view zoo.never_filled as select 1 as x with no data;
create rule no_delete as on delete to zoo.empty do instead (select 1; select 2);

create function zoo.touch() returns trigger language plpgsql as $$ begin new.note := coalesce(new.note, 'touched'); return new; end $$;
create trigger touch before insert or update on zoo.parents for each row execute function zoo.touch();
create trigger disabled after insert on zoo.children for each statement execute function pg_catalog.suppress_redundant_updates_trigger();
drop trigger disabled on zoo.children;
create function zoo.on_ddl() returns event_trigger language plpgsql as $$ begin null; end $$;
create event trigger zoo_ddl on ddl_command_end execute function zoo.on_ddl();
alter event trigger zoo_ddl disable;

alter table zoo.parents enable row level security;
alter table zoo.parents force row level security;
create policy own on zoo.parents for select to zoo_reader using (code = current_user);
create policy everyone on zoo.parents as restrictive using (true) with check (amount > 0);
grant usage on schema zoo to zoo_reader;
grant select, update (note) on zoo.parents to zoo_reader with grant option;
revoke all on function zoo.plus_one(int) from public;
alter default privileges for role zoo_owner in schema zoo grant select on tables to zoo_reader;
alter table zoo.children owner to zoo_owner;
alter schema "Odd ""Name"" \! schema" owner to zoo_owner;

create text search dictionary zoo.plain (template = pg_catalog.simple, stopwords = english);
create text search configuration zoo.search (copy = pg_catalog.english);
alter text search configuration zoo.search alter mapping for asciiword with zoo.plain;
create operator class zoo.int_ops for type int using btree as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int);
create foreign data wrapper zoo_fdw;
create server zoo_server foreign data wrapper zoo_fdw options (host 'nowhere');
create user mapping for zoo_owner server zoo_server options ("user" 'x');
create foreign table zoo.far (a int) server zoo_server;
create publication zoo_pub for table zoo.parents (id, code), zoo.children where (id > 0);
create publication zoo_all for tables in schema zoo;

insert into zoo.parents (code, amount, pair, span, tags, note)
  select 'code' || n, n, row (n, E'x\ty\\z\n')::zoo.pair, zoo.float_range(n, n + 0.5), hstore('k', n::text), case when n % 3 = 0 then E'\\N' when n % 3 = 1 then '' end
  from generate_series(1, 2000) n;
insert into zoo.children (parent_id, body, doc, span)
  select n, decode(md5(n::text), 'hex'), jsonb_build_object('n', n, 'text', E'\\.'), int4range(n * 10, n * 10 + 5) from generate_series(1, 500) n;
delete from zoo.children where id % 7 = 0;
update zoo.children set doc = doc || '{"moved": true}' where id % 5 = 0;
insert into zoo.measurements select date '2024-06-01' + n, n % 10, n * 0.1 + 1e-17 from generate_series(1, 900) n;
insert into zoo.base values (1, 'base');
insert into zoo.derived (id, label, extra, late) values (2, 'derived', 3, 'x');
insert into "Odd ""Name"" \! schema"."select; drop" values (1, E'one\r\ntwo', 'привет', '\.'), (null, null, null, E'\\\\.');
insert into zoo.no_columns default values;
insert into zoo.no_columns default values;
insert into zoo.only_generated default values;
insert into zoo.dropped values (1, 'c'), (2, null);
insert into zoo.unlogged values (1);
insert into zoo.like_toast select n, repeat(md5(n::text), 3000) from generate_series(1, 60) n;
insert into zoo.like_toast select 1000 + n, 'short' from generate_series(1, 200) n;
insert into zoo.oid_types values ('zoo.parents', 12.34, '1 year -2 days 03:04:05.006', 'NaN', '-Infinity', 'NaN', 'infinity', to_tsvector('english', 'the quick brown fox'), '<a b="c"/>', '10101', '10.0.0.1/8', gen_random_uuid(), '{{1,2},{3,null}}', '(1.5,2.25)', '12:00+05:30');
insert into zoo.oid_types (e, d) values (0.1::float8 + 0.2::float8, 1.1::float4), (5e-324, 1e-45);
refresh materialized view zoo.counted;
select lo_from_bytea(424242, convert_to('hello large object', 'UTF8'));
select lo_from_bytea(424243, decode(repeat('00ff5c0a', 200000), 'hex'));
select lo_create(424244);
comment on large object 424242 is 'It''s large';
grant select on large object 424242 to zoo_reader;
