import { beforeEach, describe, expect, it, vi } from 'vitest'
import { claimSlot, findRun, fire, tick, work } from '../../lib/jobs/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { eventsOf, jobOf } from './jobs.ts'

const test = useTestDatabase()
const hourMs = 3_600_000

beforeEach(async () => {
  await test.db.execute('truncate caretaker.runs, caretaker.watched_jobs, caretaker.outbox')
})

function hosts(at: string) {
  const clock = fixedClock(at)
  const on = (deployment: string) => {
    const ctx = testContext(test.db, { clock })
    return { ...ctx, env: { ...ctx.env, CARETAKER_DEPLOYMENT: deployment } }
  }
  return { clock, netlify: on('site-1'), vercel: on('prj_1') }
}

const slots = async (job: string) =>
  (await test.db.query<{ slot: Date; state: string }>('select slot, state from caretaker.runs where job = $1 order by slot', [job])).map(
    ({ slot, state }) => `${slot.toISOString().slice(5, 16)} ${state}`,
  )

describe('two deployments on one database', () => {
  it('with different schedules of one job see each to their own slots, whoever ticks between', async () => {
    const { clock, netlify, vercel } = hosts('2026-11-21T01:30:00Z')
    const atTwo = [jobOf('sweep', '0 2 * * *')]
    const atFour = [jobOf('sweep', { cron: '0 4 * * *', missed: 'skip' })]
    // A tick of each every minute, half a minute apart, over three hours.
    for (let minute = 0; minute < 180; minute++) {
      await tick(netlify, atTwo)
      clock.advance(30_000)
      await tick(vercel, atFour)
      clock.advance(30_000)
    }
    expect(await slots('sweep')).toEqual(['11-21T02:00 queued', '11-21T04:00 queued'])
    // Lapses go by the database's clock; here only what was missed counts.
    expect((await eventsOf(test.db)).filter(({ topic }) => topic === 'job.missed')).toEqual([])
  })

  it('with the same schedule work each slot once, and one goes on where the other stops', async () => {
    const { clock, netlify, vercel } = hosts('2026-11-21T01:59:00Z')
    const jobs = [jobOf('sweep', { cron: '0 * * * *', missed: 'all' })]
    for (let hour = 0; hour < 3; hour++) {
      await Promise.all([tick(netlify, jobs), tick(vercel, jobs)])
      clock.advance(hourMs)
    }
    // One is gone from here on; five hours later it is back, and owes nothing that the other has seen to.
    for (let hour = 0; hour < 5; hour++) {
      await tick(vercel, jobs)
      clock.advance(hourMs)
    }
    await tick(netlify, jobs)
    expect(await slots('sweep')).toHaveLength(8)
    // Each hour's tick comes an hour less a minute late: that is missed, and heard of once a slot.
    const missed = (await eventsOf(test.db)).filter(({ topic }) => topic === 'job.missed')
    expect(missed.map(({ payload }) => payload.slots)).toEqual(Array.from({ length: 8 }, () => 1))
  })

  it('that ticks seldom still catches up on its own jobs', async () => {
    const { clock, netlify, vercel } = hosts('2026-11-21T00:30:00Z')
    const often = [jobOf('minutely', '* * * * *')]
    const seldom = [jobOf('hourly', { cron: '0 * * * *', missed: 'all' })]
    await tick(vercel, seldom)
    for (let minute = 0; minute < 180; minute++) {
      await tick(netlify, often)
      clock.advance(60_000)
    }
    await tick(vercel, seldom)
    expect(await slots('hourly')).toEqual(['11-21T01:00 queued', '11-21T02:00 queued', '11-21T03:00 queued'])
  })

  it('of which one takes the place of the other begins where that one has seen to', async () => {
    const { clock, netlify, vercel } = hosts('2026-11-21T01:30:00Z')
    const jobs = [jobOf('sweep', '0 2 * * *')]
    await tick(netlify, jobs)
    clock.advance(hourMs)
    await tick(vercel, jobs)
    expect(await slots('sweep')).toEqual(['11-21T02:00 queued'])
    // With another schedule there is nothing to go on from.
    await tick({ ...vercel, env: { ...vercel.env, CARETAKER_DEPLOYMENT: 'prj_2' } }, [jobOf('sweep', '15 2 * * *')])
    expect(await slots('sweep')).toHaveLength(1)
  })
})

describe('a host whose clock is wrong', () => {
  it('goes by the database: it claims nothing early, and nothing is missed by it', async () => {
    const jobs = [jobOf('minutely', { cron: '* * * * *', missed: 'all' })]
    const ctx = testContext(test.db)
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3 * hourMs })
    try {
      await tick(ctx, jobs)
      await tick(ctx, jobs)
      expect((await fire(ctx, jobOf('minutely', '* * * * *'))).run.slot.getTime()).toBeLessThan(Date.now() - 2 * hourMs)
    } finally {
      vi.useRealTimers()
    }
    const [watch] = await test.db.query<{ right: boolean }>(
      `select since between now() - interval '5 minutes' and now() as right from caretaker.watched_jobs`,
    )
    expect(watch).toEqual({ right: true })
    const slots = await test.db.query<{ slot: Date }>('select slot from caretaker.runs')
    expect(slots.length).toBeLessThanOrEqual(3)
  })
})

describe("a run of a job that only another deployment's policy has", () => {
  it('is left to that one, and fails as unknown when that one is gone', { timeout: 60_000 }, async () => {
    const at = (deployment: string) => {
      const ctx = testContext(test.db)
      return { ...ctx, env: { ...ctx.env, CARETAKER_DEPLOYMENT: deployment } }
    }
    const [netlify, vercel] = [at('site-1'), at('prj_1')]
    const own = [jobOf('own', '0 2 * * *')]
    await tick(netlify, own)
    const { run } = await claimSlot(netlify, { job: 'own', slot: new Date('2026-11-21T02:00:00Z'), kind: 'planned' })
    await work(vercel, [jobOf('other', null)])
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'queued', attempt: 0 })
    await work(netlify, own)
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', attempt: 1 })
    const { run: last } = await claimSlot(netlify, { job: 'own', slot: new Date('2026-11-22T02:00:00Z'), kind: 'planned' })
    await test.db.execute(`update caretaker.watched_jobs set seen_at = now() - interval '1 hour'`)
    await work(vercel, [jobOf('other', null)])
    expect(await findRun(test.db, last.id)).toMatchObject({ state: 'failed', error: { code: 'job_unknown' } })
  })
})
