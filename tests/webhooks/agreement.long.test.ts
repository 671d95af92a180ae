import { randomBytes } from 'node:crypto'
import { EventWebhook } from '@sendgrid/eventwebhook'
import { Webhook } from 'standardwebhooks'
import Stripe from 'stripe'
import twilio from 'twilio'
import { expect, it } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Env } from '../../lib/platform/env.ts'
import { parseWebhookSecrets, signWebhook } from '../../lib/platform/standard-webhooks.ts'
import { openSource } from '../../lib/webhooks/sources/index.ts'
import { sendgridKeys, signSendgrid } from '../doubles/sendgrid.ts'
import { generator } from './stripe-history.ts'

/*
 * Each verifier against the provider's own package on the same random bodies: Unicode, CRLF, a byte order mark, nothing at
 * all. WEBHOOK_BODIES=10000 is the full measure (and the default where a body costs microseconds).
 */

const bodies = Number(process.env.WEBHOOK_BODIES ?? 10_000)
const clock = fixedClock(new Date())
const now = Math.floor(clock.now().getTime() / 1000)
const config = defineConfig({ app: { name: 'Test' }, webhooks: { sources: { partner: {} } } })
const alphabets = ['abc{}[]":,0 ', 'äöüßéñ', '日本語', '🎉👩‍👩‍👧', '\r\n', '\u{feff}', '\0\u{1}\u{7f}', '\u{202e}e\u{301}', "'%&+=;/?"]

function* texts(count: number): Generator<string> {
  const random = generator(count)
  yield* ['', '\r\n', '\u{feff}', '{}', '\u{feff}{}', '{"a":"\\ud800"}', 'null', ' ']
  for (let n = 8; n < count; n++) {
    const alphabet = [
      ...(alphabets[Math.floor(random() * alphabets.length)] ?? ''),
      ...(alphabets[Math.floor(random() * alphabets.length)] ?? ''),
    ]
    let text = ''
    for (let length = Math.floor(random() * 60); length > 0; length--) text += alphabet[Math.floor(random() * alphabet.length)] ?? ''
    yield text
  }
}

/** Whether the signature was taken; what is signed need not be an event. */
async function verifier(path: string, env: Partial<Env>) {
  const source = await openSource(config, path)
  return (headers: Record<string, string>, body: string | Uint8Array, target?: string): boolean => {
    try {
      const bytes = typeof body === 'string' ? Buffer.from(body) : body
      source.verify(
        { clock, config, env: env as Env },
        { headers: new Headers(headers), body: bytes, ...(target === undefined ? {} : { target }) },
      )
      return true
    } catch (error) {
      const { code } = error as { code?: string }
      if (code === 'bad_request') return true
      if (code === 'signature_invalid') return false
      throw error
    }
  }
}

it('Stripe', async () => {
  const stripe = new Stripe('sk_test_x')
  const secret = 'whsec_of_the_endpoint'
  const ours = await verifier('stripe', { STRIPE_WEBHOOK_SECRET: secret })
  let disagreed = 0
  for (const text of texts(bodies)) {
    const header = stripe.webhooks.generateTestHeaderString({ payload: text, secret, timestamp: now })
    if (!ours({ 'stripe-signature': header }, text) || ours({ 'stripe-signature': header }, `${text}!`)) disagreed++
  }
  expect(disagreed).toBe(0)
}, 600_000)

it('Twilio', async () => {
  const token = randomBytes(16).toString('hex')
  const ours = await verifier('sms', { TWILIO_AUTH_TOKEN: token, PUBLIC_URL: 'https://app.example' })
  const random = generator(5)
  let disagreed = 0
  for (const text of texts(bodies)) {
    const names = ['Body', 'From', 'To', 'Zulu', 'alpha', '__proto__x', 'Ünï']
    const parameters: Record<string, string | string[]> = { Body: text }
    for (const name of names) if (random() < 0.3) parameters[name] = random() < 0.3 ? [text, 'b', 'a', 'b'] : `${text}${random()}`
    const form = new URLSearchParams()
    // In an order of its own: the names are sorted for the signature, not for the form.
    for (const [name, value] of Object.entries(parameters).reverse()) for (const one of [value].flat()) form.append(name, one)
    const target = `/api/webhooks/sms?x=${encodeURIComponent(text.slice(0, 5).replaceAll(/[\ud800-\udfff]/g, ''))}`
    const theirs = twilio.getExpectedTwilioSignature(token, `https://app.example${target}`, parameters)
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'x-twilio-signature': theirs }
    const sent = form.toString()
    if (!ours(headers, sent, target) || ours(headers, `${sent}&More=1`, target)) disagreed++
    if (!twilio.validateRequest(token, theirs, `https://app.example${target}`, parameters)) disagreed++
  }
  expect(disagreed).toBe(0)
}, 600_000)

it('Twilio, with and without a port, and however its query is escaped', async () => {
  const token = randomBytes(16).toString('hex')
  for (const [configured, signed] of [
    ['https://app.example', 'https://app.example'],
    ['https://app.example', 'https://app.example:443'],
    ['https://app.example:443', 'https://app.example'],
    ['https://app.example:8443', 'https://app.example:8443'],
    ['https://app.example:8443', 'https://app.example'],
    ['http://app.example', 'http://app.example:80'],
    ['https://app.example/base/', 'https://app.example/base'],
  ] as const)
    for (const [asked, signedQuery] of [
      ['', ''],
      ['?a=1&b=2', '?a=1&b=2'],
      ['?a=it%27s', "?a=it's"],
      ['?a=b%20c', '?a=b%20c'],
      ["?a=it's", '?a=it%27s'],
    ] as const) {
      const ours = await verifier('sms', { TWILIO_AUTH_TOKEN: token, PUBLIC_URL: configured })
      const header = twilio.getExpectedTwilioSignature(token, `${signed}/api/webhooks/sms${signedQuery}`, { Body: 'x' })
      const headers = { 'content-type': 'application/x-www-form-urlencoded', 'x-twilio-signature': header }
      // node:querystring writes an apostrophe as it is.
      const taken = ours(headers, 'Body=x', `/api/webhooks/sms${asked}`)
      expect([configured, signed, asked, signedQuery, taken]).toEqual([configured, signed, asked, signedQuery, !(asked === "?a=it's")])
    }
})

it('Twilio, JSON', async () => {
  const token = randomBytes(16).toString('hex')
  const ours = await verifier('sms', { TWILIO_AUTH_TOKEN: token, PUBLIC_URL: 'https://app.example' })
  let disagreed = 0
  for (const text of texts(Math.min(bodies, 2_000))) {
    const target = `/api/webhooks/sms?a=1&bodySHA256=${twilio.getExpectedBodyHash(text)}`
    const header = twilio.getExpectedTwilioSignature(token, `https://app.example${target}`, {})
    const headers = { 'content-type': 'application/json', 'x-twilio-signature': header }
    if (!twilio.validateRequestWithBody(token, header, `https://app.example${target}`, text)) disagreed++
    if (!ours(headers, text, target) || ours(headers, `${text} `, target)) disagreed++
  }
  expect(disagreed).toBe(0)
  // Without the hash the body is not signed at all.
  const unsigned = twilio.getExpectedTwilioSignature(token, 'https://app.example/api/webhooks/sms', {})
  expect(ours({ 'content-type': 'application/json', 'x-twilio-signature': unsigned }, '{}', '/api/webhooks/sms')).toBe(false)
})

it('SendGrid, whose own helper takes 4 ms a body', async () => {
  const { publicKey, privateKey } = sendgridKeys()
  const ours = await verifier('email', { SENDGRID_WEBHOOK_PUBLIC_KEY: publicKey })
  const helper = new EventWebhook()
  const key = helper.convertPublicKeyToECDSA(`-----BEGIN PUBLIC KEY-----\n${publicKey}\n-----END PUBLIC KEY-----`)
  let disagreed = 0
  for (const text of texts(Math.min(bodies, 200))) {
    const headers = signSendgrid(text, privateKey, now)
    const theirs = helper.verifySignature(key, text, headers['x-twilio-email-event-webhook-signature'] ?? '', String(now))
    if (!theirs || !ours(headers, text) || ours(headers, `${text}\n`)) disagreed++
  }
  for (const text of texts(bodies)) if (!ours(signSendgrid(text, privateKey, now), text)) disagreed++
  expect(disagreed).toBe(0)
}, 600_000)

it('Standard Webhooks, both ways', async () => {
  const secret = `whsec_${randomBytes(32).toString('base64')}`
  const theirs = new Webhook(secret)
  const keys = parseWebhookSecrets(secret, 'the test')
  const ours = await verifier('partner', { WEBHOOK_SECRETS: `partner=${secret}` })
  let disagreed = 0
  let n = 0
  for (const text of texts(bodies)) {
    const id = `msg_${n++}`
    const headers = { 'webhook-id': id, 'webhook-timestamp': String(now), 'webhook-signature': theirs.sign(id, new Date(now * 1000), text) }
    if (!ours(headers, text) || ours(headers, `${text}.`)) disagreed++
    const signed = signWebhook(keys, { id, timestamp: clock.now(), body: text })
    if (signed['webhook-signature'] !== headers['webhook-signature']) disagreed++
  }
  expect(disagreed).toBe(0)
}, 600_000)
