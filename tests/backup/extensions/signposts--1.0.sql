-- A table that comes with rows and takes some of its users', one that is theirs alone, and one that is nobody's to keep.
create table signposts (id int primary key, text text not null, built_in boolean not null default false, length int generated always as (length(text)) stored);
insert into signposts (id, text, built_in) values (1, 'north', true), (2, 'south', true);
create sequence signpost_numbers start 1000;
create table settings (name text primary key, value jsonb);
create table cache (id int primary key);
select pg_catalog.pg_extension_config_dump('signposts', 'where not built_in');
select pg_catalog.pg_extension_config_dump('signpost_numbers', '');
select pg_catalog.pg_extension_config_dump('settings', '');
