import { describe, expect, it } from 'vitest'
import { fixedClock } from '../../lib/platform/clock.ts'
import { type ScheduledJob, startScheduler } from '../../local/scheduler.ts'

/** A scheduler whose timers go off when the test says so. */
function drive(jobs: ScheduledJob[], at = '2026-11-21T13:58:30Z', fire: (name: string) => Promise<void> = () => Promise.resolve()) {
  const clock = fixedClock(at)
  const fired: string[] = []
  const errors: string[] = []
  let timer: { ms: number; then: () => void } | undefined
  const scheduler = startScheduler({
    jobs,
    clock,
    fire: (name) => {
      fired.push(`${clock.now().toISOString().slice(11, 19)} ${name}`)
      return fire(name)
    },
    onError: (name) => errors.push(name),
    wait: (ms, then) => {
      timer = { ms, then }
      return () => {
        timer = undefined
      }
    },
  })
  const settle = () => new Promise((resolve) => setImmediate(resolve))
  return {
    fired,
    errors,
    scheduler,
    /** Lets time pass, timer by timer. */
    async pass(seconds: number) {
      const until = clock.now().getTime() + seconds * 1000
      while (timer !== undefined && clock.now().getTime() + timer.ms <= until) {
        const due = timer
        clock.advance(due.ms)
        due.then()
        await settle()
      }
      clock.advance(Math.max(0, until - clock.now().getTime()))
    },
    /** The machine sleeps: time passes and no timer goes off, then the next one does. */
    async sleep(seconds: number) {
      clock.advance(seconds * 1000)
      timer?.then()
      await settle()
    },
    waiting: () => timer !== undefined,
  }
}

const cleanup = { name: 'daily-cleanup', schedule: { cron: '0 14 * * *', timezone: 'UTC' } }

describe('startScheduler', () => {
  it('fires the tick every minute and a job at its time', async () => {
    const run = drive([cleanup, { name: 'webhooks', schedule: null }])
    await run.pass(180)
    expect(run.fired).toEqual(['13:59:00 tick', '14:00:00 tick', '14:00:00 daily-cleanup', '14:01:00 tick'])
  })

  it('keeps to the time zone of the schedule', async () => {
    const run = drive([{ name: 'berlin', schedule: { cron: '0 15 * * *', timezone: 'Europe/Berlin' } }])
    await run.pass(120)
    expect(run.fired).toContain('14:00:00 berlin')
  })

  it('fires once after a long sleep, not once for each time slept through', async () => {
    const run = drive([cleanup])
    await run.sleep(5 * 86_400 + 3600)
    expect(run.fired).toEqual(['14:58:30 tick', '14:58:30 daily-cleanup'])
    await run.pass(60)
    expect(run.fired.slice(2)).toEqual(['14:59:00 tick'])
  })

  it('goes on after a firing that failed, and does not ask again what has not answered', async () => {
    let answer: (() => void) | undefined
    const run = drive([cleanup], '2026-11-21T13:58:30Z', (name) =>
      name === 'tick' ? new Promise((resolve) => (answer = resolve)) : Promise.reject(new Error('refused')),
    )
    await run.pass(150)
    expect(run.fired).toEqual(['13:59:00 tick', '14:00:00 daily-cleanup'])
    expect(run.errors).toEqual(['daily-cleanup'])
    answer?.()
    await run.pass(60)
    expect(run.fired.at(-1)).toMatch(/tick$/)
  })

  it('stops', async () => {
    const run = drive([cleanup])
    await run.scheduler.stop()
    expect(run.waiting()).toBe(false)
    await run.sleep(86_400)
    expect(run.fired).toEqual([])
  })
})
