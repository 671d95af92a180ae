import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { subjectTag } from '../../platform/log.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { readSubjectMap, requirePolicy } from '../policy.ts'
import { findSubject, type Subject } from '../subject.ts'
import { requireLivingSubject } from './identity.ts'
import { type GdprRequest, type RequestKind, type RequestRow, requestColumns, type Verification } from './request.ts'

export interface RequestInput {
  /** The person's id or e-mail address. */
  subject: string
}

export type OpenedRequest = GdprRequest & { /** True when a request of the same kind was already open. */ joined: boolean }

/** Records that a person asked for their data. The caller has verified who asks: `ctx.actor`. */
export function requestExport(ctx: Context, input: RequestInput): Promise<OpenedRequest> {
  return request(ctx, 'export', input)
}

/**
 * Records that a person asked to be erased. The caller has verified who asks: `ctx.actor`.
 * @throws {CaretakerError} `reauthentication_required` when a person asks who has not just signed in
 */
export function requestErasure(ctx: Context, input: RequestInput): Promise<OpenedRequest> {
  return request(ctx, 'erase', input)
}

async function request(ctx: Context, kind: 'export' | 'erase', { subject: named }: RequestInput): Promise<OpenedRequest> {
  const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Recording a request')
  await requireLivingSubject(ctx, kind)
  const subject = await findSubject(ctx.db, await readSubjectMap(ctx), named)
  if (subject === undefined) throw new CaretakerError('subject_not_found', 'There is no such person in the subject table.')
  const by = ctx.actor.type === 'subject' ? 'token' : 'operator'
  return openRequest(ctx, kind, subject.id, subjectTags(key, subject), { verifiedBy: by, ...holds(ctx, kind, by) })
}

/** What keeps a request from being carried out at once. */
export interface Holds {
  notBefore: Date | null
  review: 'needed' | null
}

/** What a person asks for themselves can be taken back and looked at, where the policy says so; an operator has decided already. */
export function holds(ctx: Context, kind: RequestKind, by: Verification): Holds {
  const { grace, review } = requirePolicy(ctx).requests ?? {}
  if (by === 'operator') return { notBefore: null, review: null }
  return {
    notBefore: kind === 'erase' && grace !== undefined ? after(ctx.clock.now(), grace) : null,
    review: review === true ? 'needed' : null,
  }
}

/** `duration` after `from`: months and years by the calendar, in UTC. */
export function after(from: Date, duration: string): Date {
  const [count, unit = ''] = duration.split(' ')
  const months = unit.startsWith('month') ? Number(count) : unit.startsWith('year') ? 12 * Number(count) : 0
  if (months === 0) return new Date(from.getTime() + Number(count) * (stepMs[unit.replace(/s$/, '')] ?? 0))
  const to = new Date(from)
  to.setUTCMonth(to.getUTCMonth() + months, 1)
  // The 31st of a shorter month is its last day, as PostgreSQL has it.
  const lastDay = new Date(Date.UTC(to.getUTCFullYear(), to.getUTCMonth() + 1, 0)).getUTCDate()
  to.setUTCDate(Math.min(from.getUTCDate(), lastDay))
  return to
}

const stepMs: Record<string, number> = { second: 1_000, minute: 60_000, hour: 3_600_000, day: 86_400_000, week: 604_800_000 }

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
export async function openRequest(
  ctx: Context,
  kind: RequestKind,
  subjectId: string,
  tags: readonly string[],
  { verifiedBy, notBefore, review }: Holds & { verifiedBy: Verification } = { verifiedBy: 'operator', notBefore: null, review: null },
): Promise<OpenedRequest> {
  return ctx.db.transaction(async (tx) => {
    const now = ctx.clock.now()
    const [created] = await tx.query<RequestRow>(
      `insert into caretaker.gdpr_requests
         (kind, state, subject, subject_hash, requested_by, received_at, due_at, checkpoint, verified_by, not_before, review)
       values ($1, 'verified', $2, $3, $4::jsonb, $5::timestamptz, $6::timestamptz, $7::jsonb, $8, $9::timestamptz, $10)
       on conflict (subject_hash, kind) where state in ('received', 'verified', 'in_progress', 'waiting') do nothing
       returning ${requestColumns}`,
      [
        kind,
        subjectId,
        tags[0],
        JSON.stringify(byWhom(ctx)),
        now,
        after(now, '1 month'),
        JSON.stringify({ tags }),
        verifiedBy,
        notBefore,
        review,
      ],
    )
    if (created !== undefined) {
      await emitEvent(tx, 'gdpr.requested', { request: created.id, kind, dueAt: created.dueAt, review })
      await appendAudit(
        tx,
        { actor: byWhom(ctx), clock: ctx.clock },
        { action: 'gdpr.requested', target: created.subjectHash, detail: { request: created.id, kind, verifiedBy } },
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
