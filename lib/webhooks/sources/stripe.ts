import { createHmac, timingSafeEqual } from 'node:crypto'
import { CaretakerError } from '../../platform/errors.ts'
import type { VerifyContext, WebhookSource } from '../source.ts'
import { readStripeEvent } from '../stripe/read-event.ts'
import { parseJsonObject } from './json.ts'

// https://docs.stripe.com/webhooks#verify-manually: HMAC-SHA256 over "TIMESTAMP.BODY", in hex, as v1 of Stripe-Signature.

const defaultToleranceSeconds = 300
// Stripe sends one v1 for each secret that is valid while one is rolled: a handful.
const longestHeader = 4_096
const shortestSecret = 8

export const stripe: WebhookSource = {
  mediaTypes: ['application/json'],
  minimise: (config) => config.webhooks?.stripe?.minimise,
  verify(ctx, request) {
    const secrets = secretsOf(ctx)
    const { timestamp, signatures } = parseSignatureHeader(request.headers.get('stripe-signature'))
    const tolerance = ctx.config.webhooks?.stripe?.toleranceSeconds ?? defaultToleranceSeconds
    // Before the HMAC: a flood of replays then costs no hashing.
    const age = Math.floor(ctx.clock.now().getTime() / 1000) - timestamp
    if (age > tolerance) throw invalid(`its timestamp is ${age} seconds old, accepted are ${tolerance}`)
    if (-age > tolerance) throw invalid(`its timestamp is ${-age} seconds ahead, accepted are ${tolerance}`)
    if (!matches(request.body, timestamp, signatures, secrets)) throw invalid('no v1 signature matches the body')
    return { events: [{ ...readStripeEvent(parseJsonObject(request.body, 'a Stripe event')), bytes: request.body }] }
  },
}

function secretsOf(ctx: VerifyContext): string[] {
  const secrets = (ctx.env.STRIPE_WEBHOOK_SECRET ?? '')
    .split(',')
    .map((secret) => secret.trim())
    .filter((secret) => secret !== '')
  if (secrets.length === 0)
    throw new CaretakerError(
      'not_configured',
      'Stripe webhooks need STRIPE_WEBHOOK_SECRET, which is not set. Copy it from the endpoint in the Stripe dashboard (whsec_…).',
    )
  const short = secrets.findIndex((secret) => secret.length < shortestSecret)
  if (short >= 0)
    throw new CaretakerError(
      'not_configured',
      `Entry ${short + 1} of STRIPE_WEBHOOK_SECRET has fewer than ${shortestSecret} characters; expected whsec_….`,
    )
  return secrets
}

/** Strict where Stripe's own library is lenient: one timestamp, digits only, no spaces, which is how two headers joined into one show. */
function parseSignatureHeader(header: string | null): { timestamp: number; signatures: Buffer[] } {
  if (header === null || header === '') throw invalid('the Stripe-Signature header is missing')
  if (header.length > longestHeader)
    throw invalid(`the Stripe-Signature header has ${header.length} characters, accepted are ${longestHeader}`)
  let timestamp: number | undefined
  const signatures: Buffer[] = []
  for (const item of header.split(',')) {
    const match = /^([a-z0-9_]+)=([^\s=]+)$/.exec(item)
    if (match === null) throw invalid('the Stripe-Signature header is malformed or was sent twice')
    const [, scheme, value] = match as unknown as [string, string, string]
    if (scheme === 't') {
      if (timestamp !== undefined) throw invalid('the Stripe-Signature header has two timestamps')
      if (!/^[1-9]\d{0,11}$/.test(value)) throw invalid('the timestamp is not a whole number of seconds')
      timestamp = Number(value)
    } else if (scheme === 'v1' && /^[0-9a-f]{64}$/.test(value)) {
      signatures.push(Buffer.from(value, 'hex'))
    }
  }
  if (timestamp === undefined) throw invalid('the Stripe-Signature header has no timestamp')
  if (signatures.length === 0) throw invalid('the Stripe-Signature header has no v1 signature of 64 hexadecimal digits')
  return { timestamp, signatures }
}

function matches(body: Uint8Array, timestamp: number, signatures: readonly Buffer[], secrets: readonly string[]): boolean {
  let matched = false
  for (const secret of secrets) {
    const expected = createHmac('sha256', secret).update(`${timestamp}.`).update(body).digest()
    // All are compared, whatever was found: the time says nothing about which one it was.
    for (const signature of signatures) matched = timingSafeEqual(expected, signature) || matched
  }
  return matched
}

function invalid(why: string): CaretakerError {
  return new CaretakerError('signature_invalid', `The Stripe signature is not accepted: ${why}.`)
}
