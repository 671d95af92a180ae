import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defineConfig, type JobStep } from '../../lib/config/index.ts'
import { checkPolicy, planSteps, reportDatabase, runSteps, showReport } from '../../lib/maintenance/index.ts'
import { type Database, openDatabase } from '../../lib/platform/db.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { startVersion, type VersionedServer } from '../backup/versions/servers.ts'
import { testContext } from '../support/context.ts'
import { countsOf, openRun } from './job-run.ts'

describe.each([15, 17, 18] as const)('maintenance and reports on PostgreSQL %i', (major) => {
  let server: VersionedServer
  let db: Database
  let url: string

  beforeAll(async () => {
    server = await startVersion(major)
    ;({ db, url } = await server.database('app'))
    await applyMigrations(db)
    await db.execute('create table t (id int primary key, at timestamptz default now())')
    await db.execute('insert into t select generate_series(1, 1000)')
    await db.execute('create materialized view v as select id from t')
    await db.execute('create unique index on v (id)')
    await db.execute('create table kept (day date primary key, n bigint)')
  }, 120_000)
  afterAll(() => server.stop())

  it('carries out every step', async () => {
    const ctx = testContext(db, {
      config: defineConfig({
        app: { name: 'Test' },
        reports: { daily: { period: 'day', sql: 'select :from::date as day, count(*) as n from t', into: 'kept' } },
      }),
    })
    expect(await checkPolicy(ctx)).toEqual([])
    const steps: JobStep[] = [
      { vacuum: ['t', 'v'] },
      { analyze: 'all' },
      { reindex: ['t_pkey', { table: 't' }] },
      { refresh: ['v'] },
      { sql: 'select 1' },
      { report: 'daily' },
      { report: 'database' },
    ]
    expect((await planSteps(ctx, steps)).flatMap((line) => line.warnings ?? [])).toEqual([])
    const counts = countsOf(await runSteps(ctx, steps, await openRun(db, 'all')))
    expect(counts).toMatchObject({
      'refresh v': { mode: 'concurrent' },
      'reindex table t': { indexes: 1 },
      'report daily': { rows: 1 },
      'report database': { rows: expect.any(Number) },
    })
    expect((await showReport(ctx, { name: 'daily' }, 5)).rows).toHaveLength(1)
  })

  it('reads every section of the database report', async () => {
    const { sections } = await reportDatabase(testContext(db))
    expect(
      sections.map(({ name, note }) => [name, note ?? null]).filter(([name, note]) => note !== null && name !== 'slow-queries'),
    ).toEqual([])
    expect(sections.find((section) => section.name === 'tables')?.findings.map((finding) => finding.object)).toContain('t')
    const [up] = await db.query('select at_least from caretaker.uptime(now() - interval $$1 hour$$, now())')
    expect(up).toEqual({ at_least: '0.000' })
  })

  it('says what a role that owns nothing lacks there', async () => {
    await db.execute(`create role keeper login`)
    await db.execute('grant usage on schema public to keeper')
    const keeper = openDatabase({ sessionUrl: url.replace(/\/\/[^@/]*@/, '//keeper@'), maxConnections: 2 })
    try {
      const [line] = await planSteps(testContext(keeper), [{ vacuum: ['t'] }])
      expect(line?.warnings?.[0]).toMatch(
        major >= 17
          ? /: grant maintain on "public"\."t" to "keeper"$/
          : /PostgreSQL 15 has no MAINTAIN privilege to grant: grant "\w+" to "keeper"/,
      )
    } finally {
      await keeper.close()
    }
  })
})
