import { expect, it } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { processInbox, receiveWebhook } from '../../lib/webhooks/index.ts'
import { signStripe, stripeEvent } from '../doubles/stripe.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

const secret = 'whsec_test_of_the_endpoint'
const test = useTestDatabase()
const start = 1_795_000_000
let sequence = 0

const context = (mirror: true | ('customers' | 'subscriptions' | 'invoices' | 'payments')[]) => {
  const clock = fixedClock(new Date((start + 100) * 1_000))
  return testContext(test.db, {
    clock,
    config: defineConfig({ app: { name: 'Test' }, webhooks: { stripe: { mirror, minimise: ['data.object.name'] } } }),
    env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), STRIPE_WEBHOOK_SECRET: secret }),
    deadline: new Date(clock.now().getTime() + 86_400_000),
  })
}

async function happened(ctx: ReturnType<typeof context>, type: string, object: Record<string, unknown>, second = ++sequence) {
  const body = stripeEvent({ id: `evt_${++sequence}`, type, created: start + second, object })
  const headers = new Headers({ 'stripe-signature': signStripe(body, secret, ctx.clock.now().getTime() / 1000) })
  await receiveWebhook(ctx, 'stripe', { headers, body: Buffer.from(body) })
  await processInbox(ctx)
}

it('follows customers until they are deleted, without what the policy minimises', async () => {
  const ctx = context(true)
  const ada = {
    id: 'cus_1',
    object: 'customer',
    email: 'ada@example.com',
    name: 'Ada',
    balance: -500,
    delinquent: false,
    currency: 'eur',
    livemode: true,
    created: start,
    metadata: { user: 'u1' },
  }
  await happened(ctx, 'customer.created', ada)
  await happened(ctx, 'customer.updated', { ...ada, balance: 0, email: 'lovelace@example.com' })
  await happened(ctx, 'customer.deleted', { ...ada, balance: 0, email: 'lovelace@example.com' })
  expect(
    await test.db.query(
      'select id, account, email, name, balance::int, delinquent, livemode, metadata, created_at, deleted_at is not null as deleted from caretaker.stripe_customers',
    ),
  ).toEqual([
    {
      id: 'cus_1',
      account: null,
      email: 'lovelace@example.com',
      name: null,
      balance: 0,
      delinquent: false,
      livemode: true,
      metadata: { user: 'u1' },
      created_at: new Date(start * 1_000),
      deleted: true,
    },
  ])
})

it('reads subscriptions and invoices of API versions before and after 2025-03-31', async () => {
  const ctx = context(true)
  const item = { price: { id: 'price_a' }, quantity: 2 }
  const base = { object: 'subscription', customer: { id: 'cus_1', object: 'customer' }, status: 'active', created: start }
  await happened(ctx, 'customer.subscription.created', {
    ...base,
    id: 'sub_old',
    current_period_start: start,
    current_period_end: start + 10,
    items: { data: [item] },
  })
  await happened(ctx, 'customer.subscription.created', {
    ...base,
    id: 'sub_new',
    items: {
      data: [
        { ...item, current_period_start: start, current_period_end: start + 10 },
        { price: 'price_b', quantity: 1 },
      ],
    },
  })
  expect(
    await test.db.query(
      'select id, customer_id, price_ids, quantity::int, extract(epoch from current_period_end)::int - $1::int as ends from caretaker.stripe_subscriptions order by id',
      [start],
    ),
  ).toEqual([
    { id: 'sub_new', customer_id: 'cus_1', price_ids: ['price_a', 'price_b'], quantity: 3, ends: 10 },
    { id: 'sub_old', customer_id: 'cus_1', price_ids: ['price_a'], quantity: 2, ends: 10 },
  ])
  const invoice = { object: 'invoice', customer: 'cus_1', status: 'paid', amount_paid: 4_900, status_transitions: { paid_at: start } }
  await happened(ctx, 'invoice.paid', { ...invoice, id: 'in_old', subscription: 'sub_old' })
  await happened(ctx, 'invoice.paid', { ...invoice, id: 'in_new', parent: { subscription_details: { subscription: 'sub_new' } } })
  // A preview has no id: there is nothing to follow.
  await happened(ctx, 'invoice.updated', { ...invoice, id: undefined })
  expect(await test.db.query('select id, subscription_id, amount_paid::int as paid from caretaker.stripe_invoices order by id')).toEqual([
    { id: 'in_new', subscription_id: 'sub_new', paid: 4_900 },
    { id: 'in_old', subscription_id: 'sub_old', paid: 4_900 },
  ])
})

it('joins what a charge says was given back to its payment, whichever comes first', async () => {
  const ctx = context(true)
  const payment = { id: 'pi_1', object: 'payment_intent', status: 'succeeded', amount: 900, amount_received: 900, currency: 'eur' }
  await happened(ctx, 'charge.refunded', {
    id: 'ch_1',
    object: 'charge',
    payment_intent: 'pi_1',
    amount_refunded: 300,
    metadata: { no: 'no' },
  })
  await happened(ctx, 'payment_intent.succeeded', payment)
  await happened(ctx, 'charge.refunded', { id: 'ch_1', object: 'charge', payment_intent: 'pi_1', amount_refunded: 900 })
  await happened(ctx, 'charge.succeeded', { id: 'ch_2', object: 'charge', payment_intent: null, amount_refunded: 0 })
  expect(await test.db.query('select id, status, amount::int, amount_refunded::int, metadata from caretaker.stripe_payments')).toEqual([
    { id: 'pi_1', status: 'succeeded', amount: 900, amount_refunded: 900, metadata: {} },
  ])
})

it('follows only what is named', async () => {
  await test.db.execute('truncate caretaker.stripe_customers, caretaker.stripe_invoices')
  const ctx = context(['invoices'])
  await happened(ctx, 'customer.created', { id: 'cus_9', object: 'customer' })
  await happened(ctx, 'invoice.created', { id: 'in_9', object: 'invoice', status: 'draft' })
  expect(await test.db.query('select id from caretaker.stripe_customers union all select id from caretaker.stripe_invoices')).toEqual([
    { id: 'in_9' },
  ])
})

it('names in the policy a table that it does not know', () => {
  expect(() => defineConfig({ app: { name: 'Test' }, webhooks: { stripe: { mirror: ['coupons'] as never } } })).toThrow(
    /webhooks.stripe.mirror/,
  )
})
