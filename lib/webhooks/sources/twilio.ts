import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { parse, stringify } from 'node:querystring'
import type { Policy } from '../../config/index.ts'
import type { Env } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { Answer, Verified, VerifyContext, WebhookRequest, WebhookSource } from '../source.ts'
import { recognise } from '../twilio/keywords.ts'
import { isWord, type JsonObject, parseJsonObject } from './json.ts'

// https://www.twilio.com/docs/usage/webhooks/webhooks-security: HMAC-SHA1, in base64, over the address as it is configured at
// Twilio and, for a form, every parameter's name and value in the order of the names.

type Parameters = Record<string, string | string[]>

const mostParameters = 200

const common = {
  mediaTypes: ['application/x-www-form-urlencoded', 'application/json'],
  bodyLimitBytes: 256 * 1024,
  minimise: (config: Policy) => config.webhooks?.twilio?.minimise,
}

/** Incoming messages: what somebody has sent to one of our numbers. */
export const twilioMessages: WebhookSource = {
  ...common,
  verify(ctx, request) {
    const message = verified(ctx, request)
    const { From: from, To: to } = message
    const sid = message.MessageSid ?? message.SmsMessageSid ?? message.SmsSid
    if (!isWord(sid) || typeof from !== 'string' || typeof to !== 'string')
      throw new CaretakerError(
        'bad_request',
        'The message has no "MessageSid", "From" or "To"; expected what Twilio sends for an incoming message.',
      )
    const now = ctx.clock.now()
    return {
      events: [
        {
          source: 'twilio',
          eventId: sid,
          type: 'message.received',
          occurredAt: undefined,
          // What one person writes to one number is applied in the order it came.
          objectId: `${from} to ${to}`,
          content: contentOf(sid, 'message.received', now, { ...message, media: mediaOf(message) }),
        },
      ],
      answer: ({ duplicate }) => twiml(duplicate ? null : replyTo(message, ctx.config)),
    }
  },
}

/**
 * https://www.twilio.com/docs/messaging/guides/track-outbound-message-status: the states come without a time and in any
 * order, and a message only moves on.
 */
const statusRanks: Record<string, number> = {
  accepted: 1,
  scheduled: 1,
  queued: 2,
  sending: 3,
  sent: 4,
  canceled: 8,
  delivered: 8,
  undelivered: 8,
  failed: 8,
  read: 10,
}

/** What became of messages that were sent. */
export const twilioStatus: WebhookSource = {
  ...common,
  verify(ctx, request) {
    const message = verified(ctx, request)
    const sid = message.MessageSid ?? message.SmsSid
    const status = message.MessageStatus ?? message.SmsStatus
    if (!isWord(sid) || typeof status !== 'string' || !/^[a-z_]{1,40}$/.test(status))
      throw new CaretakerError(
        'bad_request',
        'The callback has no "MessageSid" or "MessageStatus"; expected what Twilio sends as a status callback.',
      )
    const type = `message.${status}`
    return {
      events: [
        {
          source: 'twilio',
          eventId: `${sid}:${status}`,
          type,
          occurredAt: undefined,
          objectId: sid,
          position: statusRanks[status] ?? 5,
          content: contentOf(`${sid}:${status}`, type, ctx.clock.now(), message),
        },
      ],
      answer: () => twiml(null),
    } satisfies Verified
  },
}

/** In the form in which all handlers get events. */
function contentOf(id: string, type: string, now: Date, object: JsonObject): JsonObject {
  return { id, type, created: Math.floor(now.getTime() / 1000), data: { object } }
}

function mediaOf(message: JsonObject): { url: string; contentType: string | null }[] {
  const count = Math.min(10, Number(message.NumMedia ?? 0) || 0)
  return Array.from({ length: count }, (_, index) => ({
    url: String(message[`MediaUrl${index}`] ?? ''),
    contentType: typeof message[`MediaContentType${index}`] === 'string' ? String(message[`MediaContentType${index}`]) : null,
  })).filter(({ url }) => url !== '')
}

/** Nothing where Twilio's own opt-out management has answered already, or where the policy has no words for it. */
function replyTo(message: JsonObject, config: Policy): string | null {
  if (message.OptOutType !== undefined || typeof message.Body !== 'string') return null
  const said = recognise(message.Body, config.webhooks?.twilio)
  if (said === null || said.ambiguous) return null
  return said.replies?.[said.keyword] ?? null
}

/** https://www.twilio.com/docs/messaging/twiml */
function twiml(message: string | null): Answer {
  const inner = message === null ? '<Response/>' : `<Response><Message>${escaped(message)}</Message></Response>`
  return { mediaType: 'text/xml; charset=utf-8', body: `<?xml version="1.0" encoding="UTF-8"?>${inner}` }
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

/** The parameters, proven to be Twilio's. */
function verified(ctx: VerifyContext, request: WebhookRequest): JsonObject {
  const tokens = [ctx.env.TWILIO_AUTH_TOKEN, ctx.env.TWILIO_AUTH_TOKEN_SECONDARY].filter((token) => token !== undefined)
  if (tokens.length === 0) throw new CaretakerError('not_configured', "Twilio's webhooks need TWILIO_AUTH_TOKEN, which is not set.")
  const header = request.headers.get('x-twilio-signature')
  if (header === null || header === '') throw invalid('the X-Twilio-Signature header is missing')
  // Two headers arrive as one, joined by a comma; base64 has none.
  if (!/^[A-Za-z0-9+/]{27}=$/.test(header)) throw invalid('the X-Twilio-Signature header is malformed or was sent twice')
  const target = request.target ?? ''
  const bodyHash = new URL(target, 'https://twilio.invalid').searchParams.get('bodySHA256')
  const json = request.headers.get('content-type')?.toLowerCase().startsWith('application/json') === true
  if (json && bodyHash === null) throw invalid('the body is JSON, and the address carries no bodySHA256')
  if (bodyHash !== null && !sameHash(bodyHash, request.body)) throw invalid('bodySHA256 is not the hash of the body')
  const parameters = bodyHash === null ? parseForm(request.body) : {}
  if (!addresses(ctx.env, target).some((address) => tokens.some((token) => matches(token, header, address, parameters))))
    throw invalid('it does not match the address and the parameters; PUBLIC_URL has to be what is configured at Twilio')
  return json ? parseJsonObject(request.body, "a message of Twilio's") : singles(bodyHash === null ? parameters : parseForm(request.body))
}

/** The last of a parameter that came several times. */
function singles(parameters: Parameters): JsonObject {
  return Object.fromEntries(Object.entries(parameters).map(([name, value]) => [name, Array.isArray(value) ? (value.at(-1) ?? '') : value]))
}

function parseForm(body: Uint8Array): Parameters {
  // Without a prototype: a parameter may be named like one of its members.
  const parameters = Object.create(null) as Parameters
  let count = 0
  for (const [name, value] of new URLSearchParams(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8'))) {
    if (++count > mostParameters) throw new CaretakerError('bad_request', `The form has more than ${mostParameters} parameters.`)
    const before = parameters[name]
    parameters[name] = before === undefined ? value : [...(Array.isArray(before) ? before : [before]), value]
  }
  return parameters
}

function matches(token: string, header: string, address: string, parameters: Parameters): boolean {
  const signed = Object.keys(parameters)
    .sort()
    .reduce((text, name) => text + named(name, parameters[name] ?? ''), address)
  return timingSafeEqual(createHmac('sha1', token).update(signed, 'utf8').digest(), Buffer.from(header, 'base64'))
}

/** A parameter that came several times counts once for each value, in the order of the values. */
function named(name: string, value: string | string[]): string {
  if (!Array.isArray(value)) return name + value
  return [...new Set(value)]
    .sort()
    .map((one) => name + one)
    .join('')
}

/**
 * The addresses that Twilio may have signed: the configured ones, never what the request says of its host; each with and
 * without its port, with the query as it came, as browsers escape it, and as older back ends escaped it.
 */
function addresses(env: Env, target: string): string[] {
  const hosts = [env.PUBLIC_URL, env.VERCEL_PROJECT_PRODUCTION_URL, env.VERCEL_URL].filter((one) => one !== undefined)
  if (hosts.length === 0)
    throw new CaretakerError('not_configured', "Twilio's webhooks need PUBLIC_URL, which is not set: Twilio signs the public address.")
  const queries = [target, target.replaceAll('%27', "'"), legacy(target)]
  return [
    ...new Set(
      hosts.flatMap((host) => {
        // In the letters in which it was configured, which is how Twilio has it too.
        const [, scheme = 'https:', name = '', port, path = ''] = /^(https?:)?(?:\/\/)?([^/?#:]+)(?::(\d+))?(\/[^?#]*)?/i.exec(host) ?? []
        const base = `${scheme.toLowerCase()}//${name}`
        const explicit = port ?? (scheme.toLowerCase() === 'https:' ? '443' : '80')
        return queries.flatMap((query) => [base, `${base}:${explicit}`].map((origin) => `${origin}${path.replace(/\/$/, '')}${query}`))
      }),
    ),
  ]
}

function legacy(target: string): string {
  const [path = '', query] = target.split(/\?(.*)/s)
  return query === undefined || query === '' ? target : `${path}?${stringify(parse(query))}`
}

function sameHash(given: string, body: Uint8Array): boolean {
  if (!/^[0-9a-f]{64}$/i.test(given)) return false
  return timingSafeEqual(createHash('sha256').update(body).digest(), Buffer.from(given, 'hex'))
}

function invalid(why: string): CaretakerError {
  return new CaretakerError('signature_invalid', `The Twilio signature is not accepted: ${why}.`)
}
