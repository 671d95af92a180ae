import { randomBytes } from 'node:crypto'
import Stripe from 'stripe'
import { beforeAll, expect, it, vi } from 'vitest'
import { findJob, jobs } from '../../lib/catalog.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { work } from '../../lib/jobs/index.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { webhooks } from '../../lib/routes/webhooks.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'

const test = useTestDatabase()
const secret = 'whsec_test_secret_of_the_endpoint'
const stripe = new Stripe('sk_test_x')

const policy = defineConfig({
  app: { name: 'Test' },
  webhooks: {
    stripe: {
      on: {
        'invoice.paid': async (event, tx) => {
          await tx.execute('insert into payments (invoice) values ($1)', [event.data.object.id])
        },
      },
    },
  },
})

function setup(environment: Record<string, string> = { STRIPE_WEBHOOK_SECRET: secret }) {
  const env = readEnv({ ENCRYPTION_KEY: randomBytes(32).toString('hex'), ...environment })
  const ctx = testContext(test.db, { config: policy, env })
  const { request, settled } = testServer(webhooks({ wake: () => Promise.resolve() }), ctx)
  return { ctx, request, settled }
}

function signed(id: string, signingSecret = secret): RequestInit {
  const payload = JSON.stringify({
    id,
    object: 'event',
    type: 'invoice.paid',
    created: Math.floor(Date.now() / 1000),
    data: { object: { id: `in_${id}`, object: 'invoice' } },
  })
  return {
    method: 'POST',
    body: payload,
    headers: {
      'content-type': 'application/json',
      'stripe-signature': stripe.webhooks.generateTestHeaderString({ payload, secret: signingSecret }),
    },
  }
}

beforeAll(async () => {
  await test.db.execute('create table payments (invoice text)')
})

it('a signed event is accepted and applied once, however often it comes', async () => {
  const { ctx, request, settled } = setup()
  const event = signed('evt_1')
  expect(await (await request('/api/webhooks/stripe', event)).json()).toEqual({ received: true, duplicate: false })
  await settled()
  await work(ctx, jobs(policy))
  const repeat = await request('/api/webhooks/stripe', event)
  expect(repeat.status).toBe(200)
  expect(await repeat.json()).toEqual({ received: true, duplicate: true })
  await settled()
  await work(ctx, jobs(policy))
  expect(await test.db.query('select invoice from payments')).toEqual([{ invoice: 'in_evt_1' }])
})

it('a wrong signature is 400 and stores nothing', async () => {
  const { request } = setup()
  const response = await request('/api/webhooks/stripe', signed('evt_2', 'whsec_another_secret_entirely'))
  expect(response.status).toBe(400)
  expect(await response.json()).toMatchObject({ code: 'signature_invalid' })
  expect(await test.db.query(`select from caretaker.inbox where event_id = 'evt_2'`)).toHaveLength(0)
})

it('an unset secret is 503, never an open door', async () => {
  const response = await setup({}).request('/api/webhooks/stripe', signed('evt_3'))
  expect(response.status).toBe(503)
  expect(await response.json()).toMatchObject({ code: 'not_configured' })
})

it('an unknown source is 404, another method 405, too large a body 413', async () => {
  const { request } = setup()
  expect((await request('/api/webhooks/stripo', signed('evt_4'))).status).toBe(404)
  expect((await request('/api/webhooks/stripe')).status).toBe(405)
  expect((await request('/api/webhooks/stripe', { method: 'POST', body: 'x'.repeat(4_600_000) })).status).toBe(413)
})

it('an event is kept for a policy that has no webhooks yet, and no run is queued that nobody could take', async () => {
  await test.db.execute('truncate caretaker.runs')
  const { ctx } = setup()
  const bare = { ...ctx, config: defineConfig({ app: { name: 'Test' } }) }
  const { request, settled } = testServer(webhooks({ wake: () => Promise.resolve() }), bare)
  expect((await request('/api/webhooks/stripe', signed('evt_early'))).status).toBe(200)
  await settled()
  expect(await test.db.query('select job from caretaker.runs')).toEqual([])
  expect(await test.db.query(`select state from caretaker.inbox where event_id = 'evt_early'`)).toEqual([{ state: 'received' }])
})

it('events behind one that waits for its next attempt bring no worker', async () => {
  await test.db.execute('truncate caretaker.runs, caretaker.inbox')
  const { ctx } = setup()
  const insert = (event: string, occurred: string, due: string, object: string) =>
    test.db.execute(
      `insert into caretaker.inbox (source, event_id, type, occurred_at, next_attempt_at, object_tag, payload)
       values ('stripe', $1, 'invoice.paid', now() + $2::interval, now() + $3::interval, $4::bytea, '')`,
      [event, occurred, due, Buffer.from(object)],
    )
  const pending = () => findJob(jobs(policy), 'webhooks').pending?.(ctx)
  await insert('evt_waits', '-2 hours', '30 minutes', 'a')
  await insert('evt_behind', '-1 hour', '-1 hour', 'a')
  expect(await pending()).toBe(false)
  await insert('evt_of_another', '-1 hour', '-1 hour', 'b')
  expect(await pending()).toBe(true)
})

it('a flood of wrong signatures is told to wait, without a query; who signs well is let in meanwhile', async () => {
  await test.db.execute('truncate caretaker.outbox, caretaker.inbox')
  const env = readEnv({ ENCRYPTION_KEY: randomBytes(32).toString('hex'), STRIPE_WEBHOOK_SECRET: secret })
  const ctx = testContext(test.db, { config: policy, env })
  const { request, settled } = testServer(webhooks({ wake: () => Promise.resolve() }), ctx)
  const counting = vi.spyOn(ctx.db, 'query')
  const executing = vi.spyOn(ctx.db, 'execute')
  const answers: Response[] = []
  for (let n = 0; n < 100; n++)
    answers.push(await request('/api/webhooks/stripe', signed(`evt_flood_${n}`, 'whsec_another_secret_entirely')))
  expect(answers.slice(0, 30).map(({ status }) => status)).toEqual(Array(30).fill(400))
  expect(answers.slice(30).map(({ status }) => status)).toEqual(Array(70).fill(429))
  expect(Number(answers.at(-1)?.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(counting).not.toHaveBeenCalled()
  expect(executing).not.toHaveBeenCalled()
  expect((await request('/api/webhooks/stripe', signed('evt_in_the_flood'))).status).toBe(200)
  // Another instance sees a flood of its own, and it is told once.
  const other = testServer(webhooks({ wake: () => Promise.resolve() }), ctx)
  for (let n = 0; n < 40; n++) await other.request('/api/webhooks/stripe', signed(`evt_flood_${n}`, 'whsec_another_secret_entirely'))
  await Promise.all([settled(), other.settled()])
  expect(await test.db.query(`select payload from caretaker.outbox where topic = 'webhooks.signatures_refused'`)).toEqual([
    { payload: { source: 'stripe', moreThan: 30, withinSeconds: 60 } },
  ])
})
