import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { reportDatabase, runSteps } from '../../../lib/maintenance/index.ts'
import { type Database, openDatabase } from '../../../lib/platform/db.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { countsOf, openRun } from '../job-run.ts'

describe('the report of the database itself', () => {
  const test = useTestDatabase()
  beforeEach(() => test.db.execute('create schema if not exists public'))
  afterEach(() => test.db.execute('drop schema public cascade'))

  const sections = async (db: Database = test.db) =>
    new Map((await reportDatabase(testContext(db))).sections.map((section) => [section.name, section]))
  const findings = async (section: string, db?: Database) => (await sections(db)).get(section)?.findings ?? []
  const advice = async (section: string) => (await findings(section)).map((finding) => [finding.object, finding.advice])

  it('says of each table how much is dead and how much is empty', async () => {
    await test.db.execute('create table full_table (id int, name text) with (autovacuum_enabled = false)')
    await test.db.execute('create table airy (id int primary key, name text) with (autovacuum_enabled = false)')
    for (const name of ['full_table', 'airy'])
      await test.db.execute(`insert into ${name} select n, repeat('x', n % 50) from generate_series(1, 100000) n`)
    await test.db.execute('delete from airy where id % 10 <> 0')
    await test.db.execute('vacuum analyze airy')
    await test.db.execute('analyze full_table')
    await test.db.execute('create table never (id int)')
    const of = new Map((await findings('tables')).map((finding) => [finding.object, finding]))
    expect(of.get('full_table')?.figures).toMatchObject({ rows: 100_000, dead_rows: 0, last_vacuum: null, last_analyze: expect.any(Date) })
    // The estimate against what is known: nothing is empty here, nine tenths there.
    expect(of.get('full_table')?.figures.bloat_share).toBeLessThan(0.1)
    expect(of.get('airy')?.figures.bloat_share).toBeGreaterThan(0.8)
    expect(of.get('airy')?.figures.bloat_share).toBeLessThan(0.95)
    expect(of.get('never')?.figures).toMatchObject({ rows: 0, bloat_share: null })
    const index = (await findings('index-bloat')).find((finding) => finding.object === 'airy_pkey')
    expect(index?.figures.bloat_share).toBeGreaterThan(0.7)
    await test.db.execute('reindex index airy_pkey')
    expect((await findings('index-bloat')).find((finding) => finding.object === 'airy_pkey')?.figures.bloat_share).toBeLessThan(0.1)
    await test.db.execute(`update full_table set name = ''`)
    await expect
      .poll(async () => (await findings('tables')).find((finding) => finding.object === 'full_table')?.advice ?? '', { timeout: 20_000 })
      .toContain(`vacuum it: { vacuum: ['full_table'] }`)
  })

  it('is near what the pages really hold, for indexes of many and of few values', async () => {
    await test.db.execute('create table t (id bigint, kind text, at timestamptz, n numeric)')
    await test.db.execute(`insert into t select n, 'kind ' || n % 7, now() - n * interval '1 second', n from generate_series(1, 60000) n`)
    for (const columns of ['id', 'kind', 'at', 'n', 'kind, id', '(lower(kind)), at'])
      await test.db.execute(`create index on t (${columns})`)
    await test.db.execute('analyze t')
    const fresh = await findings('index-bloat')
    expect(fresh).toHaveLength(6)
    for (const { object, figures } of fresh) expect(figures.bloat_share, object).toBeLessThan(0.25)
  })

  it('names indexes that are superfluous, and never one that holds something up', async () => {
    await test.db.execute('create table parents (id int primary key)')
    await test.db.execute('create table t (id int primary key, a int, b int, c text, parent int references parents)')
    for (const index of [
      'unique_a on t (a)',
      'same_a on t (a)',
      'long_ab on t (b, c)',
      'short_b on t (b)',
      'descending_b on t (b desc)',
      'partial_b on t (b) where a > 1',
      'pattern_c on t (c text_pattern_ops)',
      'c_by_c on t (c)',
      'like_pkey on t (id)',
      'fk on t (parent)',
      'unique_b on t (b)',
    ])
      await test.db.execute(`create ${index.startsWith('unique') ? 'unique ' : ''}index ${index}`)
    expect(
      new Map((await findings('duplicate-indexes')).map(({ object, figures }) => [object, [figures.covered_by, figures.how]])),
    ).toEqual(
      new Map([
        ['same_a', ['unique_a', 'the same']],
        ['short_b', ['unique_b', 'the same']],
        ['like_pkey', ['t_pkey', 'the same']],
      ]),
    )
    const unused = (await findings('unused-indexes')).map((finding) => finding.object)
    expect(unused.sort()).toEqual(['c_by_c', 'descending_b', 'like_pkey', 'long_ab', 'partial_b', 'pattern_c', 'same_a', 'short_b'])
    await test.db.execute('drop index unique_b, same_a, like_pkey')
    expect(await advice('duplicate-indexes')).toEqual([['short_b', 'drop index concurrently public.short_b']])
  })

  it('counts an index as used once a query has read it', async () => {
    await test.db.execute('create table t (a int)')
    await test.db.execute('create index t_a on t (a)')
    expect((await findings('unused-indexes')).map((finding) => finding.object)).toEqual(['t_a'])
    await test.db.transaction(async (tx) => {
      await tx.execute('set local enable_seqscan = off')
      await tx.query('select * from t where a = 1')
    })
    await expect.poll(async () => (await findings('unused-indexes')).length, { timeout: 20_000 }).toBe(0)
  })

  it('names foreign keys without an index, with the index', async () => {
    await test.db.execute('create table parents (a int, b int, primary key (a, b))')
    await test.db.execute('create table children (id int, "pA" int, pb int, foreign key ("pA", pb) references parents)')
    const wanted = 'create index concurrently on public.children ("pA", pb)'
    expect(await advice('foreign-keys-without-index')).toEqual([['children.children_pA_pb_fkey', wanted]])
    await test.db.execute('create index partial on children ("pA", pb) where id > 0')
    await test.db.execute('create index behind on children (id, "pA", pb)')
    expect(await findings('foreign-keys-without-index')).toHaveLength(1)
    await test.db.execute(wanted.replace('concurrently ', ''))
    expect(await findings('foreign-keys-without-index')).toEqual([])
  })

  it('finds big tables that are read in full, and what unfinished builds left', async () => {
    await test.db.execute('create table big as select n as id from generate_series(1, 20000) n')
    await expect(test.db.execute('create unique index concurrently broken on big ((id % 2))')).rejects.toMatchObject({ code: '23505' })
    expect(await advice('invalid-indexes')).toEqual([['broken', 'drop index concurrently public.broken']])
    for (let i = 0; i < 12; i++) await test.db.query('select count(*) from big where id = 5')
    await expect
      .poll(async () => (await findings('sequential-scans')).map((finding) => finding.object), { timeout: 20_000 })
      .toEqual(['big'])
  })

  it('says what it cannot say, and goes on', async () => {
    await test.db.execute(`do $$ begin create role observer login; exception when duplicate_object then null; end $$`)
    await test.db.execute('create table hidden as select n as id from generate_series(1, 1000) n')
    await test.db.execute('analyze hidden')
    const db = openDatabase({ sessionUrl: test.url.replace('postgres@', 'observer@'), maxConnections: 2 })
    try {
      const all = await sections(db)
      expect([...all.keys()]).toHaveLength(11)
      expect(all.get('slow-queries')).toMatchObject({ findings: [], note: expect.stringMatching(/^pg_stat_statements is not installed\./) })
      expect(all.get('long-transactions')?.note).toBe(
        'sessions of other roles are hidden from this one: grant pg_read_all_stats to "observer"',
      )
      // The planner's statistics are for those who may read the column.
      expect(all.get('tables')?.findings.find((finding) => finding.object === 'hidden')?.figures).toMatchObject({
        rows: 1_000,
        bloat_bytes: null,
      })
      expect(all.get('wraparound')?.findings[0]?.figures.xid_age).toBeGreaterThan(0)
      expect(all.get('database')?.findings[0]?.figures).toMatchObject({ max_connections: expect.any(Number) })
    } finally {
      await db.close()
    }
  })

  it('is kept as rows by a job, those of a slot once', async () => {
    await test.db.execute('create table parents (id int primary key)')
    await test.db.execute('create table children (parent int references parents)')
    await test.db.execute(
      `insert into caretaker.database_findings (slot, section, position, object, figures) values (now() - interval '2 years', 'tables', 0, 'old', '{}')`,
    )
    const ctx = testContext(test.db)
    for (const job of ['weekly', 'weekly', 'weekly again'])
      expect(countsOf(await runSteps(ctx, [{ report: 'database' }], await openRun(test.db, job)))['report database']).toMatchObject({
        rows: expect.any(Number),
      })
    const rows = await test.db.query<{ slot: Date; object: string; advice: string | null }>(
      `select slot, object, advice from caretaker.database_findings where section = 'foreign-keys-without-index'`,
    )
    expect(rows).toEqual([
      { slot: new Date('2026-11-21T02:00:00Z'), object: 'children.children_parent_fkey', advice: expect.stringContaining('create index') },
    ])
    expect(await test.db.query(`select count(*)::int as n from caretaker.database_findings where object = 'old'`)).toEqual([{ n: 0 }])
  })
})
