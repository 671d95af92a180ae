import type { JobPlan, JobVerb } from '../../platform/job.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { noteLoss } from '../loss.ts'
import { sharedBackup } from '../shared-dump/shared-backup.ts'
import { pruneIncrements } from './prune-increments.ts'
import { takeIncrement } from './take-increment.ts'

/** The hourly increment, and a full backup where the increments cannot go on without one. */
export const incrementJob: JobVerb = async (ctx, run) => {
  const report = await takeIncrement(ctx, { shouldStop: () => run.shouldHandOver() })
  if (report.status === 'stopped')
    await ctx.db.transaction((tx) => emitEvent(tx, 'backup.increments_stopped', { reason: report.reason, slot: run.slot.toISOString() }))
  if (report.status === 'off') ctx.log.warn({ reason: report.reason }, 'increments are off: full backups only')
  if (report.gaps.length > 0)
    ctx.log.warn({ gaps: report.gaps.map((gap) => gap.table) }, 'changes of tables without a key cannot be repeated')
  if (report.status === 'stored' && !report.caughtUp) return { status: 'hand-over', progress: true }
  const pruned = await pruneIncrements(ctx)
  if (report.status !== 'stored' || report.fullNeeded === null) {
    await noteLoss(ctx)
    return { status: 'done', result: { ...report, pruned } }
  }
  ctx.log.warn({ reason: report.fullNeeded }, 'increments need a new full backup')
  const full = await sharedBackup(ctx, run)
  if (full === 'hand-over') return { status: 'hand-over', progress: true }
  await ctx.db.transaction((tx) => emitEvent(tx, 'backup.increments_based', { backup: full.id, reason: report.fullNeeded }))
  await noteLoss(ctx)
  return { status: 'done', result: { ...report, pruned, full: full.id } }
}

/** What an increment would read now. */
export const planIncrement: JobPlan = async (ctx) => {
  const slots = await ctx.db.query<{ name: string; lag: number }>(
    `select slot_name::text as name, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::float8 as lag
     from pg_catalog.pg_replication_slots where slot_type = 'logical' and database = current_database() and starts_with(slot_name::text, 'caretaker_')`,
  )
  const store = await ctx.objects()
  const [slot] = slots
  if (slot === undefined)
    return [
      {
        action: `make a replication slot, and a full backup to go on from, in ${store.url}`,
        target: 'the database',
        count: null,
        unit: 'bytes',
      },
    ]
  return [
    { action: `read the log since the last increment to ${store.url}`, target: slot.name, count: slot.lag, unit: 'bytes', estimated: true },
  ]
}
