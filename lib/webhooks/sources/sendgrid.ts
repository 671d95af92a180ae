import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto'
import { CaretakerError } from '../../platform/errors.ts'
import type { VerifiedEvent, VerifyContext, WebhookSource } from '../source.ts'
import { instant, isObject, isWord, type JsonObject, parseJson } from './json.ts'

// https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features:
// ECDSA (P-256, SHA-256) over the timestamp and the bytes of the body, the line break at their end included.

const prefix = 'x-twilio-email-event-webhook'
/** SendGrid tries for a day. What is repeated in that time is known by its id. */
const oldestSeconds = 25 * 3_600
const aheadSeconds = 300
const mostEvents = 5_000

export const sendgrid: WebhookSource = {
  mediaTypes: ['application/json'],
  minimise: (config) => config.webhooks?.sendgrid?.minimise,
  verify(ctx, request) {
    const keys = keysOf(ctx)
    const signature = request.headers.get(`${prefix}-signature`)
    const timestamp = request.headers.get(`${prefix}-timestamp`)
    if (signature === null || signature === '') throw invalid('the signature header is missing')
    if (timestamp === null || timestamp === '') throw invalid('the timestamp header is missing')
    // Two headers arrive as one, joined by a comma: neither pattern takes one.
    if (!/^[A-Za-z0-9+/]{20,200}={0,2}$/.test(signature)) throw invalid('the signature header is malformed or was sent twice')
    if (!/^[1-9]\d{0,11}$/.test(timestamp)) throw invalid('the timestamp is not a whole number of seconds, or was sent twice')
    const age = Math.floor(ctx.clock.now().getTime() / 1000) - Number(timestamp)
    if (age > oldestSeconds) throw invalid(`its timestamp is ${age} seconds old, accepted are ${oldestSeconds}`)
    if (-age > aheadSeconds) throw invalid(`its timestamp is ${-age} seconds ahead, accepted are ${aheadSeconds}`)
    const signed = Buffer.concat([Buffer.from(timestamp), request.body])
    const bytes = Buffer.from(signature, 'base64')
    if (!keys.some((key) => verify('sha256', signed, key, bytes))) throw invalid('it does not match the timestamp and the body')
    const batch = parseJson(request.body, "a list of SendGrid's events")
    if (!Array.isArray(batch))
      throw new CaretakerError('bad_request', "The body is signed but is not a list; expected a list of SendGrid's events.")
    if (batch.length > mostEvents)
      throw new CaretakerError('bad_request', `The body holds ${batch.length} events; accepted are ${mostEvents}.`)
    return { events: batch.map(readEvent) }
  },
}

function readEvent(event: unknown, index: number): VerifiedEvent {
  if (!isObject(event) || typeof event.event !== 'string' || !/^[a-z_]{1,60}$/.test(event.event))
    throw new CaretakerError('bad_request', `Element ${index + 1} of the body has no "event"; expected one of SendGrid's events.`)
  const type = `email.${event.event}`
  const eventId = isWord(event.sg_event_id)
    ? event.sg_event_id
    : `sha256:${createHash('sha256').update(JSON.stringify(event)).digest('hex')}`
  const occurredAt = instant(event.timestamp)
  const about = typeof event.sg_message_id === 'string' ? event.sg_message_id : undefined
  return {
    source: 'sendgrid',
    eventId,
    type,
    occurredAt,
    objectId: about,
    content: { id: eventId, type, created: secondsOf(event), data: { object: event } },
  }
}

function secondsOf(event: JsonObject): number | null {
  return typeof event.timestamp === 'number' ? event.timestamp : null
}

/** As SendGrid shows it, base64 without a frame, or as PEM; several separated by commas while one is replaced. */
function keysOf(ctx: VerifyContext): KeyObject[] {
  const entries = (ctx.env.SENDGRID_WEBHOOK_PUBLIC_KEY ?? '')
    .split(',')
    .map((entry) => entry.replaceAll(/-----[A-Z ]+-----|\s/g, ''))
    .filter((entry) => entry !== '')
  if (entries.length === 0)
    throw new CaretakerError(
      'not_configured',
      "SendGrid's webhooks need SENDGRID_WEBHOOK_PUBLIC_KEY, which is not set. Copy the verification key from Mail Settings, Event Webhooks.",
    )
  return entries.map((entry, index) => {
    try {
      const key = createPublicKey({ key: Buffer.from(entry, 'base64'), format: 'der', type: 'spki' })
      if (key.asymmetricKeyType === 'ec') return key
    } catch {
      // Said below, with what was expected.
    }
    throw new CaretakerError(
      'not_configured',
      `Entry ${index + 1} of SENDGRID_WEBHOOK_PUBLIC_KEY is not a public key; expected the base64 of an ECDSA key (MFkwEwYH…).`,
    )
  })
}

function invalid(why: string): CaretakerError {
  return new CaretakerError('signature_invalid', `The SendGrid signature is not accepted: ${why}.`)
}
