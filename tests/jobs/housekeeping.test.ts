import { beforeEach, describe, expect, it } from 'vitest'
import { jobs as catalog } from '../../lib/catalog.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { claimSlot, findRun, housekeepingJob, type Pruning, planHousekeeping, work } from '../../lib/jobs/index.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'

const test = useTestDatabase()
const count = async (table: string) => (await test.db.query<{ count: number }>(`select count(*)::int as count from ${table}`))[0]?.count

beforeEach(async () => {
  await test.db.execute('truncate caretaker.runs, caretaker.watched_jobs, caretaker.outbox, caretaker.rate_limits')
})

async function fill() {
  // 200 days back, one a day: the first hundred and ten are older than ninety days.
  await test.db.execute(
    `insert into caretaker.runs (job, slot, state, actor, queued_at, finished_at)
     select job, d, state, '{"type":"system"}', d, case when state in ('done', 'failed', 'skipped') then d + interval '1 minute' end
     from generate_series(now() - interval '200 days', now() - interval '1 day', interval '1 day') as d,
       (values ('a', 'done'), ('b', 'failed'), ('open', 'running')) as jobs(job, state)`,
  )
  await test.db.execute(
    `insert into caretaker.runs (job, slot, state, actor, finished_at) values ('rare', now() - interval '300 days', 'done', '{"type":"system"}', now() - interval '300 days')`,
  )
  await test.db.execute(
    `insert into caretaker.outbox (topic, payload, at, delivered_at)
     select 'job.failed', '{}', d, case when n = 1 then d end
     from generate_series(now() - interval '100 days', now(), interval '1 day') as d, generate_series(1, 2) as n`,
  )
  await test.db.execute(
    `insert into caretaker.rate_limits (key, window_start, hits, expires_at) select 'k', now() - n * interval '1 hour', 1, now() - n * interval '1 hour' + interval '90 minutes' from generate_series(1, 10) n`,
  )
  await test.db.execute(
    `insert into caretaker.watched_jobs (deployment, job, schedule, since, seen_at) values ('gone', 'a', '0 2 * * * UTC', now(), now() - interval '91 days'), ('here', 'a', '0 2 * * * UTC', now(), now())`,
  )
}

describe('housekeeping', () => {
  it('deletes what the policy no longer keeps, exactly what its plan said, and nothing that is open or the newest of its job', {
    timeout: 60_000,
  }, async () => {
    await fill()
    const ctx = testContext(test.db, { config: defineConfig({ app: { name: 'Test' } }) })
    const plan = await planHousekeeping(ctx)
    const jobs = catalog(ctx.config)
    const { run } = await claimSlot(ctx, { job: 'housekeeping', slot: new Date(), kind: 'planned' })
    await work(ctx, jobs, { until: run.id })
    const ended = await findRun(test.db, run.id)
    expect(ended).toMatchObject({ state: 'done' })
    const { pruned, rows } = (ended?.result ?? {}) as { pruned: Record<string, number>; rows: number }
    expect(pruned).toMatchObject(Object.fromEntries(plan.map(({ action, count: planned }) => [action.replace('delete ', ''), planned])))
    expect(rows).toBe(Object.values(pruned).reduce((sum, one) => sum + one, 0))
    expect(pruned).toMatchObject({
      'ended runs': 2 * 110,
      'delivered events': 71,
      'events nobody came for': 11,
      'expired rate limits': 9,
      'watches of deployments that are gone': 1,
    })
    const left = await test.db.query('select job, count(*)::int as runs from caretaker.runs group by 1 order by 1')
    expect(left).toEqual([
      { job: 'a', runs: 90 },
      { job: 'b', runs: 90 },
      { job: 'housekeeping', runs: 1 },
      { job: 'open', runs: 200 },
      { job: 'rare', runs: 1 },
    ])
  })

  it('keeps as long as the policy says', async () => {
    await fill()
    const ctx = testContext(test.db, { config: defineConfig({ app: { name: 'Test' }, history: { keep: '7 days', events: '1 day' } }) })
    const plan = new Map((await planHousekeeping(ctx)).map(({ action, count: rows }) => [action, rows]))
    expect(plan.get('delete ended runs')).toBe(2 * 193)
    expect(plan.get('delete delivered events')).toBe(100)
    expect(() => defineConfig({ app: { name: 'Test' }, history: { keep: '6 days' } })).toThrow(
      /history\.keep: found "6 days", expected at least "7 days"/,
    )
  })

  it("goes on from its checkpoint, a batch at a time, through other domains' rows too", async () => {
    const ctx = testContext(test.db)
    await test.db.execute(`drop table if exists old_things; create table old_things as select n from generate_series(1, 2500) n`)
    const things: Pruning = {
      name: 'old things',
      target: 'old_things',
      count: async () => (await count('old_things')) ?? 0,
      prune: (inner, limit) =>
        inner.db.execute('delete from old_things where n in (select n from old_things order by n limit $1::int)', [limit]),
    }
    let checkpoint: unknown = null
    let batches = 0
    const run: JobRun = {
      id: '',
      job: 'housekeeping',
      slot: new Date(0),
      attempt: 1,
      params: {},
      get checkpoint() {
        return checkpoint
      },
      async save(next) {
        checkpoint = structuredClone(next)
        batches++
      },
      shouldHandOver: () => batches >= 7,
      callForHelp: () => Promise.resolve(),
    }
    expect(await housekeepingJob(ctx, run, [things])).toEqual({ status: 'hand-over' })
    expect(await count('old_things')).toBe(500)
    batches = 0
    expect(await housekeepingJob(ctx, { ...run, checkpoint }, [things])).toMatchObject({
      status: 'done',
      result: { pruned: { 'old things': 2_500 } },
    })
    expect(await count('old_things')).toBe(0)
  })

  it('plans nothing in a database that has never seen Caretaker', async () => {
    const bare = await createTestDatabase({ template: 'template0' })
    expect((await planHousekeeping(testContext(bare.db))).map(({ count: rows }) => rows)).toEqual([0, 0, 0, 0, 0])
    await bare.drop()
  })
})
