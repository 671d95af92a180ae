import type { JobPlan, JobVerb } from '../platform/job.ts'
import { backupDatabase } from './backup-database.ts'
import { listTables } from './catalogue.ts'
import { backupPolicy } from './policy.ts'
import { sourceScope } from './supabase.ts'

/** The scheduled backup. */
export const backupJob: JobVerb = async (ctx, run) => {
  const report = await backupDatabase(ctx, { run })
  return { status: 'done', result: { ...report } }
}

/** What a backup would read now. */
export const planBackup: JobPlan = async (ctx) => {
  const policy = backupPolicy(ctx)
  const tables = await listTables(ctx.db, await sourceScope(ctx.db, policy))
  const bytes = tables.reduce((sum, table) => sum + table.bytes, 0)
  const store = await ctx.objects()
  return [
    {
      action: `dump ${tables.length} tables to ${store.url}${policy.recipients === null ? ', not encrypted' : ''}`,
      target: 'the database',
      count: bytes,
      unit: 'bytes',
      estimated: true,
      ...(policy.recipients === null ? { warnings: ['backup.encryption is "none": whoever reads the store reads the data.'] } : {}),
    },
  ]
}
