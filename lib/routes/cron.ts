import { findJob, jobs } from '../catalog.ts'
import { json, type Route, route } from '../http/index.ts'
import { checkInTick, fire, type Job, needsTick, type TickReport, tick } from '../jobs/index.ts'
import type { Context } from '../platform/context.ts'
import { hasCode } from '../platform/errors.ts'
import { type Wake, wakeWorker } from './wake-worker.ts'

/** The hosts' clocks call here: `/api/cron/tick` every minute, `/api/cron/{job}` at the job's time. */
export const cron = ({ wake = wakeWorker }: { wake?: Wake } = {}): Route[] => [
  route({
    methods: ['GET', 'POST'],
    path: '/api/cron/:job',
    summary: 'Fire a job: claims its current slot, once',
    auth: 'cron',
    limit: 'none',
    async handle(ctx, { params }) {
      const all = jobs(ctx.config)
      if (params.job === 'tick') return json(await runTick(ctx, all, wake), { status: 202 })
      const job = findJob(all, params.job as string)
      // A clock of an earlier deploy may still fire what the policy has turned off since. A person runs it by `jobs run`.
      if (ctx.config.schedules?.[job.name] === false)
        return json({ job: job.name, claimed: false, reason: `schedules.${job.name} is false` })
      const { run, claimed } = await fire(ctx, job)
      // Where no clock calls every minute, each firing of a job looks after the others too.
      if (await needsTick(ctx)) await runTick(ctx, all, wake)
      else if (claimed) await wake(ctx)
      return json({ job: job.name, slot: run.slot, run: run.id, state: run.state, claimed }, { status: claimed ? 202 : 200 })
    },
  }),
]

/** A database that takes longer than this to say anything is not there, ms. */
const reachedWithinMs = 8_000

// Which databases this instance could not reach: it says so when it can again.
const lost = new WeakSet<Context['db']>()

/**
 * One tick of the clock: what every host's minute schedule does. Its own watchers are told how it went. Where the database cannot be
 * reached people are told without it, because everything that would tell them stands on it.
 */
export async function runTick(ctx: Context, all: readonly Job[], wake: Wake = wakeWorker): Promise<TickReport> {
  let report: TickReport
  try {
    await ctx.db.probe('select 1', [], AbortSignal.any([ctx.signal, AbortSignal.timeout(reachedWithinMs)]))
    if (lost.has(ctx.db)) await recordOutage(ctx)
    report = await tick(ctx, all)
  } catch (error) {
    if (hasCode(error, 'database_unavailable') || hasCode(error, 'timeout')) {
      lost.add(ctx.db)
      ;(await import('../health/index.ts')).noteDatabaseLost(ctx)
      await (await import('../alerts/index.ts')).tellWithoutDatabase(ctx, error.code)
    }
    await checkInTick(ctx, 'error')
    throw error
  }
  if (lost.delete(ctx.db)) await (await import('../alerts/index.ts')).tellWatchingAgain(ctx)
  if (report.wake) await wake(ctx)
  await checkInTick(ctx, report.troubled.length === 0 ? 'ok' : 'error')
  return report
}

/** Before anybody looks again: what is in the history after the outage stays as it is. */
async function recordOutage(ctx: Context): Promise<void> {
  try {
    await (await import('../health/index.ts')).recordDatabaseOutage(ctx)
  } catch (error) {
    ctx.log.warn({ err: error }, 'the outage of the database is not in the history')
  }
}
