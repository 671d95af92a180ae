import type { Readable } from 'node:stream'
import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { objectsIfConfigured } from '../erase/tombstone.ts'
import { requireLivingSubject } from './identity.ts'
import { byWhom } from './open-request.ts'
import { getRequest } from './request.ts'

/** Long enough for a browser to follow the answer; the address is a secret while it works. */
const addressSeconds = 60

/** Where a file is fetched from, or its bytes where the store has no addresses. */
export type ExportFile = { url: string } | { body: Readable; bytes: number }

/**
 * The file of a finished export. The caller has verified who asks. Each fetch stands in the audit trail.
 * @throws {CaretakerError} `not_found` when there is none, or no longer; `unauthorized` where the person's token has outlived them or their session
 */
export async function openExportFile(ctx: Context, id: string): Promise<ExportFile> {
  const { kind, state, receipt, subjectHash, fileExpiresAt } = await getRequest(ctx, id)
  const key = receipt?.object
  const gone = new CaretakerError(
    'not_found',
    'There is no file to fetch: the export is not finished, or its file was deleted when its time was over.',
  )
  if (kind !== 'export' || state !== 'done' || typeof key !== 'string' || fileExpiresAt === null || fileExpiresAt <= ctx.clock.now())
    throw gone
  await requireLivingSubject(ctx, 'export')
  const objects = await ctx.objects()
  const info = await objects.head(key)
  if (info === null) throw gone
  await ctx.db.transaction((tx) =>
    appendAudit(
      tx,
      { actor: byWhom(ctx), clock: ctx.clock },
      { action: 'gdpr.export_fetched', target: subjectHash, detail: { request: id } },
    ),
  )
  const url = await objects.downloadUrl(key, { seconds: addressSeconds, fileName: exportFileName })
  if (url !== null) return { url }
  const body = await objects.get(key, { signal: ctx.signal })
  if (body === null) throw gone
  return { body, bytes: info.bytes }
}

export const exportFileName = 'your-data.zip'

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
        `update caretaker.gdpr_requests set receipt = receipt - 'object', named = null, code_hash = null where id = $1::uuid and receipt ->> 'object' = $2`,
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
