import type { Context } from '../platform/context.ts'
import { environmentCipher, type FieldCipher } from '../platform/field-cipher.ts'
import { checkForm } from './check-form.ts'
import { insertTogether } from './insert-together.ts'
import { minimise } from './minimise.ts'
import { objectTag, sealPayload } from './payload.ts'
import { insertEvents, type NewEvent } from './queries.ts'
import { type Answer, positionOf, type VerifiedEvent, type WebhookRequest } from './source.ts'
import { openSource } from './sources/index.ts'

export interface Receipt {
  accepted: true
  /** Every event was in the inbox already. */
  duplicate: boolean
  /** The provider's ids of the events; most send one at a time. */
  ids: string[]
  /** What the provider wants to read, where it is not the JSON that all others get. */
  answer?: Answer
}

/**
 * Verifies what a provider sent and stores it, encrypted, in the inbox. When this resolves the events are committed, and
 * only then may the provider be told so. Their effects happen later, in `processInbox`.
 * One round trip to the database, and none for a request that is refused.
 * @throws {CaretakerError} `not_found` (no such source), `not_configured`, `unsupported_media_type`, `payload_too_large`,
 * `signature_invalid`, `bad_request`, or `database_unavailable`: the provider sends it again.
 */
export async function receiveWebhook(ctx: Context, path: string, request: WebhookRequest): Promise<Receipt> {
  const source = await openSource(ctx.config, path)
  const cipher = environmentCipher(ctx.env, 'The webhook inbox')
  checkForm(request, source)
  const { events, answer } = source.verify(ctx, request)
  const fields = source.minimise(ctx.config)
  const now = ctx.clock.now()
  const rows = events.map((event) => newEvent(cipher, event, now, fields))
  const [first] = rows
  const isNew = first !== undefined && rows.length === 1 ? [await insertTogether(ctx.db, first)] : await insertEvents(ctx.db, rows)
  const duplicate = rows.length > 0 && !isNew.includes(true)
  return {
    accepted: true,
    duplicate,
    ids: rows.map((row) => row.eventId),
    ...(answer === undefined ? {} : { answer: answer({ duplicate }) }),
  }
}

/** The row of one event, sealed. Shared with what fetches events that never arrived. */
export function newEvent(cipher: FieldCipher, event: VerifiedEvent, now: Date, fields: readonly string[] | undefined): NewEvent {
  const { source, eventId, type, objectId } = event
  const reduced = fields === undefined || fields.length === 0 ? undefined : minimise(event.content, fields)
  const body = reduced === undefined && event.bytes !== undefined ? event.bytes : Buffer.from(JSON.stringify(reduced ?? event.content))
  // Without a time of its own an event stands where it arrived.
  const occurredAt = event.occurredAt ?? now
  return {
    source,
    eventId,
    type,
    occurredAt,
    receivedAt: now,
    position: event.position ?? positionOf(occurredAt),
    objectTag: objectId === undefined ? null : objectTag(cipher, source, objectId),
    payload: sealPayload(cipher, { source, eventId, body }),
  }
}
