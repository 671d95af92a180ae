import { createHmac, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { Webhook } from 'standardwebhooks'
import { describe, expect, it } from 'vitest'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { parseWebhookSecrets, signWebhook, verifyWebhook } from '../../lib/platform/standard-webhooks.ts'
import fc from '../support/fast-check.ts'

const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
const other = `whsec_${Buffer.alloc(24, 9).toString('base64')}`
const keys = parseWebhookSecrets(secret, 'SECRET')
const now = new Date('2026-11-21T12:00:00.500Z')
const body = Buffer.from('{"type":"job.due"}')

function received(changes: Record<string, string | null> = {}, content: Uint8Array = body) {
  const headers = new Headers({ ...signWebhook(keys, { id: 'msg_1', timestamp: now, body }) })
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) headers.delete(name)
    else headers.set(name, value)
  }
  return { headers, body: content }
}

function refusal(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (error instanceof CaretakerError) return `${error.code}: ${error.detail}`
    throw error
  }
  return 'accepted'
}

describe('signing', () => {
  it('is what the standard library verifies, and the other way round', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 24, maxLength: 64 }),
        fc.stringMatching(/^[A-Za-z0-9_-]{1,40}$/),
        fc.json(),
        (key, id, json) => {
          const text = `whsec_${Buffer.from(key).toString('base64')}`
          const mine = parseWebhookSecrets(text, 'SECRET')
          const theirs = new Webhook(text)
          const at = new Date()
          const headers = signWebhook(mine, { id, timestamp: at, body: json })
          expect(headers['webhook-signature']).toBe(theirs.sign(id, at, json))
          expect(theirs.verify(json, { ...headers })).toEqual(JSON.parse(json))
          const incoming = new Headers({ ...headers, 'webhook-signature': theirs.sign(id, at, json) })
          expect(verifyWebhook(mine, { headers: incoming, body: Buffer.from(json) }, { now: at }).id).toBe(id)
        },
      ),
      { numRuns: 100 },
    )
  })

  it('signs with every secret, so that a receiver may hold either', () => {
    const both = parseWebhookSecrets(`${secret}, ${other}`, 'SECRET')
    const headers = new Headers({ ...signWebhook(both, { id: 'msg_1', timestamp: now, body }) })
    expect(headers.get('webhook-signature')?.split(' ')).toHaveLength(2)
    for (const one of [secret, other])
      expect(verifyWebhook(parseWebhookSecrets(one, 'S'), { headers, body }, { now })).toEqual({
        id: 'msg_1',
        timestamp: new Date('2026-11-21T12:00:00Z'),
      })
  })

  it.each(['', 'a.b', 'a b', 'a,b', 'ä', 'x'.repeat(256)])('refuses the id %j', (id) => {
    expect(refusal(() => signWebhook(keys, { id, timestamp: now, body }))).toContain('invalid_input')
  })

  it('signs bytes as they are, text or not', () => {
    const bytes = Buffer.from([0, 255, 128, 46, 10])
    const headers = signWebhook(keys, { id: 'a', timestamp: now, body: bytes })
    const expected = createHmac('sha256', Buffer.alloc(32, 7))
      .update(Buffer.concat([Buffer.from(`a.${Math.floor(now.getTime() / 1000)}.`), bytes]))
      .digest('base64')
    expect(headers['webhook-signature']).toBe(`v1,${expected}`)
  })
})

describe('ed25519', () => {
  const pair = generateKeyPairSync('ed25519')
  const seed = pair.privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32)
  const point = pair.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)
  const publicKey = parseWebhookSecrets(`whpk_${point.toString('base64')}`, 'KEY')

  it.each([
    ['a seed', seed],
    ['a seed with its public key', Buffer.concat([seed, point])],
  ])('signs with %s, and the public key verifies', (_name, bytes) => {
    const secretKey = parseWebhookSecrets(`whsk_${bytes.toString('base64')}`, 'KEY')
    const headers = new Headers({ ...signWebhook(secretKey, { id: 'msg_1', timestamp: now, body }) })
    expect(verifyWebhook(publicKey, { headers, body }, { now }).id).toBe('msg_1')
    expect(verifyWebhook(secretKey, { headers, body }, { now }).id).toBe('msg_1')
    expect(refusal(() => verifyWebhook(publicKey, { headers, body: Buffer.from('{}') }, { now }))).toContain('no signature matches')
    const by = sign(null, Buffer.from(`msg_1.${Math.floor(now.getTime() / 1000)}.${body.toString()}`), pair.privateKey)
    expect(headers.get('webhook-signature')).toBe(`v1a,${by.toString('base64')}`)
  })

  it('does not sign with a public key', () => {
    expect(refusal(() => signWebhook(publicKey, { id: 'a', timestamp: now, body }))).toContain('cannot sign')
  })

  it('does not take an HMAC made with the public key for a signature', () => {
    const forged = createHmac('sha256', point)
      .update(`msg_1.${Math.floor(now.getTime() / 1000)}.`)
      .update(body)
      .digest('base64')
    for (const signature of [`v1,${forged}`, `v1a,${forged}`])
      expect(refusal(() => verifyWebhook(publicKey, received({ 'webhook-signature': signature }), { now }))).toContain('signature_invalid')
  })
})

describe('verifying', () => {
  it.each<[string, Record<string, string | null>, string]>([
    ['no id', { 'webhook-id': null }, 'the header webhook-id is missing'],
    ['no timestamp', { 'webhook-timestamp': null }, 'the header webhook-timestamp is missing'],
    ['no signature', { 'webhook-signature': null }, 'the header webhook-signature is missing'],
    ['two ids', { 'webhook-id': 'msg_1, msg_1' }, 'webhook-id is malformed or was sent twice'],
    ['another id', { 'webhook-id': 'msg_2' }, 'no signature matches'],
    ['an id with a dot', { 'webhook-id': 'msg_1.1' }, 'webhook-id is malformed'],
    ['a timestamp with a tail', { 'webhook-timestamp': '1795262400abc' }, 'not a whole number'],
    ['a fraction', { 'webhook-timestamp': '1795262400.5' }, 'not a whole number'],
    ['two timestamps', { 'webhook-timestamp': '1795262400, 1795262400' }, 'not a whole number'],
    ['an exponent', { 'webhook-timestamp': '1e9' }, 'not a whole number'],
    ['two signature headers', { 'webhook-signature': 'v1,YQ==, v1,YQ==' }, 'malformed or was sent twice'],
    ['a signature of the wrong length', { 'webhook-signature': 'v1,YQ==' }, 'no usable v1'],
    ['a scheme to come', { 'webhook-signature': `v9,${Buffer.alloc(32).toString('base64')}` }, 'no usable v1'],
    ['an endless header', { 'webhook-signature': `v1,${'a'.repeat(5000)}` }, 'accepted are 4096'],
  ])('refuses %s', (_name, changes, why) => {
    expect(refusal(() => verifyWebhook(keys, received(changes), { now }))).toContain(why)
  })

  it('looks at the time in both directions', () => {
    const at = (seconds: number) => new Date(now.getTime() + seconds * 1_000)
    expect(refusal(() => verifyWebhook(keys, received(), { now: at(300) }))).toBe('accepted')
    expect(refusal(() => verifyWebhook(keys, received(), { now: at(302) }))).toContain('seconds old')
    expect(refusal(() => verifyWebhook(keys, received(), { now: at(-300) }))).toBe('accepted')
    expect(refusal(() => verifyWebhook(keys, received(), { now: at(-302) }))).toContain('seconds ahead')
    expect(refusal(() => verifyWebhook(keys, received(), { now: at(20), toleranceSeconds: 10 }))).toContain('accepted are 10')
  })

  it('refuses a changed body, whichever byte it was', () => {
    for (let at = 0; at < body.length; at++) {
      const changed = Buffer.from(body)
      changed[at] = (changed[at] as number) ^ 1
      expect(refusal(() => verifyWebhook(keys, received({}, changed), { now }))).toContain('no signature matches')
    }
  })

  it("reads Svix's names of the headers", () => {
    const { headers } = received()
    const renamed = new Headers([...headers].map(([name, value]) => [name.replace('webhook-', 'svix-'), value] as [string, string]))
    expect(verifyWebhook(keys, { headers: renamed, body }, { now }).id).toBe('msg_1')
  })

  it('accepts nothing without a key', () => {
    expect(refusal(() => verifyWebhook([], received(), { now }))).toContain('not_configured')
  })
})

describe('secrets', () => {
  const random = randomBytes(32).toString('base64')
  it.each<[string | undefined, string]>([
    [undefined, 'SECRET is not set'],
    ['', 'SECRET is not set'],
    [' , ', 'SECRET is not set'],
    ['hunter2', 'Entry 1 of SECRET is not a secret'],
    [random, 'Entry 1 of SECRET is not a secret'],
    [`${secret},whsec_`, 'Entry 2 of SECRET is not a secret'],
    [`whsec_${Buffer.alloc(23).toString('base64')}`, 'has 23 bytes; expected at least 24'],
    [`whpk_${Buffer.alloc(31).toString('base64')}`, 'has 31 bytes; expected the 32'],
  ])('refuses %j without showing it', (value, why) => {
    const answer = refusal(() => parseWebhookSecrets(value, 'SECRET'))
    expect(answer).toContain(why)
    expect(answer).not.toMatch(/hunter2|AAAA/)
    expect(answer).not.toContain(random)
  })
})
