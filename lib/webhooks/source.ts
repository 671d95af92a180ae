import type { Context } from '../platform/context.ts'

/** What a provider sent. `body` is the bytes as received: what was signed. */
export interface WebhookRequest {
  headers: Headers
  body: Uint8Array
}

/** One event, proven to be the provider's. */
export interface VerifiedEvent {
  /** The provider's own id: the same in every repeat. */
  eventId: string
  type: string
  /** The provider's time, where it gives one. */
  occurredAt: Date | undefined
  /** What the event is about; events of one object are applied in order. */
  objectId: string | undefined
}

/** One provider, in `sources/<provider>.ts`. */
export interface WebhookSource {
  /** The last part of its path, and `caretaker.inbox.source`. */
  readonly name: string
  /**
   * Proves the request and reads what the inbox needs to know of it. Touches nothing outside the process.
   * @throws {CaretakerError} `not_configured` (no secret), `signature_invalid`, or `bad_request` for a signed body
   * that is not an event.
   */
  verify(ctx: Pick<Context, 'env' | 'config' | 'clock'>, request: WebhookRequest): VerifiedEvent
}
