import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openDatabase } from '../../../lib/platform/db.ts'
import { useTestDatabase } from '../../support/database.ts'
import { retentionRig } from './rig.ts'

describe('retention with children', () => {
  const test = useTestDatabase()
  const { policy, counts, count, plan, run, sql } = retentionRig(test)
  const old = { table: 'orders', column: 'placed_at', olderThan: '7 years' } as const

  beforeEach(async () => {
    await test.db.execute('create schema if not exists public')
    await sql(
      'create table orders (id bigint primary key, placed_at timestamptz not null, total numeric)',
      'create table order_items (id bigint primary key, order_id bigint not null references orders on delete restrict, product text)',
      'create index on order_items (order_id)',
      'create table item_notes (id bigint primary key, item_id bigint references order_items, note text)',
      'create index on item_notes (item_id)',
      `insert into orders select n, now() - case when n <= 40 then interval '8 years' else interval '1 year' end, n from generate_series(1, 100) n`,
      `insert into order_items select n, (n - 1) / 3 + 1, 'p' || n from generate_series(1, 300) n`,
      `insert into item_notes select n, n, 'note' from generate_series(1, 300, 2) n`,
      'analyze',
    )
  })
  afterEach(() => test.db.execute('drop schema public cascade'))

  it('purges parents, children and grandchildren in one transaction, whatever their order in the policy', async () => {
    const ctx = policy({
      ...old,
      action: 'purge',
      children: [{ table: 'item_notes', through: 'order_items' }, { table: 'order_items' }],
    })
    const lines = await plan(ctx)
    expect(lines.map(({ action, count: rows, warnings }) => [action, rows, warnings ?? []])).toEqual([
      ['purge orders', 40, []],
      ['purge order_items with orders', 120, []],
      ['purge item_notes with orders', 60, []],
    ])
    expect(await counts(ctx)).toMatchObject({ 'purge orders': { rows: 40, childRows: 180 } })
    expect([await count('orders'), await count('order_items'), await count('item_notes')]).toEqual([60, 180, 90])
  })

  it('archives families together, with foreign keys between the archives too', async () => {
    await sql(
      'create table orders_archive (id bigint primary key, placed_at timestamptz, total numeric, archived_at timestamptz not null default now())',
      'create table items_archive (id bigint primary key, order_id bigint not null references orders_archive, product text)',
      'create table notes_archive (id bigint primary key, item_id bigint not null references items_archive, note text)',
    )
    const ctx = policy({
      ...old,
      action: { archiveTo: 'orders_archive' },
      children: [
        { table: 'order_items', action: { archiveTo: 'items_archive' } },
        { table: 'item_notes', through: 'order_items', action: { archiveTo: 'notes_archive' } },
      ],
    })
    expect((await plan(ctx)).map(({ count: rows }) => rows)).toEqual([40, 120, 60])
    expect(await counts(ctx)).toMatchObject({ 'archive orders': { rows: 40, childRows: 180 } })
    expect([await count('orders_archive'), await count('items_archive'), await count('notes_archive')]).toEqual([40, 120, 60])
    expect([await count('orders'), await count('order_items'), await count('item_notes')]).toEqual([60, 180, 90])
  })

  it('archives the parents and deletes what need not be kept', async () => {
    await sql('create table orders_archive (id bigint, placed_at timestamptz, total numeric)')
    const ctx = policy({
      ...old,
      action: { archiveTo: 'orders_archive' },
      children: [
        { table: 'order_items', action: 'purge' },
        { table: 'item_notes', through: 'order_items', action: 'purge' },
      ],
    })
    expect(await counts(ctx)).toMatchObject({ 'archive orders': { rows: 40, childRows: 180 } })
    expect(await count('orders_archive')).toBe(40)
  })

  it('moves nothing of a batch when an archive drops a child', async () => {
    await sql(
      'create table orders_archive (id bigint, placed_at timestamptz, total numeric)',
      'create table items_archive (id bigint, order_id bigint, product text)',
      `create function drop_row() returns trigger language plpgsql as $$ begin if new.id = 7 then return null; end if; return new; end $$`,
      'create trigger drop_row before insert on items_archive for each row execute function drop_row()',
      'delete from item_notes',
    )
    const ctx = policy({
      ...old,
      action: { archiveTo: 'orders_archive' },
      children: [{ table: 'order_items', action: { archiveTo: 'items_archive' } }],
    })
    await expect(run(ctx)).rejects.toThrow('120 rows left order_items but 119 arrived')
    expect([await count('orders'), await count('order_items'), await count('orders_archive'), await count('items_archive')]).toEqual([
      100, 300, 0, 0,
    ])
  })

  it('follows soft links of a column, and keys of several columns', async () => {
    await sql(
      'create table sessions (tenant int, id int, at timestamptz not null, primary key (tenant, id))',
      'create table clicks (tenant int, session int, foreign key (tenant, session) references sessions)',
      'create index on clicks (session, tenant)',
      'create table mails (session_order bigint, text text)',
      `insert into sessions select n % 2, n, now() - interval '2 years' from generate_series(1, 10) n`,
      `insert into clicks select n % 2, n from generate_series(1, 10) n, generate_series(1, 3)`,
      `insert into mails select n, 'x' from generate_series(1, 50) n`,
    )
    const ctx = policy(
      { table: 'sessions', column: 'at', olderThan: '1 year', action: 'purge', children: [{ table: 'clicks' }] },
      {
        ...old,
        action: 'purge',
        children: [{ table: 'mails', column: 'session_order' }, { table: 'order_items' }, { table: 'item_notes', through: 'order_items' }],
      },
    )
    const planned = await plan(ctx)
    expect(planned.map(({ count: rows }) => rows)).toEqual([10, 30, 40, 40, 120, 60])
    expect(planned[2]?.warnings).toEqual([
      'mails (about 0 rows) is found without an index: every batch scans it. create index concurrently on "public"."mails" ("session_order")',
    ])
    expect(await counts(ctx)).toMatchObject({ 'purge sessions': { rows: 10, childRows: 30 }, 'purge orders': { rows: 40, childRows: 220 } })
    expect(await count('mails')).toBe(10)
  })

  it('leaves a family whose child another session holds, and takes the others', async () => {
    const ctx = policy({
      ...old,
      action: 'purge',
      children: [{ table: 'order_items' }, { table: 'item_notes', through: 'order_items' }],
    })
    const other = openDatabase({ sessionUrl: test.url, maxConnections: 1 })
    try {
      await other.transaction(async (tx) => {
        await tx.execute(`update order_items set product = 'held' where id = 50`)
        await tx.execute(`select from orders where id = 3 for key share`)
        expect(await counts(ctx)).toMatchObject({ 'purge orders': { rows: 38, childRows: 170 } })
      })
    } finally {
      await other.close()
    }
    expect(await test.db.query('select id::int from orders where id <= 40 order by id')).toEqual([{ id: 3 }, { id: 17 }])
    expect(await count('order_items where order_id in (3, 17)')).toBe(6)
    expect(await counts(ctx)).toMatchObject({ 'purge orders': { rows: 2, childRows: 10 } })
  })

  it('takes rows by a condition on their parent, without a rule for it', async () => {
    const ctx = policy({
      table: 'order_items',
      where: `exists (select from orders o where o.id = order_items.order_id and o.placed_at < now() - interval '7 years' and o.total > 20)`,
      action: 'purge',
    })
    await sql('delete from item_notes')
    expect((await plan(ctx)).map(({ count: rows }) => rows)).toEqual([60])
    expect(await counts(ctx)).toMatchObject({ 'purge order_items': { rows: 60 } })
    expect(await count('order_items')).toBe(240)
  })

  it('names the volumes of cascades at every depth, and of lost references', async () => {
    await sql(
      'create table parcels (id int primary key, order_id bigint references orders on delete cascade)',
      'create index on parcels (order_id)',
      'create table scans (id int primary key, parcel int references parcels on delete cascade)',
      'create index on scans (parcel)',
      'create table reviews (id int primary key, order_id bigint references orders on delete set null)',
      'create index on reviews (order_id)',
      'insert into parcels select n, n from generate_series(1, 50) n',
      'insert into scans select n, n % 50 + 1 from generate_series(1, 100) n',
      'insert into reviews select n, n * 10 from generate_series(1, 10) n',
    )
    const ctx = policy({ ...old, action: 'purge', children: [{ table: 'order_items' }, { table: 'item_notes', through: 'order_items' }] })
    expect((await plan(ctx))[0]?.warnings).toEqual([
      'rows of parcels that refer to it (parcels_order_id_fkey; 40 now) are deleted as well, beside the count',
      'rows of reviews that refer to it (reviews_order_id_fkey; 4 now) lose the reference',
      'rows of scans that refer to it (scans_parcel_fkey; 80 now) are deleted as well, beside the count',
    ])
    await counts(ctx)
    expect([await count('parcels'), await count('scans'), await count('reviews where order_id is null')]).toEqual([10, 20, 4])
  })

  it.each([
    [[{ table: 'order_item' }], 'children.0.table', 'did you mean "order_items"?'],
    [[{ table: 'orders' }], 'children.0.table', 'would hang from itself'],
    [[{ table: 'order_items', column: 'orderid' }], 'children.0.column', 'did you mean "order_id"?'],
    [[{ table: 'item_notes' }], 'children.0.column', 'item_notes has no foreign key to orders'],
    [[{ table: 'item_notes', column: 'note' }], 'children.0.column', 'which cannot be compared with orders.id (bigint)'],
    [[{ table: 'item_notes', column: 'item_id', references: 'total' }], 'children.0.references', 'not unique in orders'],
    [[{ table: 'item_notes', through: 'items' }], 'children.0.through', 'expected the table of another child'],
  ])('refuses the children %j', async (children, path, message) => {
    const error = await run(policy({ ...old, action: 'purge', children })).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({
      code: 'policy_invalid',
      issues: [{ path: `retention.0.${path}`, message: expect.stringContaining(message) }],
    })
  })

  it('has an archiving rule say what becomes of each child', async () => {
    await sql('create table orders_archive (like orders)')
    const error = await run(policy({ ...old, action: { archiveTo: 'orders_archive' }, children: [{ table: 'order_items' }] })).catch(
      (thrown: unknown) => thrown,
    )
    expect(error).toMatchObject({ code: 'policy_invalid', issues: [{ path: 'retention.0.children.0.action' }] })
  })
})
