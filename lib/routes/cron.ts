import { findJob, jobs } from '../catalog.ts'
import { json, type Route, route } from '../http/index.ts'
import { claimManually, claimSlot, currentSlot, type Job, nextSlots, tick } from '../jobs/index.ts'
import type { Context } from '../platform/context.ts'
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
      const slot = firingSlot(job, ctx.clock.now())
      const claim =
        slot === null
          ? { run: await claimManually(ctx, job.name), claimed: true }
          : await claimSlot(ctx, { job: job.name, slot, kind: 'planned' })
      if (claim.claimed) await wake(ctx)
      const { id, state } = claim.run
      return json({ job: job.name, slot: claim.run.slot, run: id, state, claimed: claim.claimed }, { status: claim.claimed ? 202 : 200 })
    },
  }),
]

/** One tick of the clock: what every host's minute schedule does. */
export async function runTick(ctx: Context, all: readonly Job[], wake: Wake = wakeWorker) {
  const report = await tick(ctx, all)
  if (report.wake) await wake(ctx)
  return report
}

/**
 * The slot a firing stands for. Hosts fire late, and a little early: within 30 seconds before a planned instant the
 * firing is for that one.
 */
export function firingSlot(job: Job, now: Date): Date | null {
  if (job.schedule === null) return null
  const [next] = nextSlots(job.schedule, now, 1)
  if (next !== undefined && next.getTime() - now.getTime() <= 30_000) return next
  return currentSlot(job.schedule, now)
}
