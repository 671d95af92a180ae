import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { findJob, jobs } from '../../../lib/catalog.ts'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import type { JobRun } from '../../../lib/platform/job.ts'
import { emitEvent } from '../../../lib/platform/outbox.ts'
import {
  deliverMessages,
  emitToSubscribers,
  forwardOutbox,
  listDeliveries,
  redeliver,
  subscriberSecret,
} from '../../../lib/webhooks/index.ts'
import { deliveryDelayMs, maxAttempts } from '../../../lib/webhooks/outgoing/deliver.ts'
import { logLines, testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

type Subscribers = NonNullable<NonNullable<PolicyInput['webhooks']>['subscribers']>

const test = useTestDatabase()
let server: Server
let origin: string
let received: { path: string; headers: IncomingMessage['headers']; body: string }[]
let answer: (request: IncomingMessage, response: ServerResponse) => void

beforeEach(async () => {
  received = []
  answer = (_request, response) => void response.writeHead(204).end()
  server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => {
      received.push({ path: request.url ?? '', headers: request.headers, body })
      answer(request, response)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  await test.db.execute('truncate caretaker.messages, caretaker.deliveries, caretaker.subscribers, caretaker.outbox')
})
afterEach(() => {
  server.closeAllConnections()
  server.close()
})

function context(subscribers: Subscribers, environment: Record<string, string> = {}) {
  // The receiver's own library reads the real clock.
  const clock = fixedClock(new Date())
  const ctx = testContext(test.db, {
    clock,
    config: defineConfig({ app: { name: 'Test' }, webhooks: { subscribers } }),
    env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), ...environment }),
    deadline: new Date(clock.now().getTime() + 30 * 86_400_000),
  })
  return Object.assign(ctx, { clock })
}

/** Generous, for busy machines, but where a time-out is what the test is about. */
const n8n = (timeout = '20 seconds'): Subscribers => ({ n8n: { url: `${origin}/n8n`, events: ['order.*'], allowPrivate: true, timeout } })
const emit = (ctx: Context, type: string, data: Record<string, unknown> = {}) =>
  test.db.transaction((tx) => emitToSubscribers(ctx, tx, { type, data }))
const topics = async () =>
  (await test.db.query<{ topic: string }>('select topic from caretaker.outbox order by id')).map(({ topic }) => topic)

describe('what is emitted', () => {
  it('reaches who wants it, signed so that the standard library takes it, and nobody else', async () => {
    const ctx = context(
      {
        ...n8n(),
        make: { url: { env: 'MAKE_COM_WEBHOOK_URL' }, events: ['user.created'], allowPrivate: true },
        all: { url: `${origin}/all`, events: ['*'], allowPrivate: true },
      },
      { MAKE_COM_WEBHOOK_URL: 'http://127.0.0.1:9/make' },
    )
    const id = await emit(ctx, 'order.paid', { order: 7, note: 'ü\r\n🎉' })
    expect(await deliverMessages(ctx)).toEqual({ delivered: 2, failed: 0, dead: 0 })
    expect(received.map(({ path }) => path).sort()).toEqual(['/all', '/n8n'])
    for (const { path, headers, body } of received) {
      expect(headers).toMatchObject({
        'content-type': 'application/json',
        'webhook-id': id,
        'user-agent': expect.stringMatching(/^Caretaker\//),
      })
      expect(JSON.parse(body)).toEqual({
        type: 'order.paid',
        timestamp: ctx.clock.now().toISOString(),
        data: { order: 7, note: 'ü\r\n🎉' },
      })
      const own = new Webhook(subscriberSecret(ctx.env, path.slice(1)))
      expect(() => own.verify(body, headers as Record<string, string>)).not.toThrow()
      // Each has a secret of its own: none can sign for another.
      expect(() => new Webhook(subscriberSecret(ctx.env, 'make')).verify(body, headers as Record<string, string>)).toThrow()
      expect(() => own.verify(`${body} `, headers as Record<string, string>)).toThrow()
    }
    expect(await deliverMessages(ctx)).toEqual({ delivered: 0, failed: 0, dead: 0 })
  })

  it('is gone with a transaction that is rolled back, and unreadable in the database', async () => {
    const ctx = context(n8n())
    await expect(
      test.db.transaction(async (tx) => {
        await emitToSubscribers(ctx, tx, { type: 'order.paid', data: {} })
        throw new Error('no')
      }),
    ).rejects.toThrow('no')
    expect(await listDeliveries(ctx)).toEqual([])
    await emit(ctx, 'order.paid', { email: 'ada@example.com' })
    const [row] = await test.db.query<{ payload: Buffer }>('select payload from caretaker.messages')
    expect(row?.payload.toString('latin1')).not.toContain('ada@')
    expect(await emit(ctx, 'nobody.wants', {})).toBeNull()
  })

  it.each(['', 'a b', '.a', 'a.', 'a..b', 'ä', 'x'.repeat(121)])('is refused with the type "%s"', async (type) => {
    await expect(emit(context(n8n()), type)).rejects.toMatchObject({ code: 'invalid_input' })
  })

  it('is refused when it is too large', async () => {
    await expect(emit(context(n8n()), 'order.paid', { text: 'x'.repeat(300_000) })).rejects.toMatchObject({ code: 'invalid_input' })
  })

  it('may be signed with secrets of its own, both while one is rotated', async () => {
    const secrets = [1, 2].map((fill) => `whsec_${Buffer.alloc(24, fill).toString('base64')}`)
    const ctx = context(n8n(), { SUBSCRIBER_SECRETS: `other=whsec_AAAA,n8n=${secrets[0]}, n8n=${secrets[1]}` })
    await emit(ctx, 'order.paid')
    await deliverMessages(ctx)
    const [one] = received
    for (const secret of secrets)
      expect(() => new Webhook(secret).verify(one?.body ?? '', one?.headers as Record<string, string>)).not.toThrow()
  })

  it('has the form that Slack or the subscriber wants', async () => {
    const ctx = context({
      slack: { url: `${origin}/slack`, events: ['deploy.*'], format: 'slack', allowPrivate: true },
      taskmaster: {
        url: `${origin}/taskmaster`,
        events: ['deploy.done'],
        allowPrivate: true,
        body: ({ data, at }) => ({ deployment_id: data.commit, status: 'success', environment: 'production', timestamp: at.toISOString() }),
      },
    })
    await emit(ctx, 'deploy.done', { commit: 'abc', text: '<!channel> & <https://evil.example|here>', n: 1 })
    await deliverMessages(ctx)
    const bodies = Object.fromEntries(received.map(({ path, body }) => [path, JSON.parse(body) as unknown]))
    expect(bodies).toEqual({
      '/slack': { text: '*deploy.done*\n• commit: abc\n• text: &lt;!channel&gt; &amp; &lt;https://evil.example|here&gt;\n• n: 1' },
      '/taskmaster': { deployment_id: 'abc', status: 'success', environment: 'production', timestamp: ctx.clock.now().toISOString() },
    })
  })
})

describe('the outbox', () => {
  it("is forwarded: Caretaker's own events, and those of the app's SQL, whose payloads do not stay in the clear", async () => {
    const ctx = context({ ops: { url: `${origin}/ops`, events: ['gdpr.*', 'order.paid'], allowPrivate: true } })
    await test.db.transaction(async (tx) => {
      await emitEvent(tx, 'gdpr.erased', { request: 'r1' })
      await emitEvent(tx, 'backup.done', {})
      await tx.query(`select caretaker.emit('order.paid', '{"email": "ada@example.com"}')`)
    })
    await expect(test.db.query(`select caretaker.emit('order paid', '{}')`)).rejects.toThrow(/expected words joined by dots/)
    expect(await forwardOutbox(ctx)).toEqual({ taken: 3, more: false })
    expect(await forwardOutbox(ctx)).toEqual({ taken: 0, more: false })
    await deliverMessages(ctx)
    // Both are on their way at once: which one arrives first is nobody's promise.
    const data = received.map(({ body }) => JSON.stringify((JSON.parse(body) as { data: unknown }).data))
    expect(data.sort()).toEqual(['{"email":"ada@example.com"}', '{"request":"r1"}'])
    expect(JSON.stringify(await test.db.query('select payload from caretaker.outbox'))).not.toContain('ada@')
  })

  it('forwards nothing of before there were subscribers, and no trouble with subscribers to subscribers', async () => {
    const ctx = context({ all: { url: `${origin}/all`, events: ['*'], allowPrivate: true } })
    await test.db.transaction(async (tx) => {
      await emitEvent(tx, 'job.failed', { job: 'old' })
      await tx.execute(`update caretaker.outbox set at = now() - interval '2 days'`)
      await emitEvent(tx, 'webhooks.delivery_dead', {})
      await emitEvent(tx, 'webhooks.subscriber_gone', {})
      await emitEvent(tx, 'webhooks.dead', {})
    })
    await forwardOutbox(ctx)
    expect((await listDeliveries(ctx)).map(({ type }) => type)).toEqual(['webhooks.dead'])
  })

  it('is not held up by an event that cannot be sent', async () => {
    const ctx = context({ all: { url: `${origin}/all`, events: ['*'], allowPrivate: true } })
    await test.db.transaction(async (tx) => {
      await emitEvent(tx, 'big.one', { text: 'x'.repeat(300_000) })
      await emitEvent(tx, 'small.one', {})
    })
    await forwardOutbox(ctx)
    expect((await listDeliveries(ctx)).map(({ type }) => type)).toEqual(['small.one'])
    expect(logLines(ctx).join('')).toContain('event not forwarded')
  })
})

describe('a delivery that fails', () => {
  it.each([
    ['500', (_request: IncomingMessage, response: ServerResponse) => void response.writeHead(500).end(), 'http_500'],
    [
      'a redirect',
      (_request: IncomingMessage, response: ServerResponse) => void response.writeHead(301, { location: '/x' }).end(),
      'http_301',
    ],
    ['a hang-up', (request: IncomingMessage) => void request.socket.destroy(), 'upstream_failed'],
    ['silence', () => undefined, 'timeout'],
  ])('with %s is tried again later, with the same id and a new signature', async (_what, failing, code) => {
    const ctx = context(n8n(code === 'timeout' ? '1 second' : '20 seconds'))
    await emit(ctx, 'order.paid', { n: 1 })
    answer = failing
    expect(await deliverMessages(ctx)).toEqual({ delivered: 0, failed: 1, dead: 0 })
    expect(await listDeliveries(ctx)).toMatchObject([{ state: 'waiting', attempts: 1, error: { code } }])
    expect(await deliverMessages(ctx)).toEqual({ delivered: 0, failed: 0, dead: 0 })
    answer = (_request, response) => void response.writeHead(200).end('ok')
    ctx.clock.advance(5_000)
    expect(await deliverMessages(ctx)).toEqual({ delivered: 1, failed: 0, dead: 0 })
    expect(await listDeliveries(ctx)).toMatchObject([{ state: 'delivered', attempts: 2, status: 200, error: null }])
    const [first, second] = received
    expect(second?.headers['webhook-id']).toBe(first?.headers['webhook-id'])
    expect(second?.headers['webhook-timestamp']).not.toBe(first?.headers['webhook-timestamp'])
  })

  it('is a dead letter after twelve attempts, and is sent again on request', async () => {
    const ctx = context(n8n())
    await emit(ctx, 'order.paid')
    answer = (_request, response) => void response.writeHead(400).end()
    let attempts = 0
    for (let round = 0; round < 200; round++) {
      const { failed, dead } = await deliverMessages(ctx)
      attempts += failed + dead
      if (dead > 0) break
      ctx.clock.advance(1_800_000)
    }
    expect(attempts).toBe(maxAttempts)
    expect(await listDeliveries(ctx, { state: 'dead' })).toMatchObject([
      { attempts: maxAttempts, status: 400, error: { code: 'http_400' } },
    ])
    expect(await topics()).toEqual(['webhooks.delivery_dead'])
    answer = (_request, response) => void response.writeHead(200).end()
    const [dead] = await listDeliveries(ctx)
    await redeliver(ctx, [dead?.id ?? ''])
    expect(await deliverMessages(ctx)).toMatchObject({ delivered: 1 })
    // The receiver tells repeats by their id, so a delivered one may be sent again too.
    await redeliver(ctx, [dead?.messageId ?? ''])
    expect(await deliverMessages(ctx)).toMatchObject({ delivered: 1 })
    expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    await expect(redeliver(ctx, ['msg_none'])).rejects.toMatchObject({ code: 'not_found' })
    expect(await test.db.query(`select action from caretaker.audit where action = 'webhooks.redelivered'`)).toHaveLength(2)
  })

  it('is given up after three days, whatever the attempts', async () => {
    const ctx = context(n8n())
    await emit(ctx, 'order.paid')
    ctx.clock.advance(3 * 86_400_000 + 1)
    expect(await deliverMessages(ctx)).toEqual({ delivered: 0, failed: 0, dead: 1 })
    expect(await listDeliveries(ctx)).toMatchObject([{ state: 'dead', attempts: 0, error: { code: 'expired' } }])
    expect(received).toEqual([])
  })

  it('to an address that may not be called is dead at once, and reaches nobody', async () => {
    const ctx = context({
      inside: { url: `${origin.replace('http:', 'https:')}/`, events: ['*'] },
      named: { url: 'https://metadata.example/', events: ['*'] },
    })
    await emit(ctx, 'order.paid')
    const resolve = () => Promise.resolve([{ address: '169.254.169.254', family: 4 }])
    expect(await deliverMessages(ctx, { resolve })).toEqual({ delivered: 0, failed: 0, dead: 2 })
    expect((await listDeliveries(ctx)).map(({ error }) => error?.code)).toEqual(['address_refused', 'address_refused'])
    expect(received).toEqual([])
  })

  it('ends it all with 410: nothing more is sent there until somebody asks', async () => {
    const ctx = context(n8n())
    for (let n = 0; n < 6; n++) await emit(ctx, 'order.paid', { n })
    answer = (_request, response) => void response.writeHead(410).end()
    await deliverMessages(ctx)
    const asked = received.length
    await deliverMessages(ctx)
    expect(received.length).toBe(asked)
    const dead = await listDeliveries(ctx, { state: 'dead' })
    expect(dead).toHaveLength(6)
    expect((await topics()).filter((topic) => topic === 'webhooks.subscriber_gone')).toHaveLength(1)
    answer = (_request, response) => void response.writeHead(200).end()
    await redeliver(
      ctx,
      dead.map(({ id }) => id),
    )
    expect(await deliverMessages(ctx)).toMatchObject({ delivered: 6 })
  })

  it('waits for a setting that is missing, and holds up nobody else', async () => {
    const ctx = context({ make: { url: { env: 'MAKE_COM_WEBHOOK_URL' }, events: ['*'] }, ...n8n() })
    await emit(ctx, 'order.paid')
    expect(await deliverMessages(ctx)).toEqual({ delivered: 1, failed: 0, dead: 0 })
    expect(await listDeliveries(ctx, { subscriber: 'make' })).toMatchObject([{ state: 'waiting', attempts: 0 }])
    expect(logLines(ctx).join('')).toContain('MAKE_COM_WEBHOOK_URL')
    // Nobody looks every minute; once it is set, it is told.
    const pending = () => findJob(jobs(ctx.config), 'webhooks-deliver').pending?.(ctx)
    expect(await pending()).toBe(false)
    const set = { ...ctx, env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), MAKE_COM_WEBHOOK_URL: `${origin}/make` }) }
    const config = defineConfig({
      app: { name: 'Test' },
      webhooks: { subscribers: { make: { url: { env: 'MAKE_COM_WEBHOOK_URL' }, events: ['*'], allowPrivate: true } } },
    })
    ctx.clock.advance(600_000)
    expect(await deliverMessages({ ...set, config })).toEqual({ delivered: 1, failed: 0, dead: 0 })
  })

  it('to a subscriber that the policy does not have any more is dead, and keeps nobody busy', async () => {
    const ctx = context(n8n())
    await emit(ctx, 'order.paid')
    const without = context({ other: { url: 'https://other.example/', events: ['*'] } })
    expect(await deliverMessages(without)).toEqual({ delivered: 0, failed: 0, dead: 1 })
    expect(await listDeliveries(ctx)).toMatchObject([{ state: 'dead', error: { code: 'unsubscribed' } }])
    await expect(redeliver(without, ['1'])).rejects.toMatchObject({ code: expect.stringMatching(/conflict|not_found/) })
  })

  it("fails with the policy's own function, not with its words", async () => {
    const ctx = context({
      odd: {
        url: `${origin}/odd`,
        events: ['*'],
        allowPrivate: true,
        body: () => {
          throw new Error('ada@example.com')
        },
      },
      nothing: { url: `${origin}/nothing`, events: ['*'], allowPrivate: true, body: () => undefined },
    })
    await emit(ctx, 'order.paid')
    expect(await deliverMessages(ctx)).toEqual({ delivered: 0, failed: 2, dead: 0 })
    expect(received).toEqual([])
    expect(logLines(ctx).join('')).not.toContain('ada@')
  })
})

describe("a subscriber's circuit", () => {
  it('opens after five failures in a row, lets one try, and closes with a success', async () => {
    const ctx = context(n8n())
    for (let n = 0; n < 30; n++) await emit(ctx, 'order.paid', { n })
    answer = (_request, response) => void response.writeHead(503).end()
    await deliverMessages(ctx)
    // Four are sent at once: those under way when it opens are brought to an end.
    expect(received.length).toBeGreaterThanOrEqual(5)
    expect(received.length).toBeLessThanOrEqual(8)
    const before = received.length
    ctx.clock.advance(20_000)
    await deliverMessages(ctx)
    expect(received.length).toBe(before)
    ctx.clock.advance(1_800_000)
    await Promise.all([deliverMessages(ctx), deliverMessages(ctx), deliverMessages(ctx)])
    expect(received.length).toBe(before + 1)
    answer = (_request, response) => void response.writeHead(200).end()
    ctx.clock.advance(1_800_000)
    await deliverMessages(ctx)
    expect(received.length).toBe(before + 2)
    for (let round = 0; round < 3; round++) await deliverMessages(ctx)
    expect((await listDeliveries(ctx, { state: 'delivered' })).length).toBe(30)
  })

  it('waits as long as it is asked to', async () => {
    const ctx = context(n8n())
    for (let n = 0; n < 5; n++) await emit(ctx, 'order.paid', { n })
    answer = (_request, response) => void response.writeHead(429, { 'retry-after': '120' }).end()
    await deliverMessages(ctx, { limit: 1 })
    ctx.clock.advance(119_000)
    await deliverMessages(ctx)
    expect(received).toHaveLength(1)
    ctx.clock.advance(1_000)
    answer = (_request, response) => void response.writeHead(200).end()
    await deliverMessages(ctx)
    await deliverMessages(ctx)
    expect((await listDeliveries(ctx, { state: 'delivered' })).length).toBe(5)
  })

  it('of one holds up no other', async () => {
    const ctx = context({ ...n8n(), slow: { url: `${origin}/slow`, events: ['*'], allowPrivate: true, timeout: '1 second' } })
    answer = (request, response) => (request.url === '/slow' ? undefined : void response.writeHead(200).end())
    for (let n = 0; n < 10; n++) await emit(ctx, 'order.paid', { n })
    expect(await deliverMessages(ctx, { limit: 10 })).toMatchObject({ delivered: 10 })
  })
})

it('many senders at once deliver each message once', async () => {
  const ctx = context(n8n())
  for (let n = 0; n < 40; n++) await emit(ctx, 'order.paid', { n })
  const outcomes = await Promise.all(Array.from({ length: 4 }, () => deliverMessages(ctx)))
  expect(outcomes.reduce((sum, { delivered }) => sum + delivered, 0)).toBe(40)
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(40)
  expect(received).toHaveLength(40)
})

it('a sender that died leaves its delivery to the next one', async () => {
  const ctx = context(n8n())
  await emit(ctx, 'order.paid')
  await test.db.execute(`update caretaker.deliveries set attempts = 1, next_attempt_at = $1::timestamptz`, [
    new Date(ctx.clock.now().getTime() + 31_000),
  ])
  expect(await deliverMessages(ctx)).toMatchObject({ delivered: 0 })
  ctx.clock.advance(31_000)
  expect(await deliverMessages(ctx)).toMatchObject({ delivered: 1 })
})

it('runs as a job, which a tick brings when there is something to tell, and only then', async () => {
  const ctx = context({ ...n8n(), ops: { url: `${origin}/ops`, events: ['job.*'], allowPrivate: true } })
  const job = findJob(jobs(ctx.config), 'webhooks-deliver')
  expect(await job.pending?.(ctx)).toBe(false)
  await emit(ctx, 'order.paid')
  expect(await job.pending?.(ctx)).toBe(true)
  await test.db.transaction((tx) => emitEvent(tx, 'job.failed', { job: 'x' }))
  const run: JobRun = {
    id: 'run',
    job: 'webhooks-deliver',
    slot: ctx.clock.now(),
    attempt: 1,
    params: {},
    checkpoint: null,
    save: () => Promise.resolve(),
    shouldHandOver: () => false,
    callForHelp: () => Promise.resolve(),
  }
  expect(await job.plan(ctx)).toEqual([{ action: 'deliver to n8n', target: 'caretaker.deliveries', count: 1, unit: 'rows' }])
  expect(await job.run(ctx, run)).toEqual({ status: 'done', result: { delivered: 2, failed: 0, dead: 0 } })
  expect(await job.pending?.(ctx)).toBe(false)
})

it('waits between half and all of a delay that grows fourfold up to six hours', () => {
  expect(deliveryDelayMs(1, () => 0)).toBe(2_500)
  expect(deliveryDelayMs(2, () => 1)).toBe(20_000)
  expect(deliveryDelayMs(maxAttempts, () => 1)).toBe(6 * 3_600_000)
})

it('names in the policy what is wrong with a subscriber', () => {
  const broken =
    (subscriber: Record<string, unknown>, name = 'n8n') =>
    () =>
      defineConfig({
        app: { name: 'Test' },
        webhooks: { subscribers: { [name]: { url: 'https://a.example', events: ['*'], ...subscriber } } as never },
      })
  expect(broken({ events: ['order paid'] })).toThrow(/webhooks.subscribers.n8n.events.0: found "order paid", expected a type/)
  expect(broken({ events: [] })).toThrow(/at least one type/)
  expect(broken({ url: { env: 'HOME' } })).toThrow(/MAKE_COM_WEBHOOK_URL/)
  expect(broken({ body: 'x' })).toThrow(/expected a function/)
  expect(broken({ adress: 'x' })).toThrow(/not a known key/)
  expect(broken({}, 'N 8')).toThrow(/webhooks.subscribers/)
})
