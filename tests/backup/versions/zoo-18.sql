-- What came with PostgreSQL 18.
create table zoo.computed (a int, b int generated always as (a * 2) virtual, c int generated always as (a * 3) stored, d int);
insert into zoo.computed (a, d) select n, n % 5 from generate_series(1, 100) n;
create extension if not exists btree_gist with schema public;
create table zoo.bookings (room int, during tstzrange, guest text, constraint once primary key (room, during without overlaps));
create table zoo.cleanings (room int, during tstzrange, constraint while_booked foreign key (room, period during) references zoo.bookings (room, period during));
insert into zoo.bookings select n, tstzrange('2026-01-01Z', '2026-01-05Z'), 'guest ' || n from generate_series(1, 50) n;
insert into zoo.cleanings select n, tstzrange('2026-01-02Z', '2026-01-03Z') from generate_series(1, 50) n;
create table zoo.lenient (a int constraint not_enforced check (a > 0) not enforced, b int constraint named_not_null not null, c int);
insert into zoo.lenient values (-1, 1, null);
alter table zoo.lenient add constraint later not null c not valid;
create table zoo.by_time (id uuid primary key default uuidv7());
insert into zoo.by_time select from generate_series(1, 20);
