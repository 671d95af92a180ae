import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { subjectTag } from '../../platform/log.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { readSubjectMap } from '../policy.ts'
import { findSubject, type Subject } from '../subject.ts'
import { type GdprRequest, type RequestKind, type RequestRow, requestColumns } from './request.ts'

export interface RequestInput {
  /** The person's id or e-mail address. */
  subject: string
}

export type OpenedRequest = GdprRequest & { /** True when a request of the same kind was already open. */ joined: boolean }

/** Records that a person asked for their data. The caller has verified who asks: `ctx.actor`. */
export function requestExport(ctx: Context, input: RequestInput): Promise<OpenedRequest> {
  return request(ctx, 'export', input)
}

/** Records that a person asked to be erased. The caller has verified who asks: `ctx.actor`. */
export function requestErasure(ctx: Context, input: RequestInput): Promise<OpenedRequest> {
  return request(ctx, 'erase', input)
}

async function request(ctx: Context, kind: RequestKind, { subject: named }: RequestInput): Promise<OpenedRequest> {
  const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Recording a request')
  const subject = await findSubject(ctx.db, await readSubjectMap(ctx), named)
  if (subject === undefined) throw new CaretakerError('subject_not_found', 'There is no such person in the subject table.')
  return openRequest(ctx, kind, subject.id, subjectTags(key, subject))
}

/** Keyed hashes of what names the person: the first is of the id, and is the request's own. */
export function subjectTags(key: string, subject: Subject): string[] {
  const tags = [subjectTag(key, subject.id)]
  if (subject.email !== undefined) tags.push(subjectTag(key, subject.email.toLowerCase()))
  return tags
}

/** The hashes under which somebody who is no longer in the table may be known: an id as it is, an address in lower case. */
export function tagsAsNamed(key: string, named: string): string[] {
  return [...new Set([named, named.toLowerCase()])].map((name) => subjectTag(key, name))
}

/** Creates the request or joins the open one: the unique index on open requests settles the race. */
export async function openRequest(ctx: Context, kind: RequestKind, subjectId: string, tags: readonly string[]): Promise<OpenedRequest> {
  return ctx.db.transaction(async (tx) => {
    const now = ctx.clock.now()
    const [created] = await tx.query<RequestRow>(
      `insert into caretaker.gdpr_requests (kind, state, subject, subject_hash, requested_by, received_at, due_at, checkpoint)
       values ($1, 'verified', $2, $3, $4::jsonb, $5::timestamptz, ($5::timestamptz at time zone 'UTC' + interval '1 month') at time zone 'UTC', $6::jsonb)
       on conflict (subject_hash, kind) where state in ('received', 'verified', 'in_progress', 'waiting') do nothing
       returning ${requestColumns}`,
      [kind, subjectId, tags[0], JSON.stringify(byWhom(ctx)), now, JSON.stringify({ tags })],
    )
    if (created !== undefined) {
      await emitEvent(tx, 'gdpr.requested', { request: created.id, kind, dueAt: created.dueAt })
      await appendAudit(
        tx,
        { actor: byWhom(ctx), clock: ctx.clock },
        { action: 'gdpr.requested', target: created.subjectHash, detail: { request: created.id, kind } },
      )
      return { ...created, joined: false }
    }
    const [open] = await tx.query<RequestRow>(
      `select ${requestColumns} from caretaker.gdpr_requests
       where subject_hash = $1 and kind = $2 and state in ('received', 'verified', 'in_progress', 'waiting')`,
      [tags[0], kind],
    )
    if (open === undefined)
      throw new CaretakerError('conflict', 'A request of the same kind ended at this moment; ask again.', { retryAfterSeconds: 1 })
    return { ...open, joined: true }
  })
}

/** The audit trail outlives the person: a subject that acts on their own data is written without their id. */
export function byWhom(ctx: Pick<Context, 'actor' | 'env'>): Context['actor'] {
  if (ctx.actor.type !== 'subject') return ctx.actor
  const key = ctx.env.ENCRYPTION_KEY
  return { type: 'subject', id: key === undefined ? 'unknown' : subjectTag(key, ctx.actor.id) }
}
