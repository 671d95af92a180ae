import { positionOf, type VerifiedEvent } from '../source.ts'
import { instant, isObject, type JsonObject, word } from '../sources/json.ts'

/**
 * What the inbox needs to know of a Stripe event, snapshot or thin. Events of a connected account, which its owner can
 * cause at will, are a source of their own: no handler for the platform's events sees them.
 */
export function readStripeEvent(event: JsonObject): VerifiedEvent {
  const thin = event.object === 'v2.core.event'
  const occurredAt = instant(event.created)
  const type = word(event, 'type')
  const object = isObject(event.data) && isObject(event.data.object) ? event.data.object : undefined
  const about = object ?? (isObject(event.related_object) ? event.related_object : undefined)
  const connected = thin ? /\bacct_/.test(String(event.context ?? '')) : event.account !== undefined && event.account !== null
  return {
    source: connected ? 'stripe-connect' : 'stripe',
    eventId: word(event, 'id'),
    type,
    occurredAt,
    objectId: typeof about?.id === 'string' && about.id !== '' ? about.id : undefined,
    ...(occurredAt === undefined ? {} : { position: positionOf(occurredAt, thin ? 0 : stateRank(type, object)) }),
    content: event,
  }
}

/**
 * Events of one second are common (an invoice is created, finalised and paid in one), and their order is not sent. Where
 * objects move one way only, the state says it. https://docs.stripe.com/billing/subscriptions/overview and the
 * life cycles of invoices, payment intents, charges, refunds and Checkout sessions.
 */
const stateRanks: Record<string, Record<string, number>> = {
  invoice: { draft: 2, open: 4, uncollectible: 6, paid: 8, void: 8 },
  subscription: { incomplete: 2, incomplete_expired: 10, canceled: 10 },
  payment_intent: { succeeded: 10, canceled: 10 },
  charge: { pending: 2 },
  refund: { pending: 2, requires_action: 4, succeeded: 8, failed: 10, canceled: 10 },
  'checkout.session': { open: 2, complete: 8, expired: 8 },
}
const unknownRank = 6

function stateRank(type: string, object: JsonObject | undefined): number {
  if (type.endsWith('.created')) return 0
  if (type.endsWith('.deleted')) return 14
  return stateRanks[String(object?.object)]?.[String(object?.status)] ?? unknownRank
}
