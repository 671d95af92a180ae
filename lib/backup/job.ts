import type { Context } from '../platform/context.ts'
import type { JobOutcome, JobPlan, JobRun } from '../platform/job.ts'
import { emitEvent } from '../platform/outbox.ts'
import { listTables } from './catalogue.ts'
import { type Deployment, versionConfig } from './config-versions/index.ts'
import { planFiles, prefetchFiles } from './files/index.ts'
import { openIncrements } from './increments/index.ts'
import { noteLoss } from './loss.ts'
import { backupPolicy } from './policy.ts'
import { pruneBackups } from './prune-backups.ts'
import { sharedBackup } from './shared-dump/shared-backup.ts'
import { sourceScope } from './supabase.ts'

/** The scheduled backup, and after it the retention of backups. */
export async function backupJob(ctx: Context, run: JobRun, deployment?: Deployment): Promise<JobOutcome> {
  // Files first, while neither a snapshot nor a slot is held for this: they may take longer than all the rest.
  const begins = run.checkpoint === null
  if (begins && !(await prefetchFiles(ctx, { shouldStop: () => run.shouldHandOver() }))) return { status: 'hand-over', progress: true }
  // Before the snapshot: what commits later is in the increments then. Never a reason not to back up.
  if (begins) await openIncrements(ctx)
  const report = await sharedBackup(ctx, run)
  // Its progress is in the dump's own tables.
  if (report === 'hand-over') return { status: 'hand-over', progress: true }
  if (deployment !== undefined) await versionConfigToo(ctx, deployment)
  // Only after a good one: a day of failures must not eat the copies there are.
  const pruned = await pruneBackups(ctx)
  if (pruned.untrusted.length > 0) {
    ctx.log.error({ backups: pruned.untrusted }, 'there are backups in the store that this deployment did not sign')
    await ctx.db.transaction((tx) => emitEvent(tx, 'backup.untrusted', { backups: pruned.untrusted }))
  }
  await noteLoss(ctx)
  return { status: 'done', result: { ...report, removed: pruned.removed, swept: pruned.swept, removedFiles: pruned.files.objects } }
}

/** The configuration goes with the backup; a backup that is complete does not fail over it, the job config-version will. */
async function versionConfigToo(ctx: Context, deployment: Deployment): Promise<void> {
  try {
    await versionConfig(ctx, deployment)
  } catch (error) {
    ctx.log.error({ err: error }, 'the configuration was not stored with the backup')
  }
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
    ...(await planFiles(ctx)),
    { action: 'delete backups that backup.keep no longer keeps', target: store.url, count: prune.removed.length, unit: 'objects' },
  ]
}
