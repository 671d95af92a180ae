import type { Database } from '../../lib/platform/db.ts'

/** A schema with one of everything that makes a subject map hard, and three people: 1 (ada), 2 (bob), 3 (cy). */
export const shopSchema = `
  create schema crm;
  create table countries (code text primary key, name text);
  create table users (
    id int primary key, email text, country text references countries, referred_by int references users, favourite int
  );
  create table profiles (user_id int primary key references users on delete cascade, mentor int references profiles (user_id), bio text);
  create table teams (id int primary key, owner_id int not null references users, name text);
  create table members (team_id int not null references teams on delete cascade, user_id int not null references users, primary key (team_id, user_id));
  create table posts (id int primary key, author_id int references users on delete set null, pinned int, body text);
  create table comments (id int primary key, post_id int not null references posts on delete restrict, author_id int not null references users, parent_id int references comments, body text);
  alter table posts add foreign key (pinned) references comments;
  alter table users add foreign key (favourite) references posts;
  create table messages (id int primary key, sender_id int references users, recipient_id int references users, body text);
  create table crm.orders (tenant int, no int, user_id int not null references public.users on delete restrict, primary key (tenant, no));
  create table crm.items (id serial primary key, tenant int not null, no int not null, what text, foreign key (tenant, no) references crm.orders);
  create table crm.returns (item_id int references crm.items on delete set null, reason text);
  create table payments (id int primary key, user_id int references users on delete cascade, amount numeric(20, 4), card_name text);
  create table newsletter (address text, since timestamptz default '2026-01-01');
  create table chain_a (id int primary key, user_id int references users, b_id int);
  create table chain_b (id int primary key, a_id int not null references chain_a);
  alter table chain_a add foreign key (b_id) references chain_b;
  create table loose (user_id int references users, note text);
  create table events (id bigint generated always as identity, user_id int references users, at date not null, primary key (id, at)) partition by range (at);
  create table events_1 partition of events for values from ('2026-01-01') to ('2026-02-01');
  create table events_2 partition of events for values from ('2026-02-01') to ('2026-03-01');
  create table bystanders (id int primary key, note text);
`

const rows = `
  insert into countries values ('de', 'Germany'), ('fr', 'France');
  insert into users values (1, 'Ada@Example.org', 'de', null), (2, 'bob@example.org', 'fr', 1), (3, 'cy@example.org', 'de', 2);
  insert into profiles values (1, null, 'I am Ada'), (2, 1, 'I am Bob'), (3, 2, 'I am Cy');
  insert into teams values (10, 1, 'Ada''s'), (20, 2, 'Bob''s');
  insert into members values (10, 1), (10, 2), (20, 1), (20, 2), (20, 3);
  insert into posts values (100, 1, null, 'a "post", with
newline and \\ backslash'), (200, 2, null, 'bob''s');
  insert into comments values (1000, 200, 1, null, 'ada on bob''s'), (1001, 200, 2, 1000, 'bob replies'), (1002, 100, 2, null, 'bob on ada''s'), (1003, 200, 3, null, 'cy'), (1004, 200, 1, 1003, 'ada replies to cy');
  update posts set pinned = 1002 where id = 100;
  update posts set pinned = 1000 where id = 200;
  update users set favourite = 100;
  insert into messages values (1, 1, 2, 'hi bob'), (2, 2, 1, 'hi ada'), (3, 2, 3, 'hi cy'), (4, 1, 1, 'note to self');
  insert into crm.orders values (1, 1, 1), (1, 2, 2), (2, 1, 2);
  insert into crm.items (tenant, no, what) values (1, 1, 'lamp'), (1, 1, 'pen'), (1, 2, 'cup'), (2, 1, 'hat');
  insert into crm.returns values (1, 'broken'), (3, 'ugly'), (null, 'lost');
  insert into payments values (1, 1, 12345678901234.5678, 'ADA L'), (2, 2, 3, 'BOB');
  insert into newsletter values ('ada@example.org'), ('bob@example.org');
  insert into chain_a values (1, 1), (2, null), (3, 2);
  insert into chain_b values (1, 1), (2, 2), (3, 3);
  update chain_a set b_id = 1 where id in (1, 2);
  insert into chain_b values (4, 2);
  update chain_a set b_id = 3 where id = 3;
  insert into loose values (1, 'x'), (1, 'x'), (2, 'y'), (null, 'z');
  insert into events (user_id, at) values (1, '2026-01-05'), (1, '2026-02-05'), (2, '2026-01-06'), (2, '2026-02-06');
  insert into bystanders values (1, 'n');
`

export async function makeShop(db: Database): Promise<void> {
  await db.execute(shopSchema)
  await db.execute(rows)
}

/** Every table's rows as sorted text, by `schema.table`: two of them equal means nothing changed. */
export async function tableContents(db: Database): Promise<Record<string, string[]>> {
  const tables = await db.query<{ name: string }>(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables
     where schemaname not in ('pg_catalog', 'information_schema', 'caretaker', 'supabase_migrations') order by 1`,
  )
  const contents: Record<string, string[]> = {}
  for (const { name } of tables) {
    const found = await db.query<{ row: string }>(`select t::text as row from only ${name} t order by 1`)
    if (found.length > 0) contents[name] = found.map(({ row }) => row)
  }
  return contents
}
