import { nearest } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { environmentCipher } from '../platform/field-cipher.ts'
import { sealPayload } from './payload.ts'
import { insertEvent } from './queries.ts'
import type { WebhookRequest } from './source.ts'
import { sources } from './sources/index.ts'

export interface Receipt {
  accepted: true
  /** The event was in the inbox already. */
  duplicate: boolean
  /** The provider's id of the event. */
  id: string
}

/**
 * Verifies what a provider sent and stores it, encrypted, in the inbox. When this resolves the event is committed, and
 * only then may the provider be told so. Its effects happen later, in `processInbox`.
 * One round trip to the database, and none for a request that is refused.
 * @throws {CaretakerError} `not_found` (no such source), `not_configured`, `signature_invalid`, `bad_request`, or
 * `database_unavailable`: the provider sends it again.
 */
export async function receiveWebhook(ctx: Context, sourceName: string, request: WebhookRequest): Promise<Receipt> {
  const source = sources.get(sourceName)
  if (source === undefined) {
    const near = nearest(sourceName, sources.keys())
    throw new CaretakerError('not_found', `There is no webhook source of that name.${near === undefined ? '' : ` Did you mean "${near}"?`}`)
  }
  const cipher = environmentCipher(ctx.env, 'The webhook inbox')
  const event = source.verify(ctx, request)
  const now = ctx.clock.now()
  const stored = await insertEvent(ctx.db, {
    source: source.name,
    eventId: event.eventId,
    type: event.type,
    // Without a time of its own an event stands where it arrived.
    occurredAt: event.occurredAt ?? now,
    receivedAt: now,
    objectTag: event.objectId === undefined ? null : cipher.tag(`webhook object of ${source.name}`, event.objectId),
    payload: sealPayload(cipher, { source: source.name, eventId: event.eventId, body: request.body }),
  })
  return { accepted: true, duplicate: !stored, id: event.eventId }
}
