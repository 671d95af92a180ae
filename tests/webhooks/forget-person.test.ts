import { expect, it } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { environmentCipher } from '../../lib/platform/field-cipher.ts'
import { recordSuppression, suppressedBecause } from '../../lib/platform/suppressions.ts'
import {
  emitToSubscribers,
  forgetPersonInEvents,
  listDeliveries,
  listInbox,
  processInbox,
  receiveWebhook,
  showInbox,
} from '../../lib/webhooks/index.ts'
import { signStripe, stripeEvent } from '../doubles/stripe.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

const test = useTestDatabase()
const secret = 'whsec_test_of_the_endpoint'

it('leaves nothing of a person in events, messages and the mirror, and keeps the word not to write to them', async () => {
  const ctx = testContext(test.db, {
    config: defineConfig({
      app: { name: 'Test' },
      webhooks: { stripe: { mirror: true }, subscribers: { n8n: { url: 'https://n8n.example/', events: ['*'] } } },
    }),
    env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), STRIPE_WEBHOOK_SECRET: secret }),
  })
  const send = async (id: string, type: string, object: Record<string, unknown>) => {
    const body = stripeEvent({ id, type, object })
    const headers = new Headers({ 'stripe-signature': signStripe(body, secret, Math.floor(ctx.clock.now().getTime() / 1000)) })
    await receiveWebhook(ctx, 'stripe', { headers, body: Buffer.from(body) })
  }
  await send('evt_ada', 'customer.created', {
    id: 'cus_ada',
    object: 'customer',
    email: 'Ada@Example.com',
    name: 'Ada',
    metadata: { user: '1' },
  })
  await send('evt_bob', 'customer.created', { id: 'cus_bob', object: 'customer', email: 'bob@example.com', name: 'Bob' })
  await processInbox(ctx)
  await send('evt_waiting', 'customer.updated', { id: 'cus_ada', object: 'customer', email: 'ada@example.com' })
  await test.db.transaction(async (tx) => {
    await emitToSubscribers(ctx, tx, { type: 'user.created', data: { email: 'ada@example.com' } })
    await emitToSubscribers(ctx, tx, { type: 'user.created', data: { email: 'bob@example.com' } })
    await tx.query(`select caretaker.emit('user.created', '{"email": "Ada@example.com"}')`)
    await recordSuppression(tx, ctx.env, {
      channel: 'email',
      address: 'ada@example.com',
      action: 'suppress',
      reason: 'spam',
      at: ctx.clock.now(),
      source: 'test',
      eventId: '1',
    })
  })

  expect(await forgetPersonInEvents(ctx, ['ada@example.com', 'cus_ada'])).toEqual({ forgotten: 5, unreadable: 0 })
  expect(await processInbox(ctx)).toMatchObject({ applied: 0, failed: 0 })
  expect((await listInbox(ctx)).map(({ eventId, state }) => [eventId, state])).toEqual([
    ['evt_waiting', 'ignored'],
    ['evt_bob', 'applied'],
    ['evt_ada', 'applied'],
  ])
  expect(await showInbox(ctx, 'evt_ada', { payload: true })).toMatchObject({ payload: null })
  expect(await showInbox(ctx, 'evt_bob', { payload: true })).toMatchObject({ payload: { data: { object: { name: 'Bob' } } } })
  expect(await listDeliveries(ctx)).toHaveLength(1)
  expect(await test.db.query('select id, email, name, metadata from caretaker.stripe_customers order by id')).toEqual([
    { id: 'cus_ada', email: null, name: null, metadata: {} },
    { id: 'cus_bob', email: 'bob@example.com', name: 'Bob', metadata: {} },
  ])
  expect(await suppressedBecause(ctx.db, ctx.env, { channel: 'email', address: 'ada@example.com' })).toBe('spam')
  expect(await forgetPersonInEvents(ctx, ['ada@example.com', 'cus_ada'])).toEqual({ forgotten: 0, unreadable: 0 })
})

it('finds a person among more events than one page of them', async () => {
  const ctx = testContext(test.db, { env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32) }) })
  const cipher = environmentCipher(ctx.env, 'A test')
  const ids = Array.from({ length: 1_234 }, (_, index) => `many_${index}`)
  await test.db.execute(
    `insert into caretaker.inbox (source, event_id, type, occurred_at, payload) select 'make', id, 't', now(), payload
     from unnest($1::text[], $2::bytea[]) with ordinality as one (id, payload, place) order by place`,
    [ids, ids.map((id) => cipher.seal(Buffer.from('{"email":"eve@example.com"}'), ['inbox', 'make', id]))],
  )
  expect(await forgetPersonInEvents(ctx, ['eve@example.com'])).toEqual({ forgotten: 1_234, unreadable: 0 })
})
