import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { claimVerdicts, judge } from './due.ts'
import { isScheduled, type Job } from './job.ts'
import { type Claim, claimManually, claimSlot, findSlot, ledger } from './ledger.ts'
import { currentSlot, nextSlots } from './slots.ts'
import { planningTime } from './time.ts'
import { isOwed } from './watch.ts'

/** Clocks fire a little early too: within this time before a planned instant a firing may be for that one, ms. */
const earlyMs = 30_000

/**
 * A firing of a host's clock, which does not say which slot it is for. It claims the current one, unless somebody has; then
 * the one that comes within half a minute, if there is one. A firing that comes after the start grace does what the policy
 * says of missed slots. Double, late and foreign firings are harmless: a slot is claimed once.
 */
export async function fire(ctx: Context, job: Job): Promise<Claim> {
  if (!isScheduled(job)) return { run: await claimManually(ctx, job.name), claimed: true }
  return ledger(async () => {
    const now = await planningTime(ctx)
    const current = currentSlot(job.schedule, now)
    const [next] = nextSlots(job.schedule, now, 1)
    const late = current !== null && now.getTime() - current.getTime() > job.schedule.startGraceMs
    const onTime = current === null || late ? null : await claimSlot(ctx, { job: job.name, slot: current, kind: 'planned' })
    if (onTime?.claimed === true) return onTime
    if (next !== undefined && next.getTime() - now.getTime() <= earlyMs)
      return claimSlot(ctx, { job: job.name, slot: next, kind: 'planned' })
    if (onTime !== null) return onTime
    if (current === null) throw new CaretakerError('conflict', `The schedule of ${job.name} has never come yet.`)
    // Slots from before the job was watched are nobody's; who fires one means it.
    if (!(await isOwed(ctx, job, current))) return claimSlot(ctx, { job: job.name, slot: current, kind: 'planned' })
    const [mine] = await ctx.db.transaction((tx) => claimVerdicts(tx, ctx, job, judge(job.schedule, [current], current, now)))
    const run = await findSlot(ctx.db, job.name, current)
    if (run === null) throw new CaretakerError('conflict', `The slot of ${job.name} was removed in this moment; try again.`)
    return { run, claimed: mine?.state === 'queued' }
  })
}
