import { setTimeout as delay } from 'node:timers/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { createRuntime } from '../../lib/compose.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { claimManually, claimSlot, findRun, type Job, work } from '../../lib/jobs/index.ts'
import { type Database, openDatabase } from '../../lib/platform/db.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { JobVerb } from '../../lib/platform/job.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'
import { hurriedQueue } from './jobs.ts'

const test = useTestDatabase()

function job(name: string, run: JobVerb, more: Partial<Job> = {}): Job {
  return { name, description: '', schedule: null, run, plan: async () => [], ...more }
}

beforeEach(async () => {
  await test.db.execute('truncate caretaker.runs, caretaker.watched_jobs, caretaker.outbox')
})

describe('a worker that died long ago', () => {
  it('leaves a run that the next worker takes up', { timeout: 90_000 }, async () => {
    const ctx = testContext(test.db)
    await hurriedQueue(ctx)
    const run = await claimManually(ctx, 'sweep')
    // The first worker takes the run and is cut off: from then on the database hears nothing of it.
    let cutOff = false
    const ends = new AbortController()
    const lost = () => Promise.reject(new CaretakerError('database_unavailable', 'cut off'))
    const db: Database = {
      ...test.db,
      sessionUrl: test.url,
      query: (sql, params) => (cutOff ? lost() : test.db.query(sql, params)),
      execute: (sql, params) => (cutOff ? lost() : test.db.execute(sql, params)),
      transaction: (work_, options) => (cutOff ? lost() : test.db.transaction(work_, options)),
    }
    const taken = Promise.withResolvers<void>()
    const dead = work({ ...ctx, db }, [
      job('sweep', async () => {
        cutOff = true
        taken.resolve()
        await new Promise((resolve) => ends.signal.addEventListener('abort', resolve))
        throw new Error('gone')
      }),
    ])
    await taken.promise
    await test.db.execute(`update caretaker.runs set heartbeat_at = now() - interval '10 minutes'`)
    await test.db.execute(`update pgboss.job set heartbeat_on = now() - interval '10 minutes', started_on = now() - interval '10 minutes'`)
    await work(ctx, [job('sweep', async () => ({ status: 'done', result: { by: 'the next' } }))])
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', result: { by: 'the next' } })
    ends.abort()
    await expect(dead).rejects.toMatchObject({ code: 'database_unavailable' })
  })
})

describe('a queue with a busy job at its head', () => {
  it('lets another job pass', { timeout: 60_000 }, async () => {
    const ctx = testContext(test.db)
    await claimManually(ctx, 'slow')
    const taken = Promise.withResolvers<void>()
    const held = Promise.withResolvers<void>()
    const jobs = [
      job('slow', async () => {
        taken.resolve()
        await held.promise
        return { status: 'done', result: {} }
      }),
      job('quick', async () => ({ status: 'done', result: {} })),
    ]
    const one = work(ctx, jobs)
    await taken.promise
    await claimManually(ctx, 'slow')
    const quick = await claimManually(ctx, 'quick')
    const two = work(ctx, jobs, { until: quick.id })
    const still = await Promise.race([two.then(() => 'passed'), delay(20_000, 'waits behind', { ref: false })])
    held.resolve()
    await Promise.all([one, two])
    expect(still).toBe('passed')
  })
})

describe('a run that the queue knows nothing of', () => {
  it('is queued anew', { timeout: 60_000 }, async () => {
    const ctx = testContext(test.db)
    const jobs = [job('sweep', async () => ({ status: 'done', result: {} }))]
    await work(ctx, jobs)
    const run = await claimManually(ctx, 'sweep')
    await test.db.execute(`update caretaker.runs set state = 'dispatched', heartbeat_at = now() - interval '10 minutes'`)
    await work(ctx, jobs)
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', dispatch: 1 })
  })
})

describe('a job that was busy when the queue looked last', () => {
  it('is worked at once when its next slot comes', { timeout: 60_000 }, async () => {
    const ctx = testContext(test.db)
    const jobs = [job('sweep', async () => ({ status: 'done', result: {} }))]
    await work(ctx, jobs)
    await test.db.execute(`update pgboss.queue set singletons_active = array['sweep']`)
    const run = await claimManually(ctx, 'sweep')
    await work(ctx, jobs, { until: run.id })
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done' })
  })
})

describe('a worker that is told to stop', () => {
  it('hands the run back; that is no failed attempt, however often it happens', { timeout: 60_000 }, async () => {
    const ctx = testContext(test.db)
    const run = await claimManually(ctx, 'sweep')
    for (let stop = 1; stop <= 5; stop++) {
      const stopping = new AbortController()
      await work({ ...ctx, signal: stopping.signal }, [
        job('sweep', async (inner, handle) => {
          await handle.save(stop)
          stopping.abort()
          inner.signal.throwIfAborted()
          return { status: 'done', result: {} }
        }),
      ])
      expect(await findRun(test.db, run.id)).toMatchObject({ state: 'queued', checkpoint: stop, error: null })
    }
    await work(ctx, [job('sweep', async (_ctx, handle) => ({ status: 'done', result: { at: handle.checkpoint } }))])
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', result: { at: 5 } })
  })
})

describe('a database that drops every connection in the middle of a run', () => {
  it('costs the run nothing once it is back', { timeout: 60_000 }, async () => {
    const ctx = testContext(test.db)
    const run = await claimManually(ctx, 'sweep')
    await work(ctx, [
      job('sweep', async (inner, handle) => {
        await handle.save(1)
        const admin = openDatabase({ sessionUrl: test.url, maxConnections: 1 })
        await inner.db
          .session(async () => {
            await admin.query(
              'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
            )
            await delay(200)
          })
          .catch(() => undefined)
        await admin.close()
        await handle.save(2)
        return { status: 'done', result: {} }
      }),
    ])
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', attempt: 1, checkpoint: 2 })
  })
})

describe('a run that fails again and again', () => {
  it('is tried four times by one worker that stays, and then fails', { timeout: 120_000 }, async () => {
    const ctx = testContext(test.db)
    await hurriedQueue(ctx)
    const run = await claimManually(ctx, 'sweep')
    let attempts = 0
    await work(ctx, [
      job('sweep', async () => {
        attempts++
        throw new Error('no')
      }),
    ])
    expect(attempts).toBe(4)
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'failed', attempt: 4 })
  })
})

describe('with one connection allowed', () => {
  it('a first worker installs the queue and runs a job that holds two', { timeout: 60_000 }, async () => {
    const made = await createTestDatabase()
    const runtime = createRuntime({
      policy: defineConfig({ app: { name: 'Test' } }),
      environment: { DATABASE_URL: made.url, DATABASE_POOL_MAX: '1', LOG_LEVEL: 'silent' },
    })
    try {
      const ctx = runtime.context({ actor: { type: 'system' }, deadline: new Date(Date.now() + 600_000) })
      const { run } = await claimSlot(ctx, { job: 'sweep', slot: new Date('2026-11-21T02:00:00Z'), kind: 'planned' })
      const report = await work(ctx, [
        job('sweep', async (inner, handle) => {
          await inner.db.session((session) =>
            inner.db.transaction(async (tx) => {
              await session.query('select 1')
              await handle.save({ half: true }, tx)
            }),
          )
          return { status: 'done', result: {} }
        }),
      ])
      expect(report).toMatchObject({ finished: 1, failed: 0 })
      expect(await findRun(ctx.db, run.id)).toMatchObject({ state: 'done', attempt: 1 })
    } finally {
      await runtime.close()
      await made.drop()
    }
  })
})
