import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { objectsIfConfigured } from '../erase/tombstone.ts'

/** Deletes the files of exports whose time is over. The request stays, and says that there was one. @returns how many */
export async function expireExportFiles(ctx: Context): Promise<number> {
  const over = await ctx.db.query<{ id: string; key: string; subjectHash: string }>(
    `select id, receipt ->> 'object' as key, subject_hash as "subjectHash" from caretaker.gdpr_requests
     where kind = 'export' and state in ('done', 'refused') and receipt ? 'object' and file_expires_at <= $1::timestamptz limit 500`,
    [ctx.clock.now()],
  )
  if (over.length === 0) return 0
  const objects = await objectsIfConfigured(ctx)
  if (objects === undefined) return 0
  for (const { id, key, subjectHash } of over) {
    // The file first: a request that names a deleted file is told again, a file that nobody names is never found.
    await objects.delete(key)
    await ctx.db.transaction(async (tx) => {
      const changed = await tx.execute(
        `update caretaker.gdpr_requests set receipt = receipt - 'object' where id = $1::uuid and receipt ->> 'object' = $2`,
        [id, key],
      )
      if (changed > 0)
        await appendAudit(
          tx,
          { actor: { type: 'system', job: 'gdpr' }, clock: ctx.clock },
          { action: 'gdpr.export_expired', target: subjectHash, detail: { request: id } },
        )
    })
  }
  return over.length
}
