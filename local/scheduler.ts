import { type JobSchedule, nextSlots } from '../lib/jobs/index.ts'
import type { Clock } from '../lib/platform/clock.ts'

export interface ScheduledJob {
  name: string
  /** Null for a job that has no times of its own: the tick finds its work. */
  schedule: Pick<JobSchedule, 'cron' | 'timezone'> | null
}

export interface SchedulerOptions {
  jobs: readonly ScheduledJob[]
  clock: Clock
  /** Calls `/api/cron/{name}`; `tick` is the minute's. */
  fire: (name: string) => Promise<void>
  onError: (name: string, error: unknown) => void
  /** Calls back after `ms`; returns what cancels it. For tests. */
  wait?: (ms: number, then: () => void) => () => void
}

export interface Scheduler {
  /** Fires nothing more, and waits for what was fired to be heard. */
  stop(): Promise<void>
}

/** No timer is longer: after the machine slept, timers go by a clock that stood still meanwhile. */
const longestWaitMs = 15_000

/**
 * Does what the hosts' clocks do: every minute the tick, and each job at its time. A firing that was slept through
 * happens once, not once for each time it was missed; what to do about missed slots is the tick's to decide.
 */
export function startScheduler(options: SchedulerOptions): Scheduler {
  const { clock, fire, onError } = options
  const wait = options.wait ?? waitFor
  const everyMinute = { name: 'tick', schedule: { cron: '* * * * *', timezone: 'UTC' } }
  const planned = [everyMinute, ...options.jobs].flatMap((job) => {
    const next = job.schedule === null ? undefined : nextSlots(job.schedule, clock.now(), 1)[0]
    return job.schedule === null || next === undefined ? [] : [{ name: job.name, schedule: job.schedule, next }]
  })
  const open = new Map<string, Promise<void>>()
  let cancel = () => {}
  let stopped = false

  const turn = () => {
    if (stopped) return
    const now = clock.now()
    for (const job of planned) {
      if (job.next > now) continue
      // Never, as far as a number of milliseconds goes, for a schedule that has run out.
      job.next = nextSlots(job.schedule, now, 1)[0] ?? new Date(8.64e15)
      // One that is not answered yet is not asked again.
      if (open.has(job.name)) continue
      const heard = fire(job.name)
        .catch((error: unknown) => onError(job.name, error))
        .finally(() => open.delete(job.name))
      open.set(job.name, heard)
    }
    const soonest = Math.min(...planned.map((job) => job.next.getTime()))
    cancel = wait(Math.min(longestWaitMs, Math.max(1, soonest - clock.now().getTime())), turn)
  }
  turn()

  return {
    async stop() {
      stopped = true
      cancel()
      await Promise.all(open.values())
    },
  }
}

function waitFor(ms: number, then: () => void): () => void {
  const timer = setTimeout(then, ms)
  return () => clearTimeout(timer)
}

/** Fires over HTTP, as the hosts do. */
export function fireOverHttp(url: string, cronSecret: string): (name: string) => Promise<void> {
  return async (name) => {
    const response = await fetch(`${url}/api/cron/${encodeURIComponent(name)}`, {
      headers: { authorization: `Bearer ${cronSecret}` },
      signal: AbortSignal.timeout(30_000),
    })
    const body = await response.text()
    if (!response.ok) throw new Error(`${response.status} ${body.slice(0, 200)}`)
  }
}
