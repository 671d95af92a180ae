import { createHash } from 'node:crypto'
import { nearest } from '../../config/index.ts'
import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { subjectTag } from '../../platform/log.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { readSubjectMap, requirePolicy } from '../policy.ts'
import { requireLivingSubject } from '../requests/identity.ts'
import { byWhom } from '../requests/open-request.ts'
import { findSubject } from '../subject.ts'

export interface Consent {
  purpose: string
  /** Null where the person was never asked, or never answered. */
  given: boolean | null
  /** Of the text that was agreed to. */
  version: string | null
  at: Date | null
  /** The policy has a newer text than the one that was agreed to: ask again. */
  outdated: boolean
}

export interface ConsentInput {
  /** The person's id or e-mail address. */
  subject: string
  purpose: string
  given: boolean
  /** The version of the text the person saw; it must be the policy's own. */
  version: string
  /** How it was expressed: the form or the page. Nothing of the person. */
  source: string
}

/**
 * Records that a person agreed, or took it back, which must be as easy (Art. 7(3)). Nothing is overwritten; saying the same
 * again is recorded once.
 * @throws {CaretakerError} `invalid_input` for a purpose the policy does not name, or another version of its text
 */
export async function recordConsent(ctx: Context, input: ConsentInput): Promise<Consent> {
  const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Recording a consent')
  const purposes = purposesOf(ctx)
  const purpose = Object.hasOwn(purposes, input.purpose) ? purposes[input.purpose] : undefined
  if (purpose === undefined) {
    const near = nearest(input.purpose, Object.keys(purposes))
    throw new CaretakerError(
      'invalid_input',
      `purpose: found one that gdpr.consent does not name, expected ${Object.keys(purposes).join(' or ') || 'one to be added there'}${near === undefined ? '' : `; did you mean "${near}"?`}`,
    )
  }
  // Taking back is never refused for the wrong words.
  if (input.given && input.version !== purpose.version)
    throw new CaretakerError(
      'invalid_input',
      `version: found another than the policy's "${purpose.version}": the person did not see the text that is in force.`,
    )
  await requireLivingSubject(ctx, 'export')
  const subject = await findSubject(ctx.db, await readSubjectMap(ctx), input.subject)
  if (subject === undefined) throw new CaretakerError('subject_not_found', 'There is no such person in the subject table.')
  const tag = subjectTag(key, subject.id)
  const now = ctx.clock.now()
  return ctx.db.transaction(async (tx) => {
    // Two clicks at once are one after the other.
    await tx.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`caretaker:consent:${tag}:${input.purpose}`])
    const [last] = await tx.query<{ given: boolean; version: string; at: Date }>(
      'select given, version, at from caretaker.consents where subject_hash = $1 and purpose = $2 order by id desc limit 1',
      [tag, input.purpose],
    )
    if (last !== undefined && last.given === input.given && (last.version === input.version || !input.given))
      return { purpose: input.purpose, given: last.given, version: last.version, at: last.at, outdated: last.version !== purpose.version }
    await tx.execute(
      `insert into caretaker.consents (subject_hash, purpose, version, text_sha256, given, at, recorded_by, proof)
       values ($1, $2, $3, $4, $5, $6::timestamptz, $7::jsonb, $8::jsonb)`,
      [
        tag,
        input.purpose,
        purpose.version,
        createHash('sha256').update(purpose.text).digest('hex'),
        input.given,
        now,
        JSON.stringify(byWhom(ctx)),
        JSON.stringify({ source: input.source, by: ctx.actor.type }),
      ],
    )
    const action = input.given ? 'consent.given' : 'consent.withdrawn'
    await emitEvent(tx, action, { subject: tag, purpose: input.purpose, version: purpose.version })
    await appendAudit(
      tx,
      { actor: byWhom(ctx), clock: ctx.clock },
      { action, target: tag, detail: { purpose: input.purpose, version: purpose.version } },
    )
    return { purpose: input.purpose, given: input.given, version: purpose.version, at: now, outdated: false }
  })
}

/** What a person agrees to now, a line for each purpose of the policy. */
export async function readConsents(ctx: Context, { subject: named }: { subject: string }): Promise<Consent[]> {
  const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Reading consents')
  const subject = await findSubject(ctx.db, await readSubjectMap(ctx), named)
  if (subject === undefined) throw new CaretakerError('subject_not_found', 'There is no such person in the subject table.')
  const rows = await ctx.db.query<{ purpose: string; given: boolean; version: string; at: Date }>(
    `select distinct on (purpose) purpose, given, version, at from caretaker.consents where subject_hash = $1 order by purpose, id desc`,
    [subjectTag(key, subject.id)],
  )
  return Object.entries(purposesOf(ctx)).map(([purpose, { version }]) => {
    const last = rows.find((row) => row.purpose === purpose)
    return last === undefined
      ? { purpose, given: null, version: null, at: null, outdated: false }
      : { purpose, given: last.given, version: last.version, at: last.at, outdated: last.given && last.version !== version }
  })
}

function purposesOf(ctx: Pick<Context, 'config'>): Record<string, { version: string; text: string }> {
  return requirePolicy(ctx).consent ?? {}
}
