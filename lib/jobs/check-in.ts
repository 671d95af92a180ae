import { randomUUID } from 'node:crypto'
import { checkInAtSentry, ping, type SentryCheckIn } from '../platform/check-in.ts'
import type { Context } from '../platform/context.ts'
import { isScheduled, type Job } from './job.ts'
import type { Run } from './ledger.ts'
import { runGraceMs } from './slots.ts'

/** A tick is expected at least this often, minutes: the clock may be somebody else's than the host's minute. */
const tickMinutes = 15

/** One run, told to the monitors outside: Sentry Crons, and the job's heartbeat address. */
export interface CheckIn {
  /** Tells that the run has begun, unless an earlier taking has. Returns at once. */
  begin(): void
  /** Tells how it ended; waits for it, some seconds at most. Never throws. */
  end(status: 'ok' | 'error'): Promise<void>
}

const nobody: CheckIn = { begin: () => undefined, end: () => Promise.resolve() }

/** The monitors of a job with a schedule. Others have no time at which they could be missed. */
export function openCheckIn(ctx: Context, job: Job | undefined, run: Run): CheckIn {
  if (job === undefined || !isScheduled(job)) return nobody
  const { cron, timezone, startGraceMs } = job.schedule
  const address = job.heartbeat ?? sharedAddress(ctx, job.name)
  const sentry: Omit<SentryCheckIn, 'status'> = {
    slug: slugOf(job.name),
    id: run.id,
    // Sentry reads the plain kind of expressions alone; a monitor for another one is made by hand.
    ...(/^[\d*,/\s-]+$/.test(cron)
      ? {
          monitor: {
            schedule: { type: 'crontab', value: cron },
            timezone,
            checkinMargin: minutes(startGraceMs),
            maxRuntime: minutes(runGraceMs(job.schedule, run.slot)),
          },
        }
      : {}),
  }
  const tell = async (event: 'start' | 'success' | 'fail', checkIn: SentryCheckIn) => {
    const taken = await Promise.all([
      address === undefined || ping(ctx.fetch, address, event, run.id),
      checkInAtSentry(ctx.env, ctx.fetch, checkIn, ctx.clock.now()),
    ])
    if (taken.includes(false)) ctx.log.warn({ job: job.name, event, heartbeat: taken[0], sentry: taken[1] }, 'a check-in was not taken')
  }
  let begun = Promise.resolve()
  return {
    begin() {
      if (run.attempt === 1) begun = tell('start', { ...sentry, status: 'in_progress' })
    },
    async end(status) {
      // In their order: a start that comes after its end would look like another run.
      await begun
      const durationSeconds = Math.max(0, ctx.clock.now().getTime() - (run.started_at ?? ctx.clock.now()).getTime()) / 1_000
      await tell(status === 'ok' ? 'success' : 'fail', { ...sentry, status, durationSeconds })
    },
  }
}

/** Tells that the clock has ticked, or could not: who watches must be watched. */
export async function checkInTick(ctx: Context, status: 'ok' | 'error'): Promise<void> {
  const address = sharedAddress(ctx, 'tick') ?? ctx.env.HEARTBEAT_URL
  const [heartbeat, sentry] = await Promise.all([
    address === undefined || ping(ctx.fetch, address, status === 'ok' ? 'success' : 'fail'),
    checkInAtSentry(
      ctx.env,
      ctx.fetch,
      {
        slug: slugOf('tick'),
        id: randomUUID(),
        status,
        monitor: { schedule: { type: 'interval', value: tickMinutes, unit: 'minute' }, checkinMargin: 1, maxRuntime: 1 },
      },
      ctx.clock.now(),
    ),
  ])
  if (!heartbeat || !sentry) ctx.log.warn({ job: 'tick', heartbeat, sentry }, 'a check-in was not taken')
}

/** HEARTBEAT_URL where it names each job's own. */
function sharedAddress(ctx: Context, name: string): string | undefined {
  const shared = ctx.env.HEARTBEAT_URL
  return shared?.includes('{job}') === true ? shared.replaceAll('{job}', encodeURIComponent(name)) : undefined
}

function slugOf(name: string): string {
  return `caretaker-${name}`.slice(0, 50)
}

function minutes(ms: number): number {
  return Math.max(1, Math.ceil(ms / 60_000))
}
