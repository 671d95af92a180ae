import type { Database, Queryable } from '../../../lib/platform/db.ts'

/** Repeatable numbers: a failing run can be run again by its seed. */
export function random(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Tables of every kind that changes are told apart for. */
export const schema = `
  create schema shop;
  create type shop.mood as enum ('good', 'bad]:', 'o''k');
  create domain shop.amount as numeric check (value >= 0);
  create table shop.customers (id bigint generated always as identity primary key, email text not null unique, mood shop.mood, notes text,
    flags varbit, active boolean not null default true, seen timestamptz, doc jsonb, shout text generated always as (upper(email)) stored);
  alter table shop.customers alter notes set storage external;
  create table shop.orders (id serial primary key, customer bigint references shop.customers on delete cascade, total shop.amount, tags text[],
    place point, note char(5));
  create table shop."Odd ""name"": x" ("k]:" text, "B c" int, body bytea, primary key ("k]:", "B c"));
  create table shop.whole (a int, b text, c json); alter table shop.whole replica identity full;
  create table shop.journal (at timestamptz not null default clock_timestamp(), line text);
  create table shop.events (id int not null, day date not null, what text, primary key (id, day)) partition by range (day);
  create table shop.events_a partition of shop.events for values from ('2026-01-01') to ('2026-07-01');
  create table shop.events_b partition of shop.events for values from ('2026-07-01') to ('2027-01-01');
  create table shop.places (id int primary key, rank int not null, constraint rank_once unique (rank) deferrable initially immediate);
  create table shop.audit (id bigserial primary key, what text);
  create function shop.note() returns trigger language plpgsql as $$ begin insert into shop.audit (what) values (tg_op || ' ' || coalesce(new.id, old.id)); return coalesce(new, old); end $$;
  create trigger noted after insert or update or delete on shop.orders for each row execute function shop.note();
  create materialized view shop.totals as select customer, sum(total) as total from shop.orders group by 1;
  -- Groups by a key: pg_dump makes it after the keys, and so after the one that reads it.
  create materialized view shop.by_order as select id, total, count(*) as times from shop.orders group by id;
  create view shop.spent as select count(*) as orders, sum(total) as total from shop.by_order;
  create materialized view shop.spending as select orders, total from shop.spent;
  create table shop.single (id int generated always as identity primary key);
`

const tables = [
  'shop.customers',
  'shop.orders',
  'shop."Odd ""name"": x"',
  'shop.whole',
  'shop.journal',
  'shop.events_a',
  'shop.events_b',
  'shop.places',
  'shop.audit',
  'shop.single',
]

/** One line that two databases share only when every table holds the same rows. */
export async function stateOf(db: Queryable, names: readonly string[] = tables): Promise<string> {
  const hashes = names.map((name) => `(select count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)), 0) from ${name} t)`)
  const [row] = await db.query<{ state: string }>(`select concat_ws(' ', ${hashes.join(', ')}) as state`)
  return row?.state ?? ''
}

/** One transaction of random work; a client of its own may run many of them while others do. */
export async function work(db: Database, next: (below: number) => number): Promise<void> {
  const word = () => `w${next(1_000_000)}`
  const steps = 1 + next(5)
  await db
    .transaction(async (tx) => {
      for (let step = 0; step < steps; step++) await one(tx, next, word)
      // Nothing of this may be seen again.
      if (next(12) === 0) throw new Error('rolled back on purpose')
    })
    .catch((error: unknown) => {
      // Clients get into each other's way: a conflict is rolled back, as an app would do.
      const message = error instanceof Error ? error.message : ''
      if (!/on purpose|deadlock|duplicate key|foreign key|conflicting/.test(message)) throw error
    })
}

async function one(tx: Queryable, next: (below: number) => number, word: () => string): Promise<void> {
  const big = 'x'.repeat(3_000 + next(3_000))
  switch (next(17)) {
    case 0:
    case 1:
      await tx.execute(
        `insert into shop.customers (email, mood, notes, flags, seen, doc) select $1 || n, (enum_range(null::shop.mood))[1 + n % 3], case when n % 2 = 0 then $2 || n end,
         B'1011', clock_timestamp(), jsonb_build_object('n', n, 't', $1::text, 'tab', E'a\\tb\\\\c\\n') from generate_series(1, $3::int) n`,
        [word(), big, 1 + next(6)],
      )
      return
    case 2:
      await tx.execute(`update shop.customers set active = not active where id % 7 = $1`, [next(7)])
      return
    case 3:
      await tx.execute(
        `update shop.customers set email = email || $2 where id in (select id from shop.customers order by md5(id::text || $1) limit 3)`,
        [word(), word()],
      )
      return
    case 4:
      await tx.execute(`delete from shop.customers where id in (select id from shop.customers order by md5(id::text || $1) limit 1)`, [
        word(),
      ])
      return
    case 5:
    case 6:
      await tx.execute(
        `insert into shop.orders (customer, total, tags, place, note) select id, $1::numeric / 100, array[$2, null, 'a"b,{}'], point(1, $1), 'ab' from shop.customers order by md5(id::text || $2) limit 4`,
        [next(10_000), word()],
      )
      return
    case 7:
      // Keys change, and some come back to what others had.
      await tx.execute(
        `update shop.orders set id = id + 1000000 where id in (select id from shop.orders where id < 1000000 order by md5(id::text || $1) limit 2)`,
        [word()],
      )
      return
    case 8:
      await tx.execute(`delete from shop.orders where id % 11 = $1`, [next(11)])
      return
    case 9:
      await tx.execute(`insert into shop."Odd ""name"": x" values ($1, $2, $3) on conflict do nothing`, [
        `k'${next(40)}\\`,
        next(5),
        next(3) === 0 ? null : Buffer.from(word()),
      ])
      return
    case 10:
      await tx.execute(`update shop."Odd ""name"": x" set "B c" = "B c" + 10 where "B c" = $1 and "k]:" < $2`, [next(5), `k'${next(40)}`])
      return
    case 11:
      await tx.execute(`insert into shop.whole values ($1, $2, '{"a": 1}'), ($1, $2, '{"a": 1}'), (null, null, null)`, [next(4), word()])
      return
    case 12:
      await tx.execute(`delete from shop.whole where ctid = (select ctid from shop.whole limit 1)`)
      await tx.execute(`update shop.whole set b = 'same' where a = $1`, [next(4)])
      return
    case 13:
      await tx.execute(`insert into shop.journal (line) values ($1), (null)`, [`${word()}\\N\t'x'`])
      return
    case 14:
      await tx.execute(
        `insert into shop.events select $1 + n, date '2026-01-01' + ((n * 37) % 360), 'e' from generate_series(1, 5) n on conflict do nothing`,
        [next(2_000)],
      )
      // From one partition into the other.
      await tx.execute(`update shop.events set day = '2026-12-01' where id = $1 and day < '2026-07-01'`, [next(2_000)])
      return
    case 15: {
      await tx.execute(`insert into shop.places select n, n from generate_series(1, 6) n on conflict (id) do nothing`)
      await tx.execute(`update shop.places set rank = 7 - rank`)
      await tx.execute(`insert into shop.single default values`)
      return
    }
    default:
      switch (next(12)) {
        case 0:
        case 1:
          await tx.execute('truncate shop.whole, shop.journal')
          break
        case 2:
          await tx.execute('truncate shop.orders restart identity cascade')
          break
        case 3:
          await tx.execute('truncate shop.events')
      }
      await tx.execute(`insert into shop.journal (line) values ('after')`)
  }
}

/** The database's own time, as text with microseconds. */
export async function timeOf(db: Queryable): Promise<string> {
  const [row] = await db.query<{ at: string }>(
    `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`,
  )
  return row?.at ?? ''
}
