import { createHash, randomBytes } from 'node:crypto'
import { mailConfigured, sendMail } from '../../drivers/mail/index.ts'
import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { environmentCipher, type FieldCipher } from '../../platform/field-cipher.ts'
import { subjectTag } from '../../platform/log.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { readSubjectMap } from '../policy.ts'
import { findSubject } from '../subject.ts'
import { after, holds, subjectTags } from './open-request.ts'
import { type GdprRequest, type RequestKind, type RequestRow, requestColumns } from './request.ts'

/*
 * For who cannot sign in any more: a code is mailed to the address in the database, and works once, within a day. What is
 * answered to who asks does not depend on whether there is such a person, and neither does the work done meanwhile: the
 * address is looked up later, by the worker.
 */

const codeHours = 24
/** Who asks again sooner gets no second mail. */
const resendMinutes = 15

/**
 * Notes that somebody who gives this address asks. Says nothing of whether there is such a person.
 * @throws {CaretakerError} `not_configured` where no mail can be sent
 */
export async function requestByMail(ctx: Context, input: { kind: RequestKind; email: string }): Promise<void> {
  if (!mailConfigured(ctx))
    throw new CaretakerError('not_configured', 'No mail can be sent: SENDGRID_API_KEY and SENDGRID_FROM_EMAIL are not set.')
  const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Recording a request')
  const email = input.email.trim()
  const now = ctx.clock.now()
  const tag = subjectTag(key, `mailed:${email.toLowerCase()}`)
  // Sealed to its place; the row's id is not known before it is written.
  const named = environmentCipher(ctx.env, 'Recording a request').seal(Buffer.from(email), ['gdpr_requests', tag])
  await ctx.db.execute(
    `insert into caretaker.gdpr_requests as r (kind, state, subject_hash, requested_by, received_at, due_at, named)
     values ($1, 'received', $2, '{"type":"anonymous"}', $3::timestamptz, $4::timestamptz, $5::bytea)
     on conflict (subject_hash, kind) where state in ('received', 'verified', 'in_progress', 'waiting') do update
       set named = excluded.named, received_at = excluded.received_at, due_at = excluded.due_at, code_sent_at = null
       where r.state = 'received' and r.code_sent_at < $3::timestamptz - make_interval(mins => $6::int)`,
    [input.kind, tag, now, after(now, '1 month'), named, resendMinutes],
  )
}

/** Sends the codes that wait to be sent. An address that nobody has is forgotten. @returns how many were sent */
export async function sendCodes(ctx: Context): Promise<number> {
  const waiting = await ctx.db.query<{ id: string; kind: RequestKind; subjectHash: string; named: Buffer }>(
    `select id, kind, subject_hash as "subjectHash", named from caretaker.gdpr_requests
     where state = 'received' and named is not null order by code_expires_at nulls first, received_at limit 100`,
  )
  if (waiting.length === 0) return 0
  const map = await readSubjectMap(ctx)
  const cipher = environmentCipher(ctx.env, 'Sending a code')
  let sent = 0
  for (const { id, kind, subjectHash, named } of waiting) {
    const email = opened(cipher, named, subjectHash)
    const subject =
      email === undefined
        ? undefined
        : await findSubject(ctx.db, map, email).catch((error: unknown) => {
            if (error instanceof CaretakerError && error.code === 'invalid_input') return undefined
            throw error
          })
    if (subject?.email === undefined) {
      await ctx.db.execute(`delete from caretaker.gdpr_requests where id = $1::uuid and state = 'received'`, [id])
      continue
    }
    const code = newCode()
    const now = ctx.clock.now()
    // Noted before it is sent: a mail whose code is not known would be a dead end, a code that was not sent is replaced.
    const noted = await ctx.db.execute(
      `update caretaker.gdpr_requests set code_hash = $2::bytea, code_expires_at = $3::timestamptz, checkpoint = null
       where id = $1::uuid and state = 'received' and named = $4::bytea`,
      [id, codeHash(code), after(now, `${codeHours} hours`), named],
    )
    if (noted === 0) continue
    // To the address in the database, not to how it was typed.
    try {
      await sendMail(ctx, { to: subject.email, ...message(ctx, kind, code) })
    } catch (error) {
      // It stays noted, and gets another code the next time; the others must not wait for it.
      ctx.log.error({ err: error, request: id }, 'a confirmation code could not be mailed')
      continue
    }
    await ctx.db.execute(
      `update caretaker.gdpr_requests set named = null, code_sent_at = $2::timestamptz, subject = $3 where id = $1::uuid and state = 'received' and named = $4::bytea`,
      [id, now, subject.id, named],
    )
    sent++
  }
  return sent
}

/** The address, or undefined where another ENCRYPTION_KEY sealed it: one row that cannot be read must not hold up all requests. */
function opened(cipher: FieldCipher, named: Buffer, subjectHash: string): string | undefined {
  try {
    return cipher.open(named, ['gdpr_requests', subjectHash]).toString()
  } catch {
    return undefined
  }
}

/**
 * The person has the mail: the request is theirs. A code works once.
 * @throws {CaretakerError} `forbidden` when the code is not known, was used, or is too old
 */
export async function confirmCode(ctx: Context, code: string): Promise<GdprRequest> {
  try {
    return await confirm(ctx, code)
  } catch (error) {
    // The person asked by token, or confirmed another code, at this moment: now there is a request to join.
    if (sqlState(error) !== '23505') throw error
    return confirm(ctx, code)
  }
}

async function confirm(ctx: Context, code: string): Promise<GdprRequest> {
  const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Confirming a request')
  const map = await readSubjectMap(ctx)
  const dead = new CaretakerError(
    'forbidden',
    `The code is not known, was used already, or is older than ${codeHours} hours. Ask for a new one.`,
  )
  return ctx.db.transaction(async (tx) => {
    const [found] = await tx.query<{ id: string; kind: RequestKind; subject: string | null; expires: Date }>(
      `update caretaker.gdpr_requests set code_hash = null where code_hash = $1::bytea and state = 'received'
       returning id, kind, subject, code_expires_at as expires`,
      [codeHash(code)],
    )
    if (found === undefined || found.expires < ctx.clock.now()) throw dead
    const subject = found.subject === null ? undefined : await findSubject(tx, map, found.subject)
    if (subject === undefined) throw dead
    const tags = subjectTags(key, subject)
    const by = { actor: { type: 'subject' as const, id: tags[0] as string }, clock: ctx.clock }
    const [open] = await tx.query<RequestRow>(
      `select ${requestColumns} from caretaker.gdpr_requests
       where subject_hash = $1 and kind = $2 and state in ('verified', 'in_progress', 'waiting') for update`,
      [tags[0], found.kind],
    )
    if (open !== undefined) {
      // The same is under way already: one request is enough.
      await tx.execute('delete from caretaker.gdpr_requests where id = $1::uuid', [found.id])
      return open
    }
    const { notBefore, review } = holds(ctx, found.kind, 'link')
    // Who cannot sign in is told by mail that the export is there.
    const answerTo =
      found.kind === 'export' && subject.email !== undefined
        ? environmentCipher(ctx.env, 'Noting where an export is announced').seal(Buffer.from(subject.email), [
            'gdpr_requests',
            tags[0] as string,
          ])
        : null
    const [verified] = await tx.query<RequestRow>(
      `update caretaker.gdpr_requests set state = 'verified', verified_by = 'link', subject = $2, subject_hash = $3, checkpoint = $4::jsonb,
         not_before = $5::timestamptz, review = $6, requested_by = $7::jsonb, named = $8::bytea
       where id = $1::uuid returning ${requestColumns}`,
      [found.id, subject.id, tags[0], JSON.stringify({ tags }), notBefore, review, JSON.stringify(by.actor), answerTo],
    )
    await emitEvent(tx, 'gdpr.requested', { request: found.id, kind: found.kind, dueAt: (verified as RequestRow).dueAt, review })
    await appendAudit(tx, by, {
      action: 'gdpr.requested',
      target: tags[0] as string,
      detail: { request: found.id, kind: found.kind, verifiedBy: 'link' },
    })
    return verified as RequestRow
  })
}

/**
 * Tells the people who asked by mail that their export is there, with a code that fetches it until the file's time is over.
 * @returns how many
 */
export async function announceExports(ctx: Context): Promise<number> {
  const ready = await ctx.db.query<{ id: string; subjectHash: string; named: Buffer; until: Date }>(
    `select id, subject_hash as "subjectHash", named, file_expires_at as until from caretaker.gdpr_requests
     where kind = 'export' and state = 'done' and named is not null and file_expires_at > $1::timestamptz limit 100`,
    [ctx.clock.now()],
  )
  let announced = 0
  for (const { id, subjectHash, named, until } of ready) {
    const to = opened(environmentCipher(ctx.env, 'Announcing an export'), named, subjectHash)
    if (to === undefined) {
      await ctx.db.execute('update caretaker.gdpr_requests set named = null where id = $1::uuid', [id])
      ctx.log.error({ request: id }, 'an export cannot be announced: ENCRYPTION_KEY is another than when it was asked for')
      continue
    }
    const code = newCode()
    const noted = await ctx.db.execute(
      `update caretaker.gdpr_requests set code_hash = $2::bytea, code_expires_at = file_expires_at where id = $1::uuid and named = $3::bytea`,
      [id, codeHash(code), named],
    )
    if (noted === 0) continue
    try {
      await sendMail(ctx, { to, ...announcement(ctx, code, until) })
    } catch (error) {
      ctx.log.error({ err: error, request: id }, 'an export could not be announced')
      continue
    }
    await ctx.db.execute(
      'update caretaker.gdpr_requests set named = null, code_sent_at = $2::timestamptz where id = $1::uuid and named = $3::bytea',
      [id, ctx.clock.now(), named],
    )
    announced++
  }
  return announced
}

/**
 * The finished export that a mailed code fetches: as often as the person wants, until the file's time is over.
 * @throws {CaretakerError} `forbidden`
 */
export async function exportByCode(ctx: Context, code: string): Promise<string> {
  const [found] = await ctx.db.query<{ id: string }>(
    `select id from caretaker.gdpr_requests where code_hash = $1::bytea and kind = 'export' and state = 'done' and code_expires_at > $2::timestamptz`,
    [codeHash(code), ctx.clock.now()],
  )
  if (found === undefined) throw new CaretakerError('forbidden', 'The code is not known, or its time is over. Ask for a new export.')
  return found.id
}

/** Forgets requests whose code nobody used in time. @returns how many */
export function forgetUnconfirmed(ctx: Pick<Context, 'db' | 'clock'>): Promise<number> {
  // One whose mail never went out is given another code, and another day, with every attempt: it counts from when it was asked for.
  return ctx.db.execute(
    `delete from caretaker.gdpr_requests where state = 'received' and case when named is null then code_expires_at < $1::timestamptz
       else greatest(received_at, code_sent_at) < $1::timestamptz - make_interval(hours => $2::int) end`,
    [ctx.clock.now(), codeHours],
  )
}

function newCode(): string {
  return randomBytes(24).toString('base64url')
}

/** 192 random bits: one fast hash is enough. */
function codeHash(code: string): Buffer {
  return createHash('sha256').update('caretaker:gdpr-code:v1\0').update(code).digest()
}

function message(ctx: Context, kind: RequestKind, code: string): { subject: string; text: string } {
  const base = ctx.env.PUBLIC_URL?.replace(/\/+$/, '')
  const what = kind === 'erase' ? 'have your data erased' : 'get a copy of your data'
  // In the fragment, which browsers keep to themselves: no server and no log sees the code in an address.
  const where = base === undefined ? 'the confirmation page' : `${base}/api/gdpr/confirm#${code}`
  return {
    subject: `${ctx.config.app.name}: please confirm that it was you`,
    text: [
      `Somebody, we think you, asked ${ctx.config.app.name} to ${what}.`,
      '',
      `If it was you, confirm it here within ${codeHours} hours:`,
      where,
      '',
      `Or enter this code there: ${code}`,
      '',
      'If it was not you, do nothing: nothing will happen.',
    ].join('\n'),
  }
}

function announcement(ctx: Context, code: string, until: Date): { subject: string; text: string } {
  const base = ctx.env.PUBLIC_URL?.replace(/\/+$/, '')
  return {
    subject: `${ctx.config.app.name}: your data is ready`,
    text: [
      `The copy of your data that you asked ${ctx.config.app.name} for is ready. Fetch it here until ${until.toISOString().slice(0, 10)}; then it is deleted:`,
      base === undefined ? 'the download page' : `${base}/api/gdpr/download#${code}`,
      '',
      `Or enter this code there: ${code}`,
      '',
      'Whoever has this message can fetch it: do not pass it on.',
    ].join('\n'),
  }
}
