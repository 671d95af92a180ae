import type { JobPlan, JobVerb } from '../platform/job.ts'
import { listTables } from './catalogue.ts'
import { prefetchFiles } from './files/index.ts'
import { openIncrements } from './increments/index.ts'
import { backupPolicy } from './policy.ts'
import { pruneBackups } from './prune-backups.ts'
import { sharedBackup } from './shared-dump/shared-backup.ts'
import { sourceScope } from './supabase.ts'

/** The scheduled backup, and after it the retention of backups. */
export const backupJob: JobVerb = async (ctx, run) => {
  // Before the snapshot: what commits later is in the increments then. Never a reason not to back up.
  if (run.checkpoint === null) await openIncrements(ctx)
  // Files first, while no snapshot is held: they may take longer than all the rest.
  const begins = run.checkpoint === null
  if (begins && !(await prefetchFiles(ctx, { shouldStop: () => run.shouldHandOver() }))) return { status: 'hand-over' }
  const report = await sharedBackup(ctx, run)
  if (report === 'hand-over') return { status: 'hand-over' }
  // Only after a good one: a day of failures must not eat the copies there are.
  const pruned = await pruneBackups(ctx)
  return { status: 'done', result: { ...report, removed: pruned.removed, swept: pruned.swept, removedFiles: pruned.files.objects } }
}

/** What a backup would read now, and what would be deleted after it. */
export const planBackup: JobPlan = async (ctx) => {
  const policy = backupPolicy(ctx)
  const tables = await listTables(ctx.db, await sourceScope(ctx.db, policy))
  const bytes = tables.reduce((sum, table) => sum + table.bytes, 0)
  const store = await ctx.objects()
  const prune = await pruneBackups(ctx, { dryRun: true })
  return [
    {
      action: `dump ${tables.length} tables to ${store.url}${policy.recipients === null ? ', not encrypted' : ''}`,
      target: 'the database',
      count: bytes,
      unit: 'bytes',
      estimated: true,
      ...(policy.recipients === null ? { warnings: ['backup.encryption is "none": whoever reads the store reads the data.'] } : {}),
    },
    { action: 'delete backups that backup.keep no longer keeps', target: store.url, count: prune.removed.length, unit: 'objects' },
  ]
}
