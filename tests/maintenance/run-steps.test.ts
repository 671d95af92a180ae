import { beforeAll, describe, expect, it } from 'vitest'
import { defineConfig, type JobStep, type PolicyInput } from '../../lib/config/index.ts'
import { planSteps, runSteps } from '../../lib/maintenance/index.ts'
import type { JobOutcome } from '../../lib/platform/job.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { openRun } from './job-run.ts'

describe('runSteps', () => {
  const test = useTestDatabase()
  const policy = (rest: Omit<PolicyInput, 'app'>) => testContext(test.db, { config: defineConfig({ app: { name: 'Test' }, ...rest }) })
  const result = (outcome: JobOutcome) => (outcome.status === 'done' ? outcome.result : outcome)

  beforeAll(async () => {
    await test.db.execute(`create table cache (key text primary key, expires_at timestamptz)`)
    await test.db.execute(
      `create table errors (id bigint generated always as identity, at timestamptz not null, message text, size int generated always as (length(message)) stored)`,
    )
    await test.db.execute(
      `create table errors_archive (archived_at timestamptz not null default now(), message text, id bigint primary key, at timestamptz)`,
    )
    await test.db.execute(`create table quiet (id int primary key)`)
  })

  it('vacuums outside a transaction, purges and archives, and says how many', async () => {
    await test.db.execute(
      `insert into cache select 'k' || n, now() + (n - 700) * interval '1 minute' - interval '30 seconds' from generate_series(1, 1000) n`,
    )
    await test.db.execute(
      `insert into errors (at, message) select now() - n * interval '1 hour' - interval '30 minutes', 'm' || n from generate_series(1, 2000) n`,
    )
    const ctx = policy({
      retention: [
        { table: 'cache', where: 'expires_at < now() -- stale', action: 'purge', limits: { maxShare: 1 } },
        { table: 'errors', column: 'at', olderThan: '30 days', action: { archiveTo: 'errors_archive' }, limits: { maxShare: 1 } },
      ],
    })
    const steps: JobStep[] = [{ retention: ['cache', 'errors'] }, { vacuum: ['cache', 'errors'] }, { analyze: ['quiet'] }]
    const plan = await planSteps(ctx, steps)
    expect(plan.map(({ action, count }) => [action, count])).toEqual([
      ['purge cache', 700],
      ['archive errors to errors_archive', 1281],
      ['vacuum and analyse cache (about 0 dead rows)', 1],
      ['vacuum and analyse errors (about 0 dead rows)', 1],
      ['analyse quiet', 1],
    ])
    const outcome = result(await runSteps(ctx, steps, await openRun(test.db, 'daily')))
    expect(outcome).toMatchObject({
      rows: 1981,
      steps: [
        { task: 'purge cache', rows: 700 },
        { task: 'archive errors', rows: 1281 },
        { task: 'vacuum cache', tables: 1 },
        { task: 'vacuum errors', tables: 1 },
        { task: 'analyze quiet', tables: 1 },
      ],
    })
    expect(await test.db.query('select count(*)::int as n from cache')).toEqual([{ n: 300 }])
    expect(
      await test.db.query(
        'select count(*)::int as n, min(id)::int as low, max(id)::int as high, bool_and(archived_at is not null) as stamped from errors_archive',
      ),
    ).toEqual([{ n: 1281, low: 720, high: 2000, stamped: true }])
    const stats = await test.db.query<{ relname: string; vacuums: number }>(
      `select relname, vacuum_count::int as vacuums from pg_stat_user_tables where relname in ('cache', 'errors', 'quiet') order by 1`,
    )
    expect(stats).toEqual([
      { relname: 'cache', vacuums: 1 },
      { relname: 'errors', vacuums: 1 },
      { relname: 'quiet', vacuums: 0 },
    ])
    // A second firing of the same slot finds everything done.
    expect(result(await runSteps(ctx, steps, await openRun(test.db, 'daily')))).toEqual(outcome)
    expect(await test.db.query(`select action, target, detail->>'rows' as rows from caretaker.audit order by seq`)).toEqual([
      { action: 'retention.started', target: 'cache', rows: null },
      { action: 'retention.completed', target: 'cache', rows: '700' },
      { action: 'retention.started', target: 'errors', rows: null },
      { action: 'retention.completed', target: 'errors', rows: '1281' },
    ])
  })
})
