import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openDatabase } from '../../../lib/platform/db.ts'
import { useTestDatabase } from '../../support/database.ts'
import { countsOf } from '../job-run.ts'
import { createFamilies, familyRules, startFamilies } from './families.ts'
import { retentionRig } from './rig.ts'
import { createTrafficTables, startTraffic, trafficRules } from './traffic.ts'

describe('retention rules', () => {
  const test = useTestDatabase()
  const { policy, run, count, job, plan } = retentionRig(test)

  beforeEach(() => test.db.execute('create schema if not exists public'))
  afterEach(() => test.db.execute('drop schema public cascade'))

  it('moves, deletes and masks each row once, families whole, while they are written, by two runs at once', async () => {
    await createTrafficTables(test.db, 6_000)
    await createFamilies(test.db, 2_000)
    const traffic = openDatabase({ sessionUrl: test.url, maxConnections: 6 })
    try {
      const writing = startTraffic(traffic, { rows: 6_000, writers: 3, seed: 7 })
      const breeding = startFamilies(traffic, { families: 2_000, writers: 3, seed: 7 })
      const ctx = policy(...trafficRules, ...familyRules)
      for (let round = 0; round < 3; round++) await Promise.all([run(ctx), run(ctx)])
      expect(await writing.stop()).toBeGreaterThan(50)
      expect(await breeding.stop()).toBeGreaterThan(50)
      await run(ctx)
      expect(await writing.differences()).toEqual([])
      expect(await breeding.differences()).toEqual([])
      for (const left of [
        `archived where at < now() - interval '31 days'`,
        `purged where at < now() - interval '31 days'`,
        `parted where at < now() - interval '31 days'`,
        `parents where at < now() - interval '31 days'`,
        `masked where at < now() - interval '31 days' and masked is not true`,
      ])
        expect([left, await count(left)]).toEqual([left, 0])
    } finally {
      await traffic.close()
    }
  })

  it('hands over before the deadline and goes on with the same cut-off', async () => {
    await test.db.execute('create table logs (id bigint primary key, at timestamptz not null)')
    await test.db.execute(`insert into logs select n, now() - interval '40 days' from generate_series(1, 20000) n`)
    const ctx = policy({ table: 'logs', column: 'at', olderThan: '30 days', action: 'purge' })
    const name = job()
    let asked = 0
    expect(await run(ctx, { shouldHandOver: () => ++asked > 3 }, name)).toEqual({ status: 'hand-over' })
    const [saved] = await test.db.query<{ cutoff: string; rows: number }>(
      `select checkpoint->'current'->'inner'->>'cutoff' as cutoff, (checkpoint->'current'->'counts'->>'rows')::int as rows from caretaker.runs where job = $1`,
      [name],
    )
    expect(saved?.rows).toBeGreaterThan(0)
    expect(await count('logs')).toBe(20_000 - (saved?.rows ?? 0))
    // Becomes too old between the two takings by a cut-off computed anew, not by the one that was stored.
    await test.db.execute("insert into logs select 99999, $1::timestamptz + interval '1 microsecond'", [saved?.cutoff])
    expect(countsOf(await run(ctx, {}, name))).toMatchObject({ 'purge logs': { rows: 20_000 } })
    expect(await test.db.query('select id::int from logs')).toEqual([{ id: 99999 }])
  })

  it('walks partitions and heirs, and leaves alone what only shares their parent', async () => {
    await test.db.execute('create table events (id int, at timestamp not null, kind text) partition by list (kind)')
    await test.db.execute(`create table events_a partition of events for values in ('a')`)
    await test.db.execute(`create table events_b partition of events for values in ('b') partition by range (at)`)
    await test.db.execute(`create table events_b1 partition of events_b for values from ('2020-01-01') to ('2030-01-01')`)
    await test.db.execute(`create table events_archive (id int, at timestamp, kind text)`)
    await test.db.execute(
      `insert into events select n, timestamp '2026-01-01' - n * interval '1 day', case when n % 2 = 0 then 'a' else 'b' end from generate_series(1, 1000) n`,
    )
    await test.db.execute(`insert into events values (0, (now() at time zone 'UTC') - interval '29 days 23 hours', 'a')`)
    const ctx = policy({
      table: 'events',
      column: 'at',
      olderThan: '30 days',
      where: `events.kind = 'a' or events.kind = 'b' and id <= 501`,
      action: { archiveTo: 'events_archive' },
    })
    expect((await plan(ctx)).map((line) => line.count)).toEqual([751])
    expect(countsOf(await run(ctx))).toMatchObject({ 'archive events': { rows: 751 } })
    expect(await count('events')).toBe(250)
    expect(await count('(select distinct id from events_archive) x')).toBe(751)
  })

  it('predicts rules that feed one another: archived, then purged from the archive', async () => {
    await test.db.execute('create table errors (id int, at timestamptz not null)')
    await test.db.execute('create table errors_archive (id int, at timestamptz)')
    await test.db.execute(`insert into errors select n, now() - n * interval '1 day' - interval '1 hour' from generate_series(1, 1000) n`)
    await test.db.execute(`insert into errors_archive select -n, now() - interval '800 days' from generate_series(1, 5) n`)
    const ctx = policy(
      { name: 'move', table: 'errors', column: 'at', olderThan: '30 days', action: { archiveTo: 'errors_archive' } },
      { name: 'end', table: 'errors', column: 'at', olderThan: '700 days', action: 'purge' },
      { name: 'end-archive', table: 'errors_archive', column: 'at', olderThan: '700 days', action: 'purge' },
    )
    const planned = await plan(ctx)
    expect(planned.map((line) => [line.count, line.estimated ?? false])).toEqual([
      [971, false],
      [0, false],
      [306, false],
    ])
    const done = Object.values(countsOf(await run(ctx))).map(({ rows }) => rows)
    expect(done).toEqual(planned.map((line) => line.count))
  })

  it('takes along columns by name, computes generated ones, and keeps identities', async () => {
    await test.db.execute(
      'create table invoices (id bigint generated always as identity primary key, net numeric(10,2), gross numeric(10,2) generated always as (net * 1.2) stored, at date not null)',
    )
    await test.db.execute(
      "create table invoices_archive (at date, gross text, id bigint generated always as identity, why text not null default 'age', net numeric)",
    )
    await test.db.execute(`insert into invoices (net, at) select n, current_date - 40 from generate_series(1, 20) n`)
    const ctx = policy({ table: 'invoices', column: 'at', olderThan: '30 days', action: { archiveTo: 'invoices_archive' } })
    await run(ctx)
    expect(await test.db.query('select id::int, net::float, gross, why from invoices_archive where id = 7')).toEqual([
      { id: 7, net: 7, gross: '8.40', why: 'age' },
    ])
  })

  it('moves nothing when the archive lacks columns, and names them', async () => {
    await test.db.execute('create table logs (id int, at timestamptz, note varchar(40), "Who" uuid)')
    await test.db.execute('create table logs_archive (id int, at timestamptz, must text not null)')
    await test.db.execute(`insert into logs values (1, now() - interval '1 year', 'x', null)`)
    const error = await run(policy({ table: 'logs', column: 'at', olderThan: '30 days', action: { archiveTo: 'logs_archive' } })).catch(
      (thrown: unknown) => thrown,
    )
    expect(error).toMatchObject({
      code: 'policy_invalid',
      issues: [{ path: 'retention.0.action.archiveTo' }, { path: 'retention.0.action.archiveTo' }],
    })
    expect(String(error)).toContain('"note" character varying(40), "Who" uuid')
    expect(String(error)).toContain('must "not null" without a default')
    expect(await count('logs')).toBe(1)
  })

  it('rolls a batch back when the archive drops rows', async () => {
    await test.db.execute('create table logs (id int, at timestamptz)')
    await test.db.execute('create table logs_archive (id int, at timestamptz)')
    await test.db.execute(
      `create function drop_row() returns trigger language plpgsql as $$ begin if new.id = 3 then return null; end if; return new; end $$`,
    )
    await test.db.execute('create trigger drop_row before insert on logs_archive for each row execute function drop_row()')
    await test.db.execute(`insert into logs select n, now() - interval '1 year' from generate_series(1, 5) n`)
    await expect(run(policy({ table: 'logs', column: 'at', olderThan: '30 days', action: { archiveTo: 'logs_archive' } }))).rejects.toThrow(
      '5 rows left the table but 4 arrived',
    )
    expect([await count('logs'), await count('logs_archive')]).toEqual([5, 0])
  })

  it('names the foreign key that keeps a row, and the one that has no index', async () => {
    await test.db.execute('create table parents (id int primary key, at timestamptz)')
    await test.db.execute('create table children (id int primary key, parent int references parents)')
    await test.db.execute('create table pets (id int primary key, owner int references parents on delete cascade)')
    await test.db.execute('create index on pets (owner)')
    await test.db.execute(`insert into parents values (1, now() - interval '1 year')`)
    await test.db.execute('insert into children values (1, 1)')
    await test.db.execute('insert into pets values (1, 1), (2, 1)')
    const ctx = policy({ table: 'parents', column: 'at', olderThan: '30 days', action: 'purge' })
    const [line] = await plan(ctx)
    expect(line?.warnings).toEqual([
      'children (about 0 rows) refers to it by children_parent_fkey without an index: every deleted row scans it. create index concurrently on "public"."children" ("parent")',
      `rows of children still refer to it (children_parent_fkey; 1 now): the run would stop there. Take them along with children: [{ table: 'children' }], or give the foreign key an "on delete"`,
      'rows of pets that refer to it (pets_owner_fkey; 2 now) are deleted as well, beside the count',
    ])
    await expect(run(ctx)).rejects.toMatchObject({ code: 'job_failed', detail: expect.stringContaining('children_parent_fkey') })
    expect(await count('parents')).toBe(1)
  })

  it('passes over rows that another session holds, and does not wait for them', async () => {
    await test.db.execute('create table logs (id int primary key, at timestamptz not null)')
    await test.db.execute(`insert into logs select n, now() - interval '1 year' from generate_series(1, 100) n`)
    const ctx = policy({ table: 'logs', column: 'at', olderThan: '30 days', action: 'purge' })
    await test.db.transaction(async (tx) => {
      await tx.execute('update logs set at = now() where id <= 10')
      expect(countsOf(await run(ctx))).toMatchObject({ 'purge logs': { rows: 90 } })
    })
    // They do not match any more.
    expect(countsOf(await run(ctx))).toMatchObject({ 'purge logs': { rows: 0 } })
    expect(await count('logs')).toBe(10)
  })

  it('gets through more rows of one age than a batch holds, along an index', async () => {
    await test.db.execute('create table logs (id bigint, at timestamptz, note text)')
    await test.db.execute(`insert into logs select n, now() - interval '40 days', 'x' from generate_series(1, 7000) n`)
    await test.db.execute(
      `insert into logs select n, case when n % 9 = 0 then null else now() end, repeat('x', 100) from generate_series(1, 60000) n`,
    )
    await test.db.execute('create index on logs (at)')
    await test.db.execute('analyze logs')
    const ctx = policy({ table: 'logs', column: 'at', olderThan: '30 days', action: 'purge' })
    const name = job()
    let asked = 0
    expect(await run(ctx, { shouldHandOver: () => ++asked > 3 }, name)).toEqual({ status: 'hand-over' })
    expect(
      await test.db.query(`select checkpoint->'current'->'inner'->'cursor'->>'walk' as walk from caretaker.runs where job = $1`, [name]),
    ).toEqual([{ walk: 'index' }])
    expect(countsOf(await run(ctx, {}, name))).toMatchObject({ 'purge logs': { rows: 7_000 } })
    expect(await count('logs')).toBe(60_000)
  })

  it('leaves the wait for a lock to the next invocation when this one ends', async () => {
    await test.db.execute('create table logs (id int primary key, at timestamptz not null)')
    await test.db.execute(`insert into logs values (1, now() - interval '1 year')`)
    const ctx = policy({ table: 'logs', column: 'at', olderThan: '30 days', action: 'purge' })
    const name = job()
    await test.db.transaction(async (tx) => {
      await tx.execute('lock table logs in share mode')
      let asked = 0
      expect(await run(ctx, { shouldHandOver: () => ++asked > 2 }, name)).toEqual({ status: 'hand-over' })
    })
    expect(countsOf(await run(ctx, {}, name))).toMatchObject({ 'purge logs': { rows: 1 } })
  })

  it('anonymises once, with a mark or without', async () => {
    await test.db.execute(
      `create table feedback (id int primary key, at timestamptz, comments text, score int, meta json, tags text[], seen boolean)`,
    )
    await test.db.execute(
      `insert into feedback select n, now() - interval '2 years', 'c' || n, n, '{"a":1}', '{x}', null from generate_series(1, 10) n`,
    )
    const bare = policy({
      table: 'feedback',
      column: 'at',
      olderThan: '12 months',
      action: { anonymise: { comments: `it's \\ gone`, score: null, meta: '{}' } },
    })
    expect(countsOf(await run(bare))).toMatchObject({ 'anonymise feedback': { rows: 10 } })
    expect(countsOf(await run(bare))).toMatchObject({ 'anonymise feedback': { rows: 0 } })
    expect(await test.db.query('select distinct comments, score, meta::text, tags, seen from feedback')).toEqual([
      { comments: `it's \\ gone`, score: null, meta: '{}', tags: ['x'], seen: null },
    ])
    const marked = policy({
      table: 'feedback',
      column: 'at',
      olderThan: '12 months',
      action: { anonymise: { comments: '-' } },
      mark: 'seen',
    })
    expect(countsOf(await run(marked))).toMatchObject({ 'anonymise feedback': { rows: 10 } })
    expect(countsOf(await run(marked))).toMatchObject({ 'anonymise feedback': { rows: 0 } })
  })
})
