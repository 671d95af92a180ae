import { type AuditEntry, appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { longestReason, writtenText } from '../../platform/written-text.ts'
import { after, byWhom } from './open-request.ts'
import { type GdprRequest, getRequest, type RequestRow, requestColumns } from './request.ts'

/*
 * What is decided of an open request before it is carried out. Each decision is one conditional update with its audit
 * row and its event; what has begun to change rows cannot be stopped any more.
 */

/** An erasure has begun when its rows have gone; whoever is about to, in a transaction, finds the request ended and takes everything back. */
const notBegun = `(state in ('received', 'verified', 'waiting') or (state = 'in_progress' and kind = 'erase')) and not coalesce(checkpoint ? 'rows', false)`
/** What a request that has ended does not need to know any more. */
const forgotten = `subject = null, named = null, code_hash = null, checkpoint = checkpoint - 'person'`

/** An operator has looked at it: it may be carried out. */
export function approveRequest(ctx: Context, id: string): Promise<GdprRequest> {
  return decide(ctx, id, {
    action: 'gdpr.approved',
    refused: 'It is not waiting for a review.',
    change: `set review = 'approved' where id = $1::uuid and review = 'needed' and state in ('verified', 'waiting')`,
  })
}

/**
 * Ends a request without carrying it out. The person must be told why within the month, and of their right to complain
 * (Art. 12(4)); `reason` is what they are told, and holds nothing about anybody.
 */
export function refuseRequest(ctx: Context, id: string, reason: string): Promise<GdprRequest> {
  return decide(ctx, id, {
    action: 'gdpr.refused',
    refused: 'It has begun or has ended: it cannot be refused any more.',
    change: `set state = 'refused', reason = $2, finished_at = $3::timestamptz, ${forgotten}
       where id = $1::uuid and ${notBegun}`,
    params: [wording(reason), ctx.clock.now()],
  })
}

/** The person takes their own request back before it begins. */
export async function withdrawRequest(ctx: Context, id: string): Promise<GdprRequest> {
  return decide(ctx, id, {
    action: 'gdpr.withdrawn',
    refused: 'It has begun or has ended: it cannot be taken back any more.',
    change: `set state = 'refused', reason = 'withdrawn', finished_at = $2::timestamptz, ${forgotten}
       where id = $1::uuid and ${notBegun}`,
    params: [ctx.clock.now()],
  })
}

/**
 * Two months more, once (Art. 12(3)): for a complex request, and only while the first month runs, because the person must be
 * told of it, with the reason, within that month.
 */
export async function extendRequest(ctx: Context, id: string, reason: string): Promise<GdprRequest> {
  const { receivedAt, extendedAt } = await getRequest(ctx, id)
  const now = ctx.clock.now()
  const firstMonth = after(receivedAt, '1 month')
  if (extendedAt !== null) throw new CaretakerError('conflict', `It was extended already, on ${day(extendedAt)}: the law allows it once.`)
  if (now > firstMonth)
    throw new CaretakerError('conflict', `The person had to be told by ${day(firstMonth)}: it is too late to extend the request.`)
  return decide(ctx, id, {
    action: 'gdpr.extended',
    refused: 'It has ended.',
    change: `set due_at = $2::timestamptz, extended_at = $3::timestamptz, extension_reason = $4, reminded_days = null
       where id = $1::uuid and extended_at is null and state in ('received', 'verified', 'in_progress', 'waiting')`,
    params: [after(receivedAt, '3 months'), now, wording(reason)],
    event: { tellPersonBy: firstMonth.toISOString() },
  })
}

async function decide(
  ctx: Context,
  id: string,
  decision: { action: AuditEntry['action']; refused: string; change: string; params?: unknown[]; event?: Record<string, unknown> },
): Promise<GdprRequest> {
  // An id that is none, or of nobody, is answered as such.
  const before = await getRequest(ctx, id)
  return ctx.db.transaction(async (tx: Transaction) => {
    const [changed] = await tx.query<RequestRow>(`update caretaker.gdpr_requests ${decision.change} returning ${requestColumns}`, [
      id,
      ...(decision.params ?? []),
    ])
    if (changed === undefined) throw new CaretakerError('conflict', `The request is ${before.state.replace('_', ' ')}. ${decision.refused}`)
    await emitEvent(tx, decision.action, { request: id, kind: before.kind, ...decision.event })
    await appendAudit(
      tx,
      { actor: byWhom(ctx), clock: ctx.clock },
      { action: decision.action, target: before.subjectHash, detail: { request: id, kind: before.kind } },
    )
    return changed
  })
}

function wording(reason: string): string {
  const text = reason.trim()
  if (text.length >= 3 && text.length <= longestReason) return writtenText('reason', text, longestReason)
  throw new CaretakerError('invalid_input', `reason: found ${text.length} characters, expected 3 to 500: what the person is told.`)
}

function day(date: Date): string {
  return date.toISOString().slice(0, 10)
}
