import { beforeEach, describe, expect, it } from 'vitest'
import { fire, type Job, tick } from '../../lib/jobs/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { eventsOf, jobOf } from './jobs.ts'

const test = useTestDatabase()

beforeEach(async () => {
  await test.db.execute('truncate caretaker.runs, caretaker.watched_jobs, caretaker.outbox')
})

const at = (time: string) => testContext(test.db, { clock: fixedClock(time) })
const fired = async (time: string, job: Job) => {
  const { run, claimed } = await fire(at(time), job)
  return `${run.slot.toISOString().slice(5, 19)} ${run.kind} ${run.state}${claimed ? '' : ' before'}`
}
const daily = jobOf('sweep', '0 2 * * *')
const minutely = jobOf('sweep', '* * * * *')

describe('a firing', () => {
  it('on time, a little early, twice, is for one slot', async () => {
    expect(await fired('2026-11-21T01:59:40Z', daily)).toBe('11-21T02:00:00 planned queued')
    expect(await fired('2026-11-21T02:00:01Z', daily)).toBe('11-21T02:00:00 planned queued before')
    expect(await fired('2026-11-21T02:04:59Z', daily)).toBe('11-21T02:00:00 planned queued before')
  })

  it('of every minute takes its own minute before the next one', async () => {
    expect(await fired('2026-11-21T02:00:40Z', minutely)).toBe('11-21T02:00:00 planned queued')
    expect(await fired('2026-11-21T02:00:41Z', minutely)).toBe('11-21T02:01:00 planned queued')
    expect(await fired('2026-11-21T02:00:42Z', minutely)).toBe('11-21T02:01:00 planned queued before')
  })

  it('of many hosts at once lets one through', async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => fire(at('2026-11-21T02:00:01Z'), daily)))
    expect(all.filter(({ claimed }) => claimed)).toHaveLength(1)
  })

  it('late, of a job that nobody watches yet, is meant', async () => {
    expect(await fired('2026-11-21T14:00:00Z', jobOf('sweep', { cron: '0 2 * * *', missed: 'skip' }))).toBe('11-21T02:00:00 planned queued')
    expect(await eventsOf(test.db)).toEqual([])
  })

  it.each([
    ['last', 'queued'],
    ['all', 'queued'],
    ['skip', 'skipped'],
  ] as const)('past the start grace does what the policy "%s" says, and is heard', async (missed, state) => {
    const job = jobOf('sweep', { cron: '0 2 * * *', missed, startGrace: '1 hour' })
    await tick(at('2026-11-20T12:00:00Z'), [job])
    expect(await fired('2026-11-21T02:59:00Z', job)).toBe('11-21T02:00:00 planned queued')
    expect(await fired('2026-11-22T03:00:01Z', job)).toBe(`11-22T02:00:00 caught-up ${state}${state === 'skipped' ? ' before' : ''}`)
    expect(await fired('2026-11-22T03:00:02Z', job)).toBe(`11-22T02:00:00 caught-up ${state} before`)
    expect(await eventsOf(test.db)).toMatchObject([{ topic: 'job.missed', payload: { job: 'sweep', slots: 1, policy: missed } }])
  })

  it('of a job without a schedule asks for a run', async () => {
    expect(await fired('2026-11-21T02:00:00Z', jobOf('sweep', null))).toMatch(/manual queued$/)
  })
})
