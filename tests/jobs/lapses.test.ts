import { beforeEach, describe, expect, it } from 'vitest'
import { claimManually, claimSlot, findRun, type Job, tick, work } from '../../lib/jobs/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { logLines, testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { eventsOf, jobOf } from './jobs.ts'

const test = useTestDatabase()

beforeEach(async () => {
  await test.db.execute('truncate caretaker.runs, caretaker.watched_jobs, caretaker.outbox')
})

/** Slots of a year without ticks: nothing of them is due by itself. */
const slot = (day: number) => new Date(Date.UTC(2026, 0, day, 2))
const yearly = (more: { missed?: 'last' | 'all' | 'skip'; runGrace?: string; startGrace?: string } = {}) => ({ cron: '0 2 1 1 *', ...more })
const topics = async () => (await eventsOf(test.db)).map(({ topic }) => topic)
/** As if it had all happened longer ago. */
const age = (interval: string) =>
  test.db.execute(
    `update caretaker.runs set queued_at = queued_at - $1::interval, started_at = started_at - $1::interval, heartbeat_at = heartbeat_at - $1::interval`,
    [interval],
  )
const lapsesOf = async (jobs: Job[]) => {
  const { overdue, superseded, overran, abandoned, wake } = await tick(testContext(test.db), jobs)
  return { overdue: overdue.length, superseded: superseded.length, overran: overran.length, abandoned: abandoned.length, wake }
}
const none = { overdue: 0, superseded: 0, overran: 0, abandoned: 0, wake: true }

describe('a run that no worker takes', () => {
  it('is overdue after its start grace, and said so once', async () => {
    const jobs = [jobOf('sweep', yearly({ startGrace: '10 minutes' }))]
    const { run } = await claimSlot(testContext(test.db), { job: 'sweep', slot: slot(1), kind: 'planned' })
    await age('9 minutes')
    expect(await lapsesOf(jobs)).toEqual(none)
    await age('2 minutes')
    const all = await Promise.all([lapsesOf(jobs), lapsesOf(jobs)])
    expect(all.map(({ overdue }) => overdue).sort()).toEqual([0, 1])
    expect(await eventsOf(test.db)).toEqual([
      { topic: 'job.overdue', payload: { job: 'sweep', run: run.id, slot: slot(1).toISOString(), reason: 'no worker has taken it' } },
    ])
    expect(await lapsesOf(jobs)).toEqual(none)
  })

  it('is said to wait for the run before it where that one is at work', async () => {
    const ctx = testContext(test.db)
    for (const day of [1, 2]) await claimSlot(ctx, { job: 'sweep', slot: slot(day), kind: 'planned' })
    await test.db.execute(
      `update caretaker.runs set state = 'running', attempt = 1, started_at = now(), heartbeat_at = now() where slot = $1`,
      [slot(1)],
    )
    await age('6 minutes')
    await lapsesOf([jobOf('sweep', yearly({ missed: 'all' }))])
    expect((await eventsOf(test.db))[0]?.payload).toMatchObject({
      slot: slot(2).toISOString(),
      reason: 'the run before it is still at work',
    })
  })

  it.each([
    ['last', ['skipped', 'skipped', 'queued'], ['job.missed', 'job.overdue']],
    ['all', ['queued', 'queued', 'queued'], ['job.overdue']],
    ['skip', ['skipped', 'skipped', 'skipped'], ['job.missed', 'job.overdue']],
  ] as const)('gives way, or not, as the policy "%s" says', async (missed, states, events) => {
    const ctx = testContext(test.db)
    for (const day of [1, 2, 3]) await claimSlot(ctx, { job: 'sweep', slot: slot(day), kind: 'planned' })
    await claimManually(ctx, 'sweep')
    await age('6 minutes')
    await lapsesOf([jobOf('sweep', yearly({ missed }))])
    const runs = await test.db.query<{ state: string }>(`select state from caretaker.runs where kind <> 'manual' order by slot`)
    expect(runs.map(({ state }) => state)).toEqual(states)
    // The manual one waits on, whatever the policy says of missed slots.
    expect(await test.db.query(`select state from caretaker.runs where kind = 'manual'`)).toEqual([{ state: 'queued' }])
    // However many wait, they are one event.
    expect(await topics()).toEqual(events)
    if (missed !== 'skip') expect((await eventsOf(test.db)).at(-1)?.payload).toMatchObject({ runs: missed === 'all' ? 4 : 2 })
    await work(ctx, [jobOf('sweep', yearly({ missed }))])
    expect(await test.db.query(`select from caretaker.runs where state not in ('done', 'skipped')`)).toHaveLength(0)
  })
})

describe('a run that takes longer than its run grace', () => {
  it('overruns, and is said so once', { timeout: 60_000 }, async () => {
    const ctx = testContext(test.db)
    let seen: unknown
    const jobs: Job[] = [
      jobOf('sweep', yearly({ runGrace: '1 hour' }), {
        run: async () => {
          await age('59 minutes')
          expect(await lapsesOf(jobs)).toMatchObject({ overran: 0 })
          await age('2 minutes')
          seen = [await lapsesOf(jobs), await lapsesOf(jobs)].map(({ overran }) => overran)
          return { status: 'done', result: {} }
        },
      }),
    ]
    const { run } = await claimSlot(ctx, { job: 'sweep', slot: slot(1), kind: 'planned' })
    await work(ctx, jobs)
    expect(seen).toEqual([1, 0])
    const [event, ...more] = (await eventsOf(test.db)).filter(({ topic }) => topic === 'job.overran')
    expect(event?.payload).toMatchObject({ job: 'sweep', run: run.id, seconds: expect.closeTo(3_660, -2) })
    expect(more).toEqual([])
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', overran_at: expect.any(Date) })
  })

  it("has until its job's next slot where the policy says nothing", async () => {
    const ctx = testContext(test.db)
    await claimSlot(ctx, { job: 'hourly', slot: slot(1), kind: 'planned' })
    await test.db.execute(`update caretaker.runs set state = 'running', attempt = 1, started_at = now(), heartbeat_at = now()`)
    await test.db.execute(`update caretaker.runs set started_at = now() - interval '59 minutes'`)
    const jobs = [jobOf('hourly', '0 * * * *')]
    expect(await lapsesOf(jobs)).toMatchObject({ overran: 0 })
    await test.db.execute(`update caretaker.runs set started_at = now() - interval '61 minutes'`)
    expect(await lapsesOf(jobs)).toMatchObject({ overran: 1 })
  })
})

describe('a run that its worker left', () => {
  it('is abandoned when nobody has taken it up for ten minutes, and said so once', async () => {
    const ctx = testContext(test.db)
    const { run } = await claimSlot(ctx, { job: 'sweep', slot: slot(1), kind: 'planned' })
    await test.db.execute(`update caretaker.runs set state = 'running', attempt = 1, started_at = now(), heartbeat_at = now()`)
    await age('9 minutes')
    const jobs = [jobOf('sweep', yearly({ runGrace: '1 day' }))]
    expect(await lapsesOf(jobs)).toEqual(none)
    await age('2 minutes')
    expect(await lapsesOf(jobs)).toEqual({ ...none, abandoned: 1 })
    expect(await lapsesOf(jobs)).toEqual(none)
    expect(await eventsOf(test.db)).toEqual([
      { topic: 'job.abandoned', payload: { job: 'sweep', run: run.id, slot: slot(1).toISOString() } },
    ])
  })
})

describe('a verb that hands over', () => {
  it('without getting anything done fails after ten times in a row, and is heard', { timeout: 60_000 }, async () => {
    const ctx = testContext(test.db)
    const { run } = await claimSlot(ctx, { job: 'sweep', slot: slot(1), kind: 'planned' })
    const keys = ['a', 'b']
    const report = await work(ctx, [
      jobOf('sweep', yearly(), {
        run: async (_ctx, handle) => {
          // The same content in another order is no progress.
          await handle.save(Object.fromEntries(keys.reverse().map((key) => [key, 1])))
          return { status: 'hand-over' }
        },
      }),
    ])
    expect(report).toMatchObject({ finished: 1, failed: 1, handedOver: 10 })
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'failed', attempt: 11, error: { code: 'job_stalled' } })
    expect(await topics()).toEqual(['job.failed'])
  })

  it.each(['the checkpoint', 'the verb'])('and gets on, as %s says, does so for as long as it takes', { timeout: 60_000 }, async (who) => {
    const ctx = testContext(test.db)
    let takings = 0
    const { run } = await claimSlot(ctx, { job: 'sweep', slot: slot(1), kind: 'planned' })
    await work(ctx, [
      jobOf('sweep', yearly(), {
        run: async (_ctx, handle) => {
          if (++takings > 12) return { status: 'done', result: { takings } }
          if (who === 'the verb') return { status: 'hand-over', progress: true }
          // Every other time it gets nothing done.
          await handle.save(Math.floor(takings / 2))
          return { status: 'hand-over' }
        },
      }),
    ])
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', result: { takings: 13 } })
  })
})

describe('one job whose waiting work cannot be looked at', () => {
  it('does not stop the clock of the others', async () => {
    const captured: unknown[] = []
    const ctx = testContext(test.db, {
      sentry: { capture: (error) => captured.push(error), flush: () => Promise.resolve(true) },
    })
    const broken = jobOf('broken', null, { pending: () => Promise.reject(new CaretakerError('policy_invalid', 'no such table')) })
    const report = await tick(ctx, [broken, jobOf('waiting', null, { pending: async () => true })])
    expect(report).toMatchObject({ troubled: [{ job: 'broken', code: 'policy_invalid' }], wake: true })
    expect(await test.db.query('select job from caretaker.runs')).toEqual([{ job: 'waiting' }])
    expect(captured).toHaveLength(1)
    expect(logLines(ctx).join()).toContain('"job":"broken"')
    const gone = jobOf('gone', null, { pending: () => Promise.reject(new CaretakerError('database_unavailable', 'gone')) })
    await expect(tick(ctx, [gone])).rejects.toMatchObject({ code: 'database_unavailable' })
  })
})
