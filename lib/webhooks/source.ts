import type { Context } from '../platform/context.ts'

/** What a provider sent. */
export interface WebhookRequest {
  headers: Headers
  /** The bytes as received: what was signed. */
  body: Uint8Array
  /** Path and query as they were asked for: "/api/webhooks/sms?bodySHA256=…". Some providers sign them. */
  target?: string
}

/** One event, proven to be the provider's. */
export interface VerifiedEvent {
  /** `caretaker.inbox.source`. */
  source: string
  /** The provider's own id: the same in every repeat. */
  eventId: string
  type: string
  /** The provider's time, where it gives one. */
  occurredAt: Date | undefined
  /** What the event is about; events of one object are applied in order. */
  objectId: string | undefined
  /** Where it stands among the events of its object. Default: by `occurredAt`. */
  position?: number
  /** The event as handlers see it; stored as JSON. */
  content: object
  /** The bytes to store, where `content` is exactly what they say: saves writing them anew. */
  bytes?: Uint8Array
}

/** What the provider wants to read, beside that it was taken. */
export interface Answer {
  mediaType: string
  body: string
}

export interface Verified {
  events: VerifiedEvent[]
  /** Default: JSON that says what was taken. */
  answer?: (taken: { duplicate: boolean }) => Answer
}

export type VerifyContext = Pick<Context, 'env' | 'config' | 'clock'>

/** One provider, in `sources/<provider>.ts`. */
export interface WebhookSource {
  /** What it may send. A request that does not say is taken at its signature's word. */
  readonly mediaTypes: readonly string[]
  /** Default: the route's own, 4.5 MB. */
  readonly bodyLimitBytes?: number
  /** Fields of its events that are stored as null. */
  minimise(config: Context['config']): readonly string[] | undefined
  /**
   * Proves the request and reads what the inbox needs to know of it. Touches nothing outside the process.
   * @throws {CaretakerError} `not_configured` (no secret), `signature_invalid`, or `bad_request` for a signed body
   * that is not an event.
   */
  verify(ctx: VerifyContext, request: WebhookRequest): Verified
}

/** Positions within one instant: an event's rank by the state its object is in, 0 to 15. */
export const ranks = 16

export function positionOf(occurredAt: Date, rank = 0): number {
  return occurredAt.getTime() * ranks + rank
}
