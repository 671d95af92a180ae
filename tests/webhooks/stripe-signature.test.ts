import { createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { stripe } from '../../lib/webhooks/sources/stripe.ts'
import { signStripe, stripeEvent } from '../doubles/stripe.ts'
import fc from '../support/fast-check.ts'

const secret = 'whsec_test_of_the_endpoint'
const clock = fixedClock('2026-11-21T12:00:00Z')
const now = clock.now().getTime() / 1000
const body = stripeEvent({ id: 'evt_1' })

function verify(given: { body?: string | Uint8Array; header?: string | null; secrets?: string; tolerance?: number }) {
  const bytes = typeof given.body === 'string' ? Buffer.from(given.body) : (given.body ?? Buffer.from(body))
  const headers = new Headers()
  const header = given.header === undefined ? signStripe(body, secret, now) : given.header
  if (header !== null) headers.append('stripe-signature', header)
  const config = defineConfig({
    app: { name: 'Test' },
    webhooks: { stripe: given.tolerance === undefined ? {} : { toleranceSeconds: given.tolerance } },
  })
  const request = { headers, body: bytes }
  const [event] = stripe.verify({ clock, config, env: readEnv({ STRIPE_WEBHOOK_SECRET: given.secrets ?? secret }) }, request).events
  return { eventId: event?.eventId, type: event?.type, occurredAt: event?.occurredAt, objectId: event?.objectId }
}

const refused = (given: Parameters<typeof verify>[0]) => {
  try {
    verify(given)
  } catch (error) {
    return (error as { code: string }).code
  }
  return 'accepted'
}

describe('the Stripe signature', () => {
  it('is accepted as the stripe package makes it', () => {
    expect(verify({})).toEqual({ eventId: 'evt_1', type: 'invoice.paid', occurredAt: new Date(1_795_000_000_000), objectId: 'in_evt_1' })
  })

  it('agrees with the stripe package on any text, for its HMAC is over bytes', () => {
    const texts = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('', '\r\n', '\u{feff}', 'ü\r\n日本 🎉'), fc.json())
    fc.assert(
      fc.property(texts, (text) => {
        const event = JSON.stringify({ id: 'evt_x', type: 'a.b', text }).replace('"text"', '\r\n"text"')
        expect(verify({ body: event, header: signStripe(event, secret, now) })).toMatchObject({ eventId: 'evt_x' })
        // Signed but no event: the signature is not what is wrong with it.
        expect(refused({ body: text, header: signStripe(text, secret, now) })).toBe('bad_request')
      }),
    )
  })

  it('is refused when a single byte of the body differs', () => {
    const header = signStripe(body, secret, now)
    fc.assert(
      fc.property(fc.nat(Buffer.byteLength(body) - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = Buffer.from(body)
        changed.writeUInt8(changed.readUInt8(at) ^ flip, at)
        expect(refused({ body: changed, header })).toBe('signature_invalid')
      }),
    )
    expect(refused({ body: `${body}\n`, header })).toBe('signature_invalid')
    expect(refused({ body: `\u{feff}${body}`, header })).toBe('signature_invalid')
    expect(refused({ body: body.replaceAll('\n', '\r\n'), header })).toBe('signature_invalid')
  })

  it('keeps a byte order mark in what is signed, and reads past it', () => {
    const marked = `\u{feff}${body}`
    const header = `t=${now},v1=${createHmac('sha256', secret).update(`${now}.`).update(Buffer.from(marked)).digest('hex')}`
    expect(verify({ body: marked, header }).eventId).toBe('evt_1')
  })

  it.each([
    ['is missing', null],
    ['is empty', ''],
    ['has no timestamp', signStripe(body, secret, now).replace(/t=\d+,/, '')],
    ['has no v1', `t=${now},v0=${'0'.repeat(64)}`],
    ['has a v1 that is too short', `t=${now},v1=abcdef`],
    ['has an upper-case v1', signStripe(body, secret, now).replace(/v1=(\w+)/, (_, hex: string) => `v1=${hex.toUpperCase()}`)],
    ['comes from another secret', signStripe(body, 'whsec_of_someone_else', now)],
    ['was sent twice', `${signStripe(body, secret, now)}, ${signStripe(body, secret, now)}`],
    ['has two timestamps', `${signStripe(body, secret, now)},t=${now}`],
    ['is too long', `${signStripe(body, secret, now)},v0=${'0'.repeat(5_000)}`],
    ['is not of name=value', `${signStripe(body, secret, now)},whatever`],
  ])('is refused when it %s', (_why, header) => {
    expect(refused({ header })).toBe('signature_invalid')
  })

  it.each([`${now}abc`, `${now}.5`, `-${now}`, `+${now}`, `0${now}`, `0x${now.toString(16)}`, `${now / 1e9}e9`])(
    'is refused with the timestamp "%s", correctly signed',
    (timestamp) => {
      const mac = createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex')
      expect(refused({ header: `t=${timestamp},v1=${mac}` })).toBe('signature_invalid')
    },
  )

  it.each([
    [-300, 'accepted'],
    [-301, 'signature_invalid'],
    [300, 'accepted'],
    [301, 'signature_invalid'],
    [31_536_000, 'signature_invalid'],
  ])('%i seconds from now is %s', (offset, verdict) => {
    expect(refused({ header: signStripe(body, secret, now + offset) })).toBe(verdict)
  })

  it("keeps to the policy's tolerance", () => {
    expect(refused({ header: signStripe(body, secret, now - 30), tolerance: 20 })).toBe('signature_invalid')
    expect(refused({ header: signStripe(body, secret, now - 3_000), tolerance: 3_600 })).toBe('accepted')
  })

  it('may be of any of the secrets, and one of several v1', () => {
    const secrets = 'whsec_the_old_one, whsec_the_new_one'
    expect(refused({ secrets, header: signStripe(body, 'whsec_the_old_one', now) })).toBe('accepted')
    expect(refused({ secrets, header: signStripe(body, 'whsec_the_new_one', now) })).toBe('accepted')
    const [, second] = signStripe(body, 'whsec_the_new_one', now).split(',') as [string, string]
    expect(refused({ secrets: 'whsec_the_new_one', header: `${signStripe(body, 'whsec_the_old_one', now)},${second}` })).toBe('accepted')
    expect(refused({ secrets, header: signStripe(body, secrets, now) })).toBe('signature_invalid')
  })

  it.each(['', ' ', ',,,,,,,,', 'whsec_the_new_one,x'])('with the secret "%s" is nothing to be accepted by', (secrets) => {
    expect(refused({ secrets, header: signStripe(body, 'x'.padEnd(8, 'x'), now) })).toBe('not_configured')
  })

  it.each([
    ['is not JSON', 'nothing'],
    ['is not UTF-8', Buffer.from([0x22, 0xff, 0x22])],
    ['is a list', '[]'],
    ['is null', 'null'],
    ['has no id', JSON.stringify({ type: 'a.b' })],
    ['has no type', JSON.stringify({ id: 'evt_1' })],
    ['has a number for an id', JSON.stringify({ id: 1, type: 'a.b' })],
    ['has a NUL in its id', JSON.stringify({ id: 'evt\0', type: 'a.b' })],
    ['has an endless type', JSON.stringify({ id: 'evt_1', type: 'a'.repeat(256) })],
  ])('is right but the body %s: bad_request', (_why, bytes) => {
    const raw = Buffer.from(bytes)
    const header = `t=${now},v1=${createHmac('sha256', secret).update(`${now}.`).update(raw).digest('hex')}`
    expect(refused({ body: raw, header })).toBe('bad_request')
  })

  it('reads thin events, whose time is a text', () => {
    const thin = JSON.stringify({
      id: 'evt_thin',
      object: 'v2.core.event',
      type: 'v1.billing.meter.error',
      created: '2026-11-21T11:59:00.000Z',
      related_object: { id: 'mtr_1' },
    })
    expect(verify({ body: thin, header: signStripe(thin, secret, now) })).toEqual({
      eventId: 'evt_thin',
      type: 'v1.billing.meter.error',
      occurredAt: new Date('2026-11-21T11:59:00Z'),
      objectId: 'mtr_1',
    })
  })

  it.each([1e20, -5, 'yesterday', null, {}])('does without a time where "created" is %j', (created) => {
    const odd = JSON.stringify({ id: 'evt_1', type: 'a.b', created })
    expect(verify({ body: odd, header: signStripe(odd, secret, now) }).occurredAt).toBeUndefined()
  })
})
