import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig, type Schedule } from '../../lib/config/index.ts'
import { claimSlot, findRun, type Job, resolveSchedule, tick, work } from '../../lib/jobs/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { JobVerb } from '../../lib/platform/job.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { hurriedQueue } from './jobs.ts'

const test = useTestDatabase()

const planned = (schedule: Schedule) => resolveSchedule('sweep', schedule, 'UTC')

function job(run: JobVerb, more: Partial<Job> = {}): Job {
  return {
    name: 'sweep',
    description: '',
    schedule: planned('0 2 * * *'),
    run,
    plan: async () => [],
    ...more,
  }
}

const slot = new Date('2026-11-21T02:00:00Z')

beforeEach(async () => {
  await test.db.execute('truncate caretaker.runs, caretaker.watched_jobs, caretaker.outbox')
})

describe('claimSlot', () => {
  it('lets one of many simultaneous firings through', async () => {
    const ctx = testContext(test.db)
    const claims = await Promise.all(Array.from({ length: 8 }, () => claimSlot(ctx, { job: 'sweep', slot, kind: 'planned' })))
    expect(claims.filter((claim) => claim.claimed)).toHaveLength(1)
    expect(new Set(claims.map((claim) => claim.run.id)).size).toBe(1)
  })

  it('says what to do on a database without the tables', async () => {
    const bare = testContext(test.db)
    await test.db.execute('alter schema caretaker rename to hidden')
    await expect(claimSlot(bare, { job: 'sweep', slot, kind: 'planned' })).rejects.toMatchObject({
      code: 'not_configured',
      detail: expect.stringContaining('db migrate'),
    })
    await test.db.execute('alter schema hidden rename to caretaker')
  })
})

describe('work', () => {
  it('runs each claimed slot once, with several workers at a time', async () => {
    let runs = 0
    const jobs = [job(async () => ({ status: 'done', result: { number: ++runs } }))]
    const ctx = testContext(test.db)
    const { run } = await claimSlot(ctx, { job: 'sweep', slot, kind: 'planned' })
    await Promise.all([work(ctx, jobs), work(ctx, jobs), work(ctx, jobs)])
    expect(runs).toBe(1)
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', attempt: 1, result: { number: 1 } })
    await claimSlot(ctx, { job: 'sweep', slot, kind: 'planned' })
    await work(ctx, jobs)
    expect(runs).toBe(1)
  })

  it('hands over with a checkpoint and goes on from it', async () => {
    const jobs = [
      job(async (_ctx, run) => {
        const done = (run.checkpoint as number | null) ?? 0
        if (done === 3) return { status: 'done', result: { done } }
        await run.save(done + 1)
        return { status: 'hand-over' }
      }),
    ]
    const ctx = testContext(test.db)
    const { run } = await claimSlot(ctx, { job: 'sweep', slot, kind: 'planned' })
    const report = await work(ctx, jobs)
    expect(report).toMatchObject({ handedOver: 3, finished: 1 })
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', result: { done: 3 }, dispatch: 3 })
  })

  it('takes nothing when the deadline is near, and says that work is left', async () => {
    const ctx = testContext(test.db, { deadline: new Date(Date.now() + 1_000) })
    await claimSlot(ctx, { job: 'sweep', slot, kind: 'planned' })
    expect(await work(ctx, [job(async () => ({ status: 'done', result: {} }))])).toMatchObject({ finished: 0, more: true })
  })

  it('fails at once on an error that a retry would repeat, and tells the outbox', async () => {
    const ctx = testContext(test.db)
    const { run } = await claimSlot(ctx, { job: 'sweep', slot, kind: 'planned' })
    const jobs = [
      job(async () => {
        throw new CaretakerError('policy_invalid', 'no such table')
      }),
    ]
    await work(ctx, jobs)
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'failed', error: { code: 'policy_invalid', detail: 'no such table' } })
    expect(await test.db.query('select topic from caretaker.outbox')).toEqual([{ topic: 'job.failed' }])
  })

  it('keeps row values out of the error it stores', async () => {
    const ctx = testContext(test.db)
    await hurriedQueue(ctx)
    await test.db.execute('create table if not exists people (email text unique)')
    const { run } = await claimSlot(ctx, { job: 'sweep', slot, kind: 'planned' })
    let attempts = 0
    const jobs = [
      job(async (inner) => {
        if (++attempts > 1) return { status: 'done', result: {} }
        await inner.db.execute(`insert into people values ('secret@person.example'), ('secret@person.example')`)
        return { status: 'done', result: {} }
      }),
    ]
    await work(ctx, jobs, { until: run.id })
    expect(attempts).toBe(2)
    const [row] = await test.db.query('select to_jsonb(r)::text as text from caretaker.runs r')
    expect(row?.text).not.toContain('secret@person')
  })

  it('stores an error whose text jsonb would refuse', async () => {
    const ctx = testContext(test.db)
    const { run } = await claimSlot(ctx, { job: 'sweep', slot, kind: 'planned' })
    const broken = `a\0b ${'👍'.slice(0, 1)}`
    await work(ctx, [job(() => Promise.reject(new CaretakerError('invalid_input', broken)))])
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'failed', error: { code: 'invalid_input', detail: 'ab \ufffd' } })
  })

  it('stops a worker whose run was taken by another', async () => {
    const clock = fixedClock('2026-11-21T12:00:00Z')
    const ctx = testContext(test.db, { clock, deadline: new Date('2026-11-21T12:10:00Z') })
    const { run } = await claimSlot(ctx, { job: 'sweep', slot, kind: 'planned' })
    let saved: unknown
    const jobs = [
      job(async (inner, handle) => {
        await inner.db.execute('update caretaker.runs set attempt = attempt + 1 where id = $1::uuid', [handle.id])
        // So near its deadline the worker does not stay to see whether the other one lives.
        clock.advance(595_000)
        saved = await handle.save({ wrong: true }).catch((error: unknown) => error)
        throw saved
      }),
    ]
    await work(ctx, jobs)
    expect(saved).toMatchObject({ code: 'lease_lost' })
    expect(await findRun(test.db, run.id)).toMatchObject({ checkpoint: null, error: null })
  })
})

describe('tick', () => {
  const noop: JobVerb = async () => ({ status: 'done', result: {} })
  const states = () => test.db.query('select slot, state, kind from caretaker.runs order by slot')

  it('claims a due slot once, and not those from before the job was watched', async () => {
    const clock = fixedClock('2026-11-21T01:59:30Z')
    const ctx = testContext(test.db, { clock })
    expect((await tick(ctx, [job(noop)])).claimed).toEqual([])
    clock.advance(60_000)
    const [one, two] = await Promise.all([tick(ctx, [job(noop)]), tick(ctx, [job(noop)])])
    expect([...one.claimed, ...two.claimed]).toEqual([{ job: 'sweep', slot, late: false }])
    expect((await tick(ctx, [job(noop)])).claimed).toEqual([])
  })

  it.each([
    ['last', ['skipped', 'skipped', 'queued']],
    ['all', ['queued', 'queued', 'queued']],
    ['skip', ['skipped', 'skipped', 'skipped']],
  ] as const)('catches up on three missed days as the policy "%s" says', async (missed, expected) => {
    const clock = fixedClock('2026-11-21T12:00:00Z')
    const ctx = testContext(test.db, { clock })
    const jobs = [job(noop, { schedule: planned({ cron: '0 2 * * *', missed }) })]
    await tick(ctx, jobs)
    clock.advance(3 * 86_400_000)
    await tick(ctx, jobs)
    expect((await states()).map((row) => row.state)).toEqual(expected)
    expect(await test.db.query(`select payload->>'slots' as slots from caretaker.outbox where topic = 'job.missed'`)).toEqual([
      { slots: '3' },
    ])
    await tick(ctx, jobs)
    expect(await states()).toHaveLength(3)
  })

  it('sees to the slots of a schedule until the moment it changes, and not to earlier ones of the new', async () => {
    const clock = fixedClock('2026-11-21T12:00:00Z')
    const ctx = testContext(test.db, { clock })
    await tick(ctx, [job(noop)])
    clock.advance(86_400_000 * 2)
    await tick(ctx, [job(noop, { schedule: planned('0 4 * * *') })])
    expect(await states()).toEqual([
      { slot: new Date('2026-11-22T02:00:00Z'), state: 'skipped', kind: 'caught-up' },
      { slot: new Date('2026-11-23T02:00:00Z'), state: 'queued', kind: 'caught-up' },
    ])
    clock.advance(86_400_000)
    await tick(ctx, [job(noop, { schedule: planned('0 4 * * *') })])
    expect((await states()).slice(2)).toEqual([{ slot: new Date('2026-11-24T04:00:00Z'), state: 'queued', kind: 'caught-up' }])
  })

  it('owes nothing for the time in which the policy had no such job', async () => {
    const clock = fixedClock('2026-11-21T12:00:00Z')
    const ctx = testContext(test.db, { clock })
    const daily = job(noop, { schedule: planned({ cron: '0 2 * * *', missed: 'all' }) })
    const other = job(noop, { name: 'other', schedule: planned('0 0 1 1 *') })
    await tick(ctx, [daily, other])
    for (let day = 0; day < 3; day++) {
      clock.advance(86_400_000)
      await tick(ctx, [other])
    }
    await tick(ctx, [daily, other])
    expect(await states()).toEqual([])
    clock.advance(86_400_000)
    await tick(ctx, [daily, other])
    expect(await states()).toHaveLength(1)
  })

  it('catches up on everything after a standstill, with several hosts at once', async () => {
    const clock = fixedClock('2026-11-21T12:00:00Z')
    const ctx = testContext(test.db, { clock })
    const all = ['a', 'b', 'c'].map((name) => job(noop, { name, schedule: planned({ cron: '0 2 * * *', missed: 'all' }) }))
    await tick(ctx, all)
    clock.advance(3 * 86_400_000)
    await Promise.all([tick(ctx, all), tick(ctx, all.toReversed()), tick(ctx, all)])
    expect(await states()).toHaveLength(9)
  })

  it('after a long standstill runs the newest slot at once, and sees to all the others, a thousand a tick', async () => {
    const clock = fixedClock('2026-11-21T12:00:00Z')
    const ctx = testContext(test.db, { clock })
    const minutely = [job(noop, { schedule: planned('* * * * *') })]
    await tick(ctx, minutely)
    clock.advance(2_500 * 60_000)
    const first = await tick(ctx, minutely)
    expect(first.claimed).toEqual([{ job: 'sweep', slot: clock.now(), late: false }])
    expect(first.skipped).toHaveLength(1_000)
    expect((await tick(ctx, minutely)).skipped).toHaveLength(1_000)
    expect((await tick(ctx, minutely)).skipped).toHaveLength(499)
    expect(await states()).toHaveLength(2_500)
    const told = await test.db.query(`select sum((payload->>'slots')::int)::int as slots from caretaker.outbox where topic = 'job.missed'`)
    expect(told).toEqual([{ slots: 2_499 }])
  })

  it('looks no further back than runs are kept: what was pruned does not look unclaimed', async () => {
    const clock = fixedClock('2026-11-21T12:00:00Z')
    const ctx = testContext(test.db, { clock, config: defineConfig({ app: { name: 'Test' }, history: { keep: '10 days' } }) })
    const jobs = [job(noop, { schedule: planned({ cron: '0 2 * * *', missed: 'all' }) })]
    await tick(ctx, jobs)
    clock.advance(30 * 86_400_000)
    await tick(ctx, jobs)
    expect(await states()).toHaveLength(9)
  })

  it('queues a run for waiting work, one at a time', async () => {
    const ctx = testContext(test.db)
    const jobs = [job(noop, { schedule: null, pending: async () => true })]
    await tick(ctx, jobs)
    await tick(ctx, jobs)
    expect(await states()).toHaveLength(1)
  })
})
