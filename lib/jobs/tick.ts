import type { Context } from '../platform/context.ts'
import { CaretakerError, hasCode } from '../platform/errors.ts'
import { isScheduled, type Job } from './job.ts'
import { findLapses, type Lapses } from './lapses.ts'
import { claimIfIdle, ledger } from './ledger.ts'
import { planningTime } from './time.ts'
import { markSeen, readWatches, seeToDue } from './watch.ts'

export interface TickReport extends Lapses {
  /** Slots claimed now. */
  claimed: { job: string; slot: Date; late: boolean }[]
  /** Slots that nobody claimed in time and that the policy says to skip. */
  skipped: { job: string; slot: Date }[]
  /** Jobs whose slots or whose waiting work could not be looked at; the others were. */
  troubled: { job: string; code: string }[]
  /** Runs are waiting: a worker should be woken. */
  wake: boolean
}

/**
 * Once a minute: claims every slot that is due and that no other firing has claimed, catches up on what was missed as
 * each job's policy says, finds work that waits, and says which runs are overdue, overrunning or left by their worker.
 * Harmless twice at once, late, or on two hosts.
 */
export async function tick(ctx: Context, jobs: readonly Job[]): Promise<TickReport> {
  return ledger(async () => {
    const now = await planningTime(ctx)
    const report: Pick<TickReport, 'claimed' | 'skipped' | 'troubled'> = { claimed: [], skipped: [], troubled: [] }
    // One job whose table is gone or whose condition fails must not stop the clock of the others.
    const apart = async (job: Job, look: () => Promise<void>) => {
      try {
        await look()
      } catch (error) {
        if (hasCode(error, 'database_unavailable')) throw error
        ctx.log.error({ err: error, job: job.name }, 'the tick could not see to a job')
        ctx.sentry.capture(error, { requestId: 'tick', tags: { job: job.name } })
        report.troubled.push({ job: job.name, code: error instanceof CaretakerError ? error.code : 'internal' })
      }
    }
    const scheduled = jobs.filter(isScheduled)
    const watches = await readWatches(ctx, now)
    for (const job of scheduled)
      await apart(job, async () => {
        for (const { slot, kind, state } of await seeToDue(ctx, job, watches, now)) {
          if (state === 'queued') report.claimed.push({ job: job.name, slot, late: kind === 'caught-up' })
          else report.skipped.push({ job: job.name, slot })
        }
      })
    await markSeen(ctx, scheduled, now)
    for (const job of jobs)
      await apart(job, async () => {
        if (job.pending !== undefined && (await job.pending(ctx))) await claimIfIdle(ctx, job.name)
      })
    const { open, ...lapses } = await findLapses(ctx, jobs)
    return { ...report, ...lapses, wake: open }
  })
}
