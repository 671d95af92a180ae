import type { Context } from '../platform/context.ts'
import { sqlState } from '../platform/errors.ts'
import type { JobPlan, JobVerb, PlanLine } from '../platform/job.ts'
import { sourcePolicies } from './handlers.ts'
import { type InboxOutcome, processInbox } from './process-inbox.ts'
import { countOpen, type WaitingType } from './queries.ts'

const batch = 100
/** Events at a time. The engine's heartbeat needs a connection too, and three is the fewest there are. */
const atOnce = 2

/** Applies everything that is due, a batch at a time. Its checkpoint holds only the counts: each event commits by itself. */
export const processInboxJob: JobVerb = async (ctx, run) => {
  const { handedOverBy, ...before } = (run.checkpoint ?? {}) as Partial<InboxOutcome> & { handedOverBy?: number }
  const total: InboxOutcome = { applied: 0, ignored: 0, failed: 0, dead: 0, ...before }
  // The taking before this one did not hand over: it was killed, or an event killed it.
  const afterDeath = run.attempt > 1 && handedOverBy !== run.attempt - 1
  for (;;) {
    const done: InboxOutcome = { applied: 0, ignored: 0, failed: 0, dead: 0 }
    // What a worker may have died of is tried alone: whatever else was begun would be put off with it.
    const together = afterDeath ? 1 : atOnce
    const lanes = await Promise.allSettled(
      Array.from({ length: together }, () => processInbox(ctx, { limit: batch / together, afterDeath })),
    )
    for (const lane of lanes) {
      if (lane.status === 'rejected') throw lane.reason
      for (const key of Object.keys(done) as (keyof InboxOutcome)[]) {
        done[key] += lane.value[key]
        total[key] += lane.value[key]
      }
    }
    if (ctx.signal.aborted || run.shouldHandOver()) {
      await run.save({ ...total, handedOverBy: run.attempt })
      return { status: 'hand-over' }
    }
    if (done.applied + done.ignored + done.failed + done.dead === 0) return { status: 'done', result: { ...total } }
  }
}

/** What waits in the inbox now, by type, and what died there. */
export const planInbox: JobPlan = async (ctx) => {
  const policies = sourcePolicies(ctx)
  const open = await openEvents(ctx)
  return open.map((row): PlanLine => {
    const handled = policies.get(row.source)?.handlers.has(row.type) === true
    const line = { target: 'caretaker.inbox', count: row.count, unit: 'rows' as const }
    if (row.state === 'dead')
      return {
        ...line,
        action: `nothing: ${row.source} ${row.type} are dead letters`,
        warnings: [`${row.count} failed ${row.type} events wait for \`webhooks replay\`.`],
      }
    return {
      ...line,
      action: handled ? `apply ${row.source} ${row.type}` : `set aside ${row.source} ${row.type} (no handler in the policy)`,
    }
  })
}

async function openEvents(ctx: Context): Promise<WaitingType[]> {
  try {
    return await countOpen(ctx.db)
  } catch (error) {
    // A database that has never seen Caretaker has no inbox, and nothing in it.
    if (sqlState(error) === '42P01' || sqlState(error) === '3F000') return []
    throw error
  }
}
