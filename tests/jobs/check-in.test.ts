import { beforeEach, describe, expect, it, vi } from 'vitest'
import { claimSlot, findRun, type Job, work } from '../../lib/jobs/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { Database } from '../../lib/platform/db.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { runTick } from '../../lib/routes/cron.ts'
import { type HeartbeatState, heartbeatApi, heartbeatState } from '../doubles/heartbeat.ts'
import { type SentryState, sentryApi, sentryState } from '../doubles/sentry.ts'
import { logLines, testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { jobOf } from './jobs.ts'

const test = useTestDatabase()
const slot = new Date('2026-11-21T02:00:00Z')
let sentry: SentryState
let heartbeat: HeartbeatState

beforeEach(async () => {
  sentry = sentryState()
  heartbeat = heartbeatState()
  doubles.use(...sentryApi(sentry), ...heartbeatApi(heartbeat))
  await test.db.execute('truncate caretaker.runs, caretaker.watched_jobs, caretaker.outbox')
})

function context(env: Partial<Context['env']> = {}, overrides: Partial<Context> = {}): Context {
  const ctx = testContext(test.db, overrides)
  return {
    ...ctx,
    env: { ...ctx.env, SENTRY_DSN: sentry.dsn, HEARTBEAT_URL: 'https://hc.test/ping-key/{job}', CARETAKER_ENVIRONMENT: 'test', ...env },
  }
}

async function runOf(ctx: Context, job: Job) {
  const { run } = await claimSlot(ctx, { job: job.name, slot, kind: 'planned' })
  await work(ctx, [job], { until: run.id })
  return run
}
const told = () => sentry.checkIns.map(({ monitor_slug: slug, status }) => `${slug} ${status}`)

describe('a run', () => {
  it('checks in when it begins and when it ends, with its schedule', async () => {
    const ctx = context()
    const job = jobOf('sweep', { cron: '0 2 * * *', timezone: 'Europe/Berlin', startGrace: '7 minutes', runGrace: '90 seconds' })
    const run = await runOf(ctx, job)
    expect(heartbeat.pings).toEqual([`sweep start ${run.id}`, `sweep success ${run.id}`])
    const monitor_config = {
      schedule: { type: 'crontab', value: '0 2 * * *' },
      timezone: 'Europe/Berlin',
      checkin_margin: 7,
      max_runtime: 2,
    }
    const common = { check_in_id: run.id.replaceAll('-', ''), monitor_slug: 'caretaker-sweep', environment: 'test', monitor_config }
    expect(sentry.checkIns).toEqual([
      { ...common, status: 'in_progress' },
      { ...common, status: 'ok', duration: expect.any(Number) },
    ])
  })

  it('that fails says so once, after its last attempt; one that hands over says nothing between', { timeout: 60_000 }, async () => {
    const ctx = context()
    let takings = 0
    // The queue waits five seconds before it tries again.
    const hurry = setInterval(() => void test.db.execute(`update pgboss.job set start_after = now() where state = 'retry'`), 50)
    const run = await runOf(
      ctx,
      jobOf('sweep', '0 2 * * *', {
        run: async (_ctx, handle) => {
          takings++
          if (takings === 1) {
            await handle.save(1)
            return { status: 'hand-over' }
          }
          if (takings === 2) throw new Error('tried again')
          throw new CaretakerError('policy_invalid', 'for good')
        },
      }),
    )
    clearInterval(hurry)
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'failed', attempt: 3 })
    expect(told()).toEqual(['caretaker-sweep in_progress', 'caretaker-sweep error'])
    expect(heartbeat.pings).toEqual([`sweep start ${run.id}`, `sweep fail ${run.id}`])
  })

  it('calls the address of its own job where it has one, and no other', async () => {
    const run = await runOf(context(), jobOf('sweep', '0 2 * * *', { heartbeat: 'https://hc.test/ping-key/own-check?create=1' }))
    expect(heartbeat.pings).toEqual([`own-check start ${run.id}`, `own-check success ${run.id}`])
  })

  it('without a schedule, or whose expression Sentry cannot read, gives it no monitor to miss', async () => {
    await runOf(context(), jobOf('on-demand', null))
    expect([told(), heartbeat.pings]).toEqual([[], []])
    await runOf(context(), jobOf('month-end', '0 2 L * *'))
    expect(told()).toEqual(['caretaker-month-end in_progress', 'caretaker-month-end ok'])
    expect(sentry.checkIns[0]).not.toHaveProperty('monitor_config')
  })

  it('is done although those who are told refuse', async () => {
    heartbeat.failWith = 500
    sentry.failWith = 429
    const ctx = context()
    const run = await runOf(ctx, jobOf('sweep', '0 2 * * *'))
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done' })
    const lines = logLines(ctx).join()
    expect(lines).toContain('a check-in was not taken')
    // Who knows the address can speak for the job.
    expect(lines).not.toContain('ping-key')
  })

  it('is done although those who are told are not there', async () => {
    const ctx = context({}, { fetch: () => Promise.reject(new TypeError('fetch failed')) })
    const run = await runOf(ctx, jobOf('sweep', '0 2 * * *'))
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done' })
  })

  it('does not wait longer than a few seconds for who never answers', async () => {
    heartbeat.hangs = true
    const limits: number[] = []
    const timeout = AbortSignal.timeout.bind(AbortSignal)
    const spy = vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
      limits.push(ms)
      return timeout(20)
    })
    const run = await runOf(context({ SENTRY_CRONS: 'off' }), jobOf('sweep', '0 2 * * *'))
    spy.mockRestore()
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done' })
    expect(limits).toEqual([3_000, 3_000])
    expect(told()).toEqual([])
  })

  it('is told of after its transaction, and never from inside one', async () => {
    let open = 0
    const db: Database = {
      ...test.db,
      sessionUrl: test.url,
      transaction: async (inner, options) => {
        open++
        try {
          return await test.db.transaction(inner, options)
        } finally {
          open--
        }
      },
    }
    const inside: number[] = []
    const states: (string | undefined)[] = []
    const begun = Promise.withResolvers<void>()
    const fetch: typeof globalThis.fetch = async (input, init) => {
      inside.push(open)
      const [row] = await test.db.query<{ state: string }>('select state from caretaker.runs')
      states.push(row?.state)
      if (states.length === 2) begun.resolve()
      return globalThis.fetch(input, init)
    }
    const job = jobOf('sweep', '0 2 * * *', {
      run: async () => {
        await begun.promise
        return { status: 'done', result: {} }
      },
    })
    await runOf({ ...context(), db, fetch }, job)
    expect(inside).toEqual([0, 0, 0, 0])
    expect(states).toEqual(['running', 'running', 'done', 'done'])
  })
})

describe('the tick', () => {
  const wake = () => Promise.resolve()

  it('checks in itself: who watches is watched', async () => {
    const ctx = context({}, { clock: fixedClock('2026-11-21T12:00:00Z') })
    await runTick(ctx, [jobOf('sweep', '0 2 * * *')], wake)
    expect(heartbeat.pings).toEqual(['tick success'])
    expect(sentry.checkIns).toMatchObject([
      { monitor_slug: 'caretaker-tick', status: 'ok', monitor_config: { schedule: { type: 'interval', value: 15, unit: 'minute' } } },
    ])
    await runTick(context({ HEARTBEAT_URL: 'https://hc.test/ping-key/the-clock' }), [], wake)
    expect(heartbeat.pings.at(-1)).toBe('the-clock success')
  })

  it('says so when it could not see to a job, and when it failed', async () => {
    const ctx = context()
    const broken = jobOf('broken', null, { pending: () => Promise.reject(new Error('no such table')) })
    expect((await runTick(ctx, [broken], wake)).troubled).toHaveLength(1)
    const gone: Database = { ...test.db, query: () => Promise.reject(new CaretakerError('database_unavailable', 'gone')) }
    await expect(runTick({ ...ctx, db: gone }, [], wake)).rejects.toMatchObject({ code: 'database_unavailable' })
    expect(heartbeat.pings).toEqual(['tick fail', 'tick fail'])
    expect(told()).toEqual(['caretaker-tick error', 'caretaker-tick error'])
  })
})
