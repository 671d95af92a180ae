import type { Queryable, Transaction } from './db.ts'
import type { Env } from './env.ts'
import { environmentCipher } from './field-cipher.ts'

export type Channel = 'sms' | 'email'

export interface Suppression {
  channel: Channel
  /** An e-mail address, or a phone number as +1234567890. Stored as a keyed hash alone. */
  address: string
  /** The sender it is about: our number, `group:ID` of unsubscribes. Default: everybody. */
  scope?: string
  action: 'suppress' | 'allow'
  /** "stop", "bounce", "spam", "21610"… */
  reason: string
  at: Date
  source: string
  eventId: string
}

/** Adds to the ledger, inside the caller's transaction; what the same event said before, once. */
export async function recordSuppression(tx: Transaction, env: Env, given: Suppression): Promise<void> {
  await tx.execute(
    `insert into caretaker.suppressions (channel, address_tag, scope, action, reason, at, source, event_id)
     values ($1::text, $2::bytea, $3::text, $4::text, $5::text, $6::timestamptz, $7::text, $8::text) on conflict do nothing`,
    [
      given.channel,
      addressTag(env, given.channel, given.address),
      given.scope ?? '',
      given.action,
      given.reason,
      given.at,
      given.source,
      given.eventId,
    ],
  )
}

export interface MessageTo {
  channel: Channel
  address: string
  /** Who would send it: our number, `group:ID`. What is suppressed for everybody counts too. */
  scope?: string
  /** The one answer that an opt-out itself asks for. */
  confirmsOptOut?: boolean
}

/**
 * Why a message must not be sent, or null when it may. Ask right before sending.
 * @throws {CaretakerError} `not_configured` without ENCRYPTION_KEY: then nobody can tell, and nothing should be sent
 */
export async function suppressedBecause(db: Queryable, env: Env, message: MessageTo): Promise<string | null> {
  if (message.confirmsOptOut === true) return null
  const rows = await db.query<{ action: string; reason: string }>(
    `select distinct on (scope) action, reason from caretaker.suppressions
     where channel = $1::text and address_tag = $2::bytea and scope = any($3::text[]) order by scope, at desc, id desc`,
    [message.channel, addressTag(env, message.channel, message.address), ['', message.scope ?? '']],
  )
  return rows.find((row) => row.action === 'suppress')?.reason ?? null
}

function addressTag(env: Env, channel: Channel, address: string): Buffer {
  const normal = channel === 'email' ? address.trim().toLowerCase() : address.replace(/[^+\d]/g, '')
  return environmentCipher(env, 'Knowing who may be written to').tag(`suppressed ${channel} address`, normal)
}
