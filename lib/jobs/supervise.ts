import type { Context } from '../platform/context.ts'
import { emitEvent } from '../platform/outbox.ts'
import { dispatchId } from './dispatch.ts'
import { type Run, runColumns } from './ledger.ts'
import { type Queue, queueName, superviseQueue } from './queue.ts'
import { markFailed } from './settle.ts'

/**
 * Gives jobs of dead workers back to the queue, closes the runs whose last attempt died with its worker, and queues
 * those anew that the queue knows nothing of (it was restored without its schema, or made anew).
 * @returns the runs that have failed by it
 */
export async function supervise(ctx: Context, { boss, heartbeatSeconds }: Queue): Promise<Run[]> {
  await superviseQueue(ctx, boss)
  const open = await ctx.db.query<Run>(
    `select ${runColumns} from caretaker.runs
     where state in ('dispatched', 'running') and coalesce(heartbeat_at, queued_at) < now() - make_interval(secs => $1::int) limit 100`,
    [2 * heartbeatSeconds],
  )
  const failed: Run[] = []
  for (const run of open) {
    const [queued] = await boss.findJobs(queueName, { id: dispatchId(run) })
    if (queued === undefined) await requeue(ctx, run)
    else if ((queued.state === 'failed' || queued.state === 'cancelled') && (await giveUp(ctx, run))) failed.push(run)
  }
  return failed
}

async function requeue(ctx: Context, run: Run): Promise<void> {
  await ctx.db.execute(
    `update caretaker.runs set state = 'queued', dispatch = dispatch + 1
     where id = $1::uuid and dispatch = $2::int and attempt = $3::int and state in ('dispatched', 'running')`,
    [run.id, run.dispatch, run.attempt],
  )
}

/** The queue has tried it as often as it may: with its last error, or else because every worker died of it. */
async function giveUp(ctx: Context, run: Run): Promise<boolean> {
  return ctx.db.transaction(async (tx) => {
    const died = { code: 'job_abandoned', detail: `The worker died in each of ${run.attempt} attempts.` }
    if (!(await markFailed(tx, run, run.error ?? died))) return false
    const said = await tx.execute(
      'update caretaker.runs set abandoned_at = clock_timestamp() where id = $1::uuid and abandoned_at is null',
      [run.id],
    )
    if (said > 0 && run.error === null) await emitEvent(tx, 'job.abandoned', { job: run.job, slot: run.slot, run: run.id })
    return true
  })
}
