import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { overwrittenColumns } from '../map/subject-map.ts'
import { requirePolicy } from '../policy.ts'
import { byWhom } from '../requests/open-request.ts'
import type { EraseOutcome, Erasure } from './erase-subject.ts'
import type { Progress } from './progress.ts'
import { type Receipt, signReceipt } from './receipt.ts'

/** What the steps did, as a receipt. Tables without a row of this person are not named. */
export function makeReceipt(erasure: Erasure, requestedAt: Date): Receipt {
  const { ctx, map, progress, requestId } = erasure
  const done = progress.rows ?? { deleted: {}, anonymised: {}, kept: {}, cut: {} }
  const setColumns = (key: string) => {
    return overwrittenColumns(map.tables.get(key)?.erase)
  }
  const counted = (rows: Record<string, number>) => Object.entries(rows).filter(([, n]) => n > 0)
  return {
    format: 'caretaker.gdpr.receipt/1',
    app: ctx.config.app.name,
    request: requestId ?? null,
    subject: progress.tags[0] as string,
    subjectTable: map.subject,
    requestedAt: requestedAt.toISOString(),
    completedAt: ctx.clock.now().toISOString(),
    deleted: counted(done.deleted).map(([table, rows]) => ({ table, rows })),
    anonymised: counted(done.anonymised).map(([table, rows]) => ({ table, rows, columns: setColumns(table) })),
    kept: Object.entries(done.kept)
      .filter(([, { rows }]) => rows > 0)
      .map(([table, { rows, basis, until }]) => ({ table, rows, basis, until, emptied: setColumns(table) })),
    references: counted(done.cut).map(([constraint, rows]) => ({ constraint, rows })),
    files: { removed: progress.files ?? 0 },
    authUser: progress.authUser ?? 'not-applicable',
    processors: Object.entries(progress.processors ?? {}).map(([name, outcome]) => ({ name, ...outcome })),
    elsewhere: Object.entries(progress.elsewhere ?? {}).map(([name, records]) => ({ name, records })),
    mentions: counted(progress.mentions ?? {}).map(([table, rows]) => ({ table, rows })),
    residue: progress.residue ?? null,
    tombstone: progress.tombstone ?? null,
    notReached: notReached(erasure),
  }
}

function notReached(erasure: Erasure): string[] {
  const { ctx, map, supabase, viaAuth, requestId, progress } = erasure
  const policy = requirePolicy(ctx)
  const lines: string[] = []
  if (supabase === undefined && ((policy.buckets ?? []).length > 0 || map.root === 'auth.users'))
    lines.push('Files in Supabase Storage: Supabase is not configured.')
  if (map.root === 'auth.users' && !viaAuth)
    lines.push('Sessions that Supabase Auth holds in memory: the user was deleted by SQL, because Supabase is not configured.')
  for (const [name, outcome] of Object.entries(progress.processors ?? {}))
    if (outcome.status === 'by-hand') lines.push(`${name}: not asked (${outcome.why}); erase the person there by hand.`)
  if (progress.tombstone === undefined || progress.tombstone === null)
    lines.push('Backups: no object store is configured, so nothing tells a restore to erase this person again.')
  else lines.push('Backups made before: put beyond use; a restore erases this person again before it is opened.')
  if (map.root === 'auth.users')
    lines.push('The log of Supabase Auth (auth.audit_log_entries), which names people in JSON until Auth prunes it.')
  lines.push(...(progress.elsewhereNotReached ?? []))
  if (requestId !== undefined && erasure.elsewhere.length === 0)
    lines.push('Webhook events as they were received (caretaker.inbox): encrypted, and not searched for this person.')
  for (const { table, column, rows, kept } of progress.residue?.found ?? [])
    if (!kept)
      lines.push(
        `${table}.${column}: ${rows} ${rows === 1 ? 'row names' : 'rows name'} the person in text. gdpr.tables["${table}"].mentions can say so.`,
      )
  for (const table of progress.residue?.notScanned ?? [])
    lines.push(`${table}: could not be searched for the person in the time, or with the privileges, there were.`)
  if (progress.residue !== null && progress.residue !== undefined && !erasure.identified)
    lines.push(
      'Text that names the person in other rows: the person had gone before it was noted what to look for, and nothing was searched.',
    )
  if (progress.residue === null) lines.push('Text that names the person in other rows: gdpr.residue is false, nothing was searched.')
  lines.push("The app's own logs and the host's, which Caretaker does not reach; its own name people by keyed hashes only.")
  if (requestId === undefined) lines.push("The record of this request: Caretaker's tables are not in this database. Keep this receipt.")
  return lines
}

/** Ends the request: receipt in, person's id out, with audit row and event in one transaction. */
export async function finish(
  ctx: Context,
  requestId: string | undefined,
  receipt: Receipt,
  progress: Progress,
  key: string,
  subject: string,
): Promise<EraseOutcome> {
  const signed = signReceipt(key, receipt)
  if (requestId === undefined) return { status: 'erased', request: null, receipt: signed }
  await ctx.db.transaction(async (tx) => {
    const changed = await tx.execute(
      `update caretaker.gdpr_requests set state = 'done', subject = null, reason = null, finished_at = $2::timestamptz, receipt = $3::jsonb, checkpoint = $4::jsonb
       where id = $1::uuid and state in ('received', 'verified', 'in_progress', 'waiting')`,
      [requestId, ctx.clock.now(), JSON.stringify(signed), JSON.stringify({ tags: progress.tags })],
    )
    if (changed !== 1) throw new CaretakerError('conflict', 'The request was ended by someone else.')
    // An export that still waits for its turn has nobody to export.
    await tx.execute(
      `update caretaker.gdpr_requests set state = 'refused', reason = 'erased', subject = null, finished_at = $2::timestamptz
       where subject_hash = $1 and kind <> 'erase' and state in ('received', 'verified', 'in_progress', 'waiting')`,
      [progress.tags[0], ctx.clock.now()],
    )
    await tx.execute('update caretaker.gdpr_requests set subject = null, named = null, code_hash = null where subject_hash = $1', [
      progress.tags[0],
    ])
    // What was asked by mail and not confirmed names the person too.
    await tx.execute(`delete from caretaker.gdpr_requests where state = 'received' and subject = $1`, [subject])
    const byHand = receipt.processors.filter(({ status }) => status === 'by-hand').map(({ name }) => name)
    const residue = (receipt.residue?.found ?? []).filter(({ kept }) => !kept)
    if (residue.length > 0) await emitEvent(tx, 'gdpr.residue', { request: requestId, found: residue })
    await emitEvent(tx, 'gdpr.erased', { request: requestId, ...(byHand.length > 0 ? { byHand } : {}) })
    await appendAudit(
      tx,
      { actor: byWhom(ctx), clock: ctx.clock },
      { action: 'gdpr.erased', target: receipt.subject, detail: { request: requestId, signature: signed.signature.value } },
    )
  })
  return { status: 'erased', request: requestId, receipt: signed }
}
