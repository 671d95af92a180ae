import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { Batch } from './batch.ts'
import { setMark } from './marks.ts'
import { ownMetrics } from './own-metrics.ts'
import { storeBatch } from './store-batch.ts'

/** A run's end is written a moment before it can be seen. */
const settleMs = 15_000
/** How far back the first look goes. */
const firstLookMs = 3_600_000

/** Counts how long jobs worked that have ended since the last look: each run once, whatever ends in between. */
export async function countRuns(ctx: Context): Promise<number> {
  const environment = environmentOf(ctx)
  const known = ownMetrics.caretaker_job_duration_seconds
  const now = ctx.clock.now()
  const until = new Date(now.getTime() - settleMs)
  if (known === undefined) return 0
  return ctx.db.transaction(async (tx) => {
    const first = new Date(now.getTime() - firstLookMs)
    await setMark(tx, environment, 'jobs', first)
    const [mark] = await tx.query<{ at: Date }>(
      `select at from caretaker.metric_marks where environment = $1::text and name = 'jobs' for update`,
      [environment],
    )
    const runs = await tx.query<{ job: string; state: string; finishedAt: Date; seconds: number }>(
      `select job, state, finished_at as "finishedAt", greatest(0, extract(epoch from finished_at - started_at))::float8 as seconds
       from caretaker.runs
       where state in ('done', 'failed') and started_at is not null and finished_at > $1::timestamptz and finished_at <= $2::timestamptz
         and deployment = $3::text`,
      [mark?.at ?? first, until, ctx.env.CARETAKER_DEPLOYMENT ?? 'default'],
    )
    const batch = new Batch()
    for (const { job, state, finishedAt, seconds } of runs)
      batch.add({ name: 'caretaker_job_duration_seconds', labels: { job, state }, source: 'caretaker', ...known }, seconds, finishedAt)
    await storeBatch(tx, environment, batch, { now })
    await setMark(tx, environment, 'jobs', until)
    return runs.length
  })
}
