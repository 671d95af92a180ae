import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openDatabase } from '../../../lib/platform/db.ts'
import { useTestDatabase } from '../../support/database.ts'
import { retentionRig } from './rig.ts'

describe('retention of partitions', () => {
  const test = useTestDatabase()
  const { policy, counts, count, plan, run, sql, job, monthly } = retentionRig(test)
  const rule = { table: 'events', column: 'at', olderThan: '2 months', action: 'purge' } as const

  const partitionsOf = async (name: string) =>
    (
      await test.db.query<{ name: string }>(
        'select inhrelid::regclass::text as name from pg_inherits where inhparent = $1::regclass order by 1',
        [name],
      )
    ).map((row) => row.name)
  const younger = `at >= now() - interval '2 months'`

  beforeEach(() => test.db.execute('create schema if not exists public'))
  afterEach(async () => {
    await test.db.execute('drop schema public cascade')
    await test.db.execute('delete from caretaker.detached_partitions')
  })

  it('drops what is past its date as a whole, and takes the rest in batches', async () => {
    const names = await monthly('events')
    const kept = await count(`events where ${younger}`)
    const ctx = policy(rule)
    const lines = await plan(ctx)
    expect(lines.slice(0, 3).map(({ action, count: rows }) => [action, rows])).toEqual(
      names.slice(0, 3).map((name) => [`drop partition ${name}`, 20]),
    )
    expect(lines[3]).toMatchObject({ action: 'purge events', count: 60 - (kept ?? 0) })
    const done = (await counts(ctx))['purge events']
    expect(done).toMatchObject({ rows: 120 - (kept ?? 0), partitionsDropped: 3, partitionRows: 60 })
    expect(done?.bytesFreed).toBeGreaterThan(0)
    expect(await partitionsOf('events')).toEqual(names.slice(3))
    expect([await count('events'), await count(`events where ${younger}`)]).toEqual([kept, kept])
    expect(await count(`pg_class where relname like 'events%' and relkind = 'r'`)).toBe(3)
    expect(await count('caretaker.detached_partitions')).toBe(0)
  })

  it('keeps partitions where the policy says so, or where a condition takes only some of their rows', async () => {
    const names = await monthly('events')
    await counts(policy({ ...rule, partitions: { drop: false } }))
    expect(await partitionsOf('events')).toEqual(names)
    await counts(policy({ ...rule, olderThan: '1 month', where: `note = 'x'` }))
    expect(await partitionsOf('events')).toEqual(names)
    expect(await count(`events where at < now() - interval '1 month'`)).toBe(0)
  })

  it('drops under a short lock beside a default partition, and purges that one by rows', async () => {
    const names = await monthly('events')
    await sql(
      'create table events_rest partition of events default',
      `insert into events values (1, now() - interval '5 years', 'lost'), (2, now() + interval '5 years', 'far')`,
    )
    const planned = await plan(policy(rule))
    const done = await counts(policy(rule))
    expect(done['purge events']).toMatchObject({ partitionsDropped: 3, rows: planned.reduce((sum, line) => sum + (line.count ?? 0), 0) })
    expect(await partitionsOf('events')).toEqual([...names.slice(3), 'events_rest'])
    expect(await count('events_rest')).toBe(1)
  })

  it('lets foreign keys see each row, and drops the emptied partitions then', async () => {
    const names = await monthly('events')
    await sql(
      'alter table events add primary key (id, at)',
      'create table marks (event bigint, event_at timestamptz, foreign key (event, event_at) references events on delete cascade)',
      'create index on marks (event, event_at)',
      'insert into marks select id, at from events',
    )
    const lines = await plan(policy(rule))
    expect(lines.at(-1)?.action).toBe(
      `drop partition ${names[2]} when it is empty: marks refers to it (marks_event_event_at_fkey), and a foreign key looks at rows that are deleted, not at a table that is dropped`,
    )
    expect((await counts(policy(rule)))['purge events']).toMatchObject({
      partitionsDropped: 3,
      rows: lines.find(({ action }) => action === 'purge events')?.count,
    })
    expect(await partitionsOf('events')).toEqual(names.slice(3))
    expect(await count('marks')).toBe(await count('events'))
  })

  it('moves whole partitions into an archive of the same shape, and rows into any other', async () => {
    const names = await monthly('events')
    await sql(
      'create table archive (id bigint not null, at timestamptz not null, note text) partition by range (at)',
      'alter table archive enable row level security',
      'create table plain (like events)',
    )
    const whole = policy({ ...rule, olderThan: '3 months', action: { archiveTo: 'archive' } })
    const lines = await plan(whole)
    expect(lines.slice(0, 2).map(({ action, count: rows }) => [action, rows])).toEqual(
      names.slice(0, 2).map((name) => [`move partition ${name} to archive as it is`, 20]),
    )
    // What is in the middle of its month goes by rows, and the archive has no partition for it.
    await sql(
      `delete from events where at < now() - interval '3 months' and at >= date_trunc('month', now() at time zone 'UTC' - interval '3 months') at time zone 'UTC'`,
    )
    expect((await counts(whole))['archive events']).toMatchObject({ partitionsMoved: 2, partitionRows: 40, rows: 40 })
    expect([await partitionsOf('archive'), await count('archive')]).toEqual([names.slice(0, 2), 40])
    expect(await count(`pg_class where oid = '${names[0]}'::regclass and relrowsecurity`)).toBe(1)
    expect(await count(`pg_constraint where conname = 'caretaker_bounds'`)).toBe(0)

    const rows = policy({ ...rule, action: { archiveTo: 'plain' } })
    const due = await count(`events where not (${younger})`)
    expect((await counts(rows))['archive events']).toMatchObject({ rows: due, partitionsDropped: 1 })
    expect([await count('plain'), await count(`events where not (${younger})`)]).toEqual([due, 0])
    expect(await partitionsOf('events')).toEqual(names.slice(3))
  })

  it('leaves a partition to its own that a view depends on, and says why', async () => {
    const names = await monthly('events')
    await sql(`create view oldest as select * from ${names[0]}`)
    const ctx = policy(rule)
    const warnings = (await plan(ctx)).flatMap((line) => line.warnings ?? [])
    expect(warnings).toContain(
      `the partition ${names[0]} is past its date, but is emptied instead of dropped, because oldest depends on it`,
    )
    expect((await counts(ctx))['purge events']).toMatchObject({ partitionsDropped: 2 })
    expect([await partitionsOf('events'), await count(`${names[0]}`)]).toEqual([[names[0], ...names.slice(3)], 0])
  })

  it.each(['before the detaching', 'in the middle of it', 'before the drop'])('ends what a kill left %s', async (when) => {
    const names = await monthly('events')
    const [oldest] = names
    await sql(
      `insert into caretaker.detached_partitions (relation, name, parent, root, rule, bound, upper)
       select c.oid, c.relname, 'events', 'events', 'events', pg_get_expr(c.relpartbound, c.oid), substring(pg_get_expr(c.relpartbound, c.oid) from $$TO \\('([^']*)'$$)
       from pg_class c where c.oid = '${oldest}'::regclass`,
    )
    if (when === 'before the drop') await sql(`alter table events detach partition ${oldest} concurrently`)
    if (when === 'in the middle of it') {
      // A session that looks at the table keeps DETACH CONCURRENTLY from ending.
      await test.db.transaction(async (tx) => {
        await tx.query('select count(*) from events')
        const detaching = openDatabase({ sessionUrl: test.url, maxConnections: 1 })
        await expect(
          detaching.session(async (session) => {
            await session.execute('set lock_timeout = 300')
            await session.execute(`alter table events detach partition ${oldest} concurrently`)
          }),
        ).rejects.toMatchObject({ code: '55P03' })
        await detaching.close()
      })
      expect(await count('pg_inherits where inhdetachpending')).toBe(1)
    }
    const ctx = policy(rule)
    const planned = (await plan(ctx)).reduce((sum, line) => sum + (line.count ?? 0), 0)
    expect((await counts(ctx))['purge events']).toMatchObject({ partitionsDropped: 3, rows: planned })
    expect(await partitionsOf('events')).toEqual(names.slice(3))
    expect([await count('caretaker.detached_partitions'), await count(`pg_class where relname = '${oldest}'`)]).toEqual([0, 0])
  })

  it('attaches again what a changed rule would keep', async () => {
    const names = await monthly('events')
    const [oldest] = names
    await sql(
      `insert into caretaker.detached_partitions (relation, name, parent, root, rule, bound, upper)
       select c.oid, c.relname, 'events', 'events', 'events', pg_get_expr(c.relpartbound, c.oid), substring(pg_get_expr(c.relpartbound, c.oid) from $$TO \\('([^']*)'$$)
       from pg_class c where c.oid = '${oldest}'::regclass`,
      `alter table events detach partition ${oldest} concurrently`,
    )
    expect(await count('events')).toBe(100)
    const ctx = policy({ ...rule, olderThan: '3 years' })
    expect((await plan(ctx))[0]?.action).toBe(`attach again ${oldest}, which an earlier run has detached`)
    expect((await counts(ctx))['purge events']).toMatchObject({ rows: 0 })
    expect([await partitionsOf('events'), await count('events'), await count('caretaker.detached_partitions')]).toEqual([names, 120, 0])
  })

  it('makes the coming partitions once, with the rows that wait for them and the protection of their parent', async () => {
    await sql(
      'create table events (id bigint generated always as identity, at timestamptz not null, note text default $$x$$, primary key (id, at)) partition by range (at)',
      'create index on events (note)',
      'alter table events enable row level security',
      'create table events_default partition of events default',
      `insert into events (at) select now() + n * interval '1 day' from generate_series(0, 100) n`,
    )
    const ctx = policy({
      table: 'events',
      column: 'at',
      action: 'keep',
      partitions: { interval: 'month', ahead: '2 months', timezone: 'America/New_York' },
    })
    const lines = await plan(ctx)
    expect(lines.map(({ unit }) => unit)).toEqual(Array(lines.length).fill('tables'))
    expect(lines[0]?.warnings?.[0]).toContain('rows of the default partition belong there')
    const [first, second] = await Promise.all([counts(ctx), counts(ctx)])
    const created = Number(first['keep events']?.partitionsCreated ?? 0) + Number(second['keep events']?.partitionsCreated ?? 0)
    expect(created).toBe(lines.length)
    expect(await plan(ctx)).toEqual([])
    expect(await count('events')).toBe(101)
    expect(
      await count(
        `events_default where at < date_trunc('month', now() at time zone 'America/New_York' + interval '2 months') at time zone 'America/New_York'`,
      ),
    ).toBe(0)
    const parts = await test.db.query<{ rls: boolean; bound: string; indexes: number; identity: string }>(
      `select c.relrowsecurity as rls, pg_get_expr(c.relpartbound, c.oid) as bound, (select count(*)::int from pg_index where indrelid = c.oid) as indexes,
              (select attidentity from pg_attribute where attrelid = c.oid and attname = 'id') as identity
       from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'events'::regclass and pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'`,
    )
    expect(parts).toHaveLength(created)
    for (const part of parts)
      expect(part).toMatchObject({ rls: true, indexes: 2, bound: expect.stringMatching(/0[45]:00:00\+00'\) TO \('.* 0[45]:00:00\+00'/) })
    await sql(`insert into events (at) values (now())`)
  })

  it.each([
    ['date', 'day', '3 days', 4],
    ['timestamp', 'week', '2 weeks', 3],
    ['timestamptz', 'quarter', '6 months', 3],
    ['timestamptz', 'year', '1 year', 2],
  ] as const)('makes partitions of a %s by the %s', async (type, interval, ahead, least) => {
    await sql(`create table events (at ${type} not null) partition by range (at)`)
    const ctx = policy({ table: 'events', column: 'at', action: 'keep', partitions: { interval, ahead } })
    const planned = await plan(ctx)
    expect([least, least + 1]).toContain(planned.length)
    expect((await counts(ctx))['keep events']).toMatchObject({ partitionsCreated: planned.length })
    expect((await counts(ctx))['keep events']?.partitionsCreated).toBeUndefined()
    await sql(
      `insert into events values ((now() at time zone 'UTC')::${type}), ((now() at time zone 'UTC' + interval '${ahead}' - interval '1 day')::${type})`,
    )
  })

  it('fills the gap where partitions do not begin with the month', async () => {
    await sql(
      'create table events (at timestamptz not null) partition by range (at)',
      `do $$ begin execute format('create table events_odd partition of events for values from (%L) to (%L)',
         date_trunc('month', now()) - interval '1 month', date_trunc('month', now()) + interval '1 month 3 days'); end $$`,
      'create table events_2000_01 (x int)',
    )
    const ctx = policy({ table: 'events', column: 'at', action: 'keep', partitions: { interval: 'month', ahead: '45 days' } })
    const [gap] = await plan(ctx)
    expect(gap?.warnings).toEqual(['partitions that are there do not begin with the month in UTC: it fills the gap'])
    await counts(ctx)
    await sql(`insert into events select now() + n * interval '1 day' from generate_series(0, 44) n`)
  })

  it('refuses coming partitions of a table that is not partitioned by the column', async () => {
    await sql('create table flat (at timestamptz)', 'create table kinds (at timestamptz, kind text) partition by list (kind)')
    for (const table of ['flat', 'kinds'])
      await expect(
        run(policy({ table, column: 'at', action: 'keep', partitions: { interval: 'month', ahead: '1 month' } }), {}, job()),
      ).rejects.toMatchObject({
        code: 'policy_invalid',
        issues: [{ path: 'retention.0.partitions' }],
      })
  })
})
