import { createHmac, randomBytes } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Stripe from 'stripe'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { systemClock } from '../../lib/platform/clock.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { createLog } from '../../lib/platform/log.ts'
import { parseWebhookSecrets, signWebhook } from '../../lib/platform/standard-webhooks.ts'
import { webhooks } from '../../lib/routes/webhooks.ts'
import { sendgridKeys, signSendgrid } from '../doubles/sendgrid.ts'
import { twilioForm } from '../doubles/twilio.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'
import { generator } from './stripe-history.ts'

/* Requests that are wrong in every way this test could think of, over all webhook routes. WEBHOOK_REQUESTS changes how many. */

const count = Number(process.env.WEBHOOK_REQUESTS ?? 20_000)
const test = useTestDatabase()
const keys = sendgridKeys()
const stripe = new Stripe('sk_test_x')
const stripeSecret = 'whsec_of_the_endpoint'
const token = randomBytes(16).toString('hex')
const standardSecret = `whsec_${randomBytes(24).toString('base64')}`
const secrets = {
  STRIPE_WEBHOOK_SECRET: stripeSecret,
  TWILIO_AUTH_TOKEN: token,
  PUBLIC_URL: 'http://localhost',
  SENDGRID_WEBHOOK_PUBLIC_KEY: keys.publicKey,
  WEBHOOK_SECRETS: `clerk=${standardSecret},hook=v1,${standardSecret},github=a secret of github,logs=a secret of the drain`,
}
const rejections: unknown[] = []
const noteRejection = (error: unknown) => void rejections.push(error)

beforeEach(() => void process.on('unhandledRejection', noteRejection))
afterEach(() => void process.off('unhandledRejection', noteRejection))

const random = generator(2_026)
const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
const chance = (share: number) => random() < share

const paths = [
  ...Array.from({ length: 4 }, () => ['stripe', 'sms', 'sms/status', 'email', 'clerk', 'hook', 'github', 'logs']).flat(),
  '__proto__',
  'constructor',
  'toString',
  'Stripe',
  'stripe/',
  'stripe/x',
  '%00',
  '%',
  '..%2f..%2fcron%2ftick',
  'sms/status/x',
  'x'.repeat(3_000),
  '',
]
const garbage = [
  '',
  ' ',
  '\0',
  '{',
  '[]',
  '[1]',
  '[{}]',
  '[{"event":1}]',
  'null',
  'true',
  '1e999',
  '""',
  '{"id":1,"type":2}',
  '{"id":"","type":"a"}',
  '{"id":"evt 1","type":"a.b"}',
  '{"id":"e\\u0000","type":"a.b"}',
  '{"__proto__":{"id":"x","type":"y"}}',
  '{"type":{"a":1},"data":[]}',
  '{"user":1,"claims":{}}',
  'a=1&b=2',
  'MessageSid=&From=&To=',
  'MessageSid=SM1',
  '%FF%FE=%',
  '&&&===',
  `${'['.repeat(20_000)}`,
  `{"a":${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}}`,
  '\u{feff}{}',
  '{"id":"x"}\n{"id":"y"}',
]
const types = [
  'application/json',
  'application/json; charset=utf-16',
  'text/plain',
  'application/x-www-form-urlencoded',
  'multipart/form-data',
  '',
  ';;;',
  'application/JSON',
  'a/b; charset="',
]
const headerNames = [
  'stripe-signature',
  'x-twilio-signature',
  'x-twilio-email-event-webhook-signature',
  'x-twilio-email-event-webhook-timestamp',
  'webhook-id',
  'webhook-timestamp',
  'webhook-signature',
  'svix-id',
  'x-hub-signature-256',
  'x-github-event',
  'x-vercel-signature',
  'authorization',
  'content-encoding',
  'content-length',
  'x-forwarded-host',
  'transfer-encoding',
]
const headerValues = () =>
  pick([
    '',
    'a',
    't=1,v1=00',
    `t=${Math.floor(Date.now() / 1000)},v1=${'0'.repeat(64)}`,
    `t=${'9'.repeat(40)},v1=${'a'.repeat(64)}`,
    't=1e9,v1=zz',
    `v1,${randomBytes(32).toString('base64')}`,
    `v1a,${randomBytes(64).toString('base64')}`,
    `v1,a v1,b v2,c`,
    `sha256=${randomBytes(32).toString('hex')}`,
    `${randomBytes(20).toString('base64')}`,
    'gzip',
    '-1',
    '99999999999',
    'x'.repeat(6_000),
    'a, a',
    'msg.1',
    'Bearer x',
    String(Math.floor(Date.now() / 1000)),
  ])

function bodyOf(): string | Buffer {
  if (chance(0.5)) return pick(garbage)
  if (chance(0.3)) return randomBytes(Math.floor(random() * 300))
  const base = pick(garbage)
  const at = Math.floor(random() * base.length)
  return base.slice(0, at) + String.fromCharCode(Math.floor(random() * 0xd7ff)) + base.slice(at)
}

/** Right in everything but what is signed: no event, or not one that can be read. */
function signed(path: string, body: string | Buffer): Record<string, string> {
  const text = body.toString()
  const now = Math.floor(Date.now() / 1000)
  if (path === 'stripe') {
    const mac = createHmac('sha256', stripeSecret).update(`${now}.`).update(body).digest('hex')
    return chance(0.5)
      ? { 'stripe-signature': `t=${now},v1=${mac}` }
      : { 'stripe-signature': stripe.webhooks.generateTestHeaderString({ payload: text, secret: stripeSecret }) }
  }
  if (path === 'email') return signSendgrid(body, keys.privateKey, now)
  if (path === 'clerk' || path === 'hook')
    return { ...signWebhook(parseWebhookSecrets(standardSecret, 'x'), { id: 'msg_fuzz', timestamp: new Date(), body }) }
  if (path === 'github')
    return {
      'x-github-event': pick(['push', 'PUSH', '', 'a b']),
      'x-hub-signature-256': `sha256=${createHmac('sha256', 'a secret of github').update(body).digest('hex')}`,
    }
  if (path === 'logs') return { 'x-vercel-signature': createHmac('sha1', 'a secret of the drain').update(body).digest('hex') }
  return twilioForm(`http://localhost/api/webhooks/${path}`, Object.fromEntries(new URLSearchParams(text)), token).headers
}

/** Well-formed by chance, so that nothing but its signature could be wrong. */
function isFine(path: string, body: string | Buffer): boolean {
  if (path === 'logs') return true
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString().replace(/^\u{feff}/u, ''))
  } catch {
    return false
  }
  if (path === 'email') return Array.isArray(parsed) && parsed.length === 0
  const { id, type, event } = (parsed ?? {}) as Record<string, unknown>
  const word = (value: unknown) => typeof value === 'string' && /^[\x21-\x7e]+$/.test(value)
  return path === 'stripe' ? word(id) && word(type) : path === 'clerk' ? word(type) || word(event) : false
}

it('malformed requests are all refused, with 4xx or 503, without a query, a rejection or a leak', { timeout: 600_000 }, async () => {
  const config = defineConfig({
    app: { name: 'Test' },
    webhooks: { stripe: {}, twilio: {}, sendgrid: {}, sources: { clerk: {}, hook: { kind: 'supabase' }, github: { kind: 'github' } } },
  })
  const base = testContext(test.db, { clock: systemClock, config, log: createLog({ level: 'silent' }) })
  const configured = { ...base, env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), ...secrets }) }
  const servers = [
    testServer(webhooks({ wake: () => Promise.resolve() }), configured),
    testServer(webhooks({ wake: () => Promise.resolve() }), configured),
    testServer(webhooks({ wake: () => Promise.resolve() }), { ...base, env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32) }) }),
    testServer(webhooks({ wake: () => Promise.resolve() }), { ...base, env: readEnv(secrets) }),
  ]
  const execute = vi.spyOn(test.db, 'execute')
  const query = vi.spyOn(test.db, 'query')
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const heap = () => {
    collect()
    return process.memoryUsage().heapUsed
  }
  const statuses = new Map<number, number>()
  let before = 0
  for (let n = 0; n < count; n++) {
    // Once everything is loaded and warm.
    if (n === Math.floor(count / 4)) before = heap()
    const path = pick(paths)
    const body = bodyOf()
    const headers = new Headers()
    if (chance(0.8)) headers.set('content-type', pick(types))
    for (let more = Math.floor(random() * 4); more > 0; more--) headers.append(pick(headerNames), headerValues())
    if (chance(0.4) && !isFine(path, body)) for (const [name, value] of Object.entries(signed(path, body))) headers.set(name, value)
    const method = chance(0.9) ? 'POST' : pick(['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD'])
    const init = {
      method,
      headers,
      ...(method === 'GET' || method === 'HEAD' ? {} : { body: typeof body === 'string' ? body : new Uint8Array(body) }),
    }
    const response = await pick(servers).request(`/api/webhooks/${path}${chance(0.2) ? '?bodySHA256=00&x=%' : ''}`, init)
    const { status } = response
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
    if (!(status >= 400 && status < 500) && status !== 503)
      expect.fail(
        `${method} ${path.slice(0, 60)} ${JSON.stringify(body.toString().slice(0, 80))} ${JSON.stringify([...headers])}: ${status} ${await response.text()}`,
      )
    const text = await response.text()
    if (method !== 'HEAD') expect(Object.keys(JSON.parse(text) as object)).toEqual(expect.arrayContaining(['code', 'status', 'detail']))
  }
  const grown = heap() - before
  for (const server of servers) await server.settled()
  expect(rejections).toEqual([])
  // What was refused was refused without asking anybody; only that there were many of them is told, once.
  expect(execute).not.toHaveBeenCalled()
  expect(query).not.toHaveBeenCalled()
  expect(await test.db.query('select from caretaker.inbox')).toEqual([])
  expect([...statuses.keys()].sort()).toEqual(expect.arrayContaining([400, 404, 405, 415, 429, 503]))
  expect(grown).toBeLessThan(32 * 1024 * 1024)
})
