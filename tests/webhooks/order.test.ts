import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig, type StripeHandlers, type WebhookDelivery, type WebhookHandler } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { processInbox, receiveWebhook, replayEvents, showInbox } from '../../lib/webhooks/index.ts'
import { type StripeState, signStripe, stripeApi, stripeEvent, stripeState } from '../doubles/stripe.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'

const secret = 'whsec_test_of_the_endpoint'
const start = 1_795_000_000

describe("an object's events", () => {
  const test = useTestDatabase()
  let seen: { id: string; status: unknown; delivery: WebhookDelivery }[] = []
  let stripe: StripeState
  let sequence = 0

  beforeEach(async () => {
    seen = []
    stripe = stripeState()
    stripe.now = () => new Date((start + 1_000) * 1_000)
    doubles.use(...stripeApi(stripe))
    await test.db.execute('truncate caretaker.inbox, caretaker.inbox_objects')
  })

  const record: WebhookHandler = async (event, _tx, delivery) =>
    void seen.push({ id: event.id, status: event.data?.object?.status, delivery })

  function context(options: { key?: boolean; late?: 'apply' | 'skip'; minimise?: string[]; on?: Record<string, WebhookHandler> } = {}) {
    const clock = fixedClock(new Date((start + 1_000) * 1_000))
    const on = options.on ?? {
      'customer.subscription.created': record,
      'customer.subscription.updated': record,
      'customer.subscription.deleted': record,
      'invoice.paid': record,
      'v1.billing.meter.error_report_triggered': record,
    }
    return testContext(test.db, {
      clock,
      config: defineConfig({
        app: { name: 'Test' },
        webhooks: {
          stripe: {
            on: on as unknown as StripeHandlers,
            ...(options.late === undefined ? {} : { late: options.late }),
            ...(options.minimise === undefined ? {} : { minimise: options.minimise }),
          },
        },
      }),
      env: readEnv({
        ENCRYPTION_KEY: 'ab'.repeat(32),
        STRIPE_WEBHOOK_SECRET: secret,
        ...(options.key === false ? {} : { STRIPE_SECRET_KEY: stripe.key }),
      }),
      deadline: new Date(clock.now().getTime() + 86_400_000),
    })
  }

  function send(ctx: Context, body: string) {
    const headers = new Headers({ 'stripe-signature': signStripe(body, secret, ctx.clock.now().getTime() / 1000) })
    return receiveWebhook(ctx, 'stripe', { headers, body: Buffer.from(body) })
  }

  const subscription = (status: string, more: Record<string, unknown> = {}) => ({
    id: `sub_${sequence}`,
    object: 'subscription',
    status,
    ...more,
  })
  const event = (id: string, what: string, second: number, object: Record<string, unknown>) =>
    stripeEvent({ id, type: `customer.subscription.${what}`, created: start + second, object })

  it('that come late bring the object as the later one told it, and say so, without asking anybody', async () => {
    sequence++
    const ctx = context()
    await send(ctx, event('evt_second', 'updated', 20, subscription('active')))
    await processInbox(ctx)
    await send(ctx, event('evt_first', 'created', 10, subscription('incomplete')))
    await processInbox(ctx)
    await send(ctx, event('evt_third', 'updated', 30, subscription('past_due')))
    await processInbox(ctx)
    await send(ctx, event('evt_between', 'updated', 25, subscription('trialing')))
    await processInbox(ctx)
    expect(seen).toMatchObject([
      { id: 'evt_second', status: 'active', delivery: { late: false, current: false } },
      { id: 'evt_first', status: 'active', delivery: { late: true, current: true, attempt: 1, source: 'stripe' } },
      { id: 'evt_third', status: 'past_due', delivery: { late: false, current: false } },
      { id: 'evt_between', status: 'past_due', delivery: { late: true, current: true } },
    ])
    expect(stripe.lookups).toEqual([])
  })

  it('that come after the object was looked up are late, and bring it as it is now', async () => {
    sequence++
    const ctx = context()
    stripe.objects.set(`sub_${sequence}`, subscription('past_due'))
    await send(ctx, event('evt_a', 'updated', 5, subscription('active', { quantity: 1 })))
    await send(ctx, event('evt_b', 'updated', 5, subscription('active', { quantity: 2 })))
    await processInbox(ctx)
    stripe.objects.set(`sub_${sequence}`, subscription('unpaid'))
    // From before the look-up by its time, from after it as far as anybody knows.
    await send(ctx, event('evt_c', 'updated', 900, subscription('trialing')))
    await processInbox(ctx)
    expect(seen.map(({ id, status }) => [id, status])).toEqual([
      ['evt_a', 'active'],
      ['evt_b', 'past_due'],
      ['evt_c', 'unpaid'],
    ])
    await send(ctx, event('evt_d', 'updated', 2_000, subscription('active', { quantity: 9 })))
    await processInbox(ctx)
    expect(seen.at(-1)).toMatchObject({ id: 'evt_d', status: 'active', delivery: { late: false, current: false } })
    expect(stripe.lookups).toHaveLength(2)
  })

  it('of one second go by the state of their object where it tells, without asking anybody', async () => {
    const ctx = context({
      on: { 'invoice.finalized': record, 'invoice.paid': record, 'invoice.created': record },
    })
    const invoice = (id: string, what: string, status: string) =>
      stripeEvent({ id, type: `invoice.${what}`, created: start, object: { id: 'in_1', object: 'invoice', status } })
    await send(ctx, invoice('evt_paid', 'paid', 'paid'))
    await send(ctx, invoice('evt_finalized', 'finalized', 'open'))
    await send(ctx, invoice('evt_created', 'created', 'draft'))
    await processInbox(ctx)
    expect(seen.map(({ id, delivery }) => [id, delivery.late])).toEqual([
      ['evt_created', false],
      ['evt_finalized', false],
      ['evt_paid', false],
    ])
    expect(stripe.lookups).toEqual([])
  })

  it('of one second that no state tells apart bring the object as it is now, unless they say the same', async () => {
    sequence++
    const ctx = context()
    stripe.objects.set(`sub_${sequence}`, subscription('past_due', { quantity: 3 }))
    await send(ctx, event('evt_a', 'updated', 5, subscription('active', { quantity: 2 })))
    await send(ctx, event('evt_same', 'updated', 5, { quantity: 2, ...subscription('active') }))
    await processInbox(ctx)
    expect(stripe.lookups).toEqual([])
    await send(ctx, event('evt_b', 'updated', 5, subscription('trialing', { quantity: 1 })))
    await processInbox(ctx)
    expect(seen.map(({ id, status, delivery }) => [id, status, delivery.late, delivery.current])).toEqual([
      ['evt_a', 'active', false, false],
      ['evt_same', 'active', false, false],
      ['evt_b', 'past_due', false, true],
    ])
  })

  it('that come late when nothing tells how their object is are applied and told so, or set aside where the policy says', async () => {
    for (const [late, expected] of [
      ['apply', ['evt_new', 'evt_old']],
      ['skip', ['evt_new']],
    ] as const) {
      sequence++
      seen = []
      await test.db.execute('truncate caretaker.inbox')
      const ctx = context({ key: false, late })
      await send(ctx, event('evt_new', 'updated', 20, subscription('active')))
      await processInbox(ctx)
      await test.db.execute(`update caretaker.inbox set payload = ''`)
      await send(ctx, event('evt_old', 'updated', 10, subscription('trialing')))
      await processInbox(ctx)
      expect(seen.map(({ id }) => id)).toEqual(expected)
      expect(seen.at(-1)?.delivery).toMatchObject({ late: late === 'apply', current: false })
      expect(await showInbox(ctx, 'evt_old')).toMatchObject(
        late === 'apply' ? { state: 'applied', error: null } : { state: 'ignored', error: { code: 'late' } },
      )
    }
  })

  it('that come after their object is gone bring what was told of it last', async () => {
    sequence++
    const ctx = context()
    await send(ctx, event('evt_a', 'updated', 5, subscription('active', { quantity: 1 })))
    await send(ctx, event('evt_b', 'updated', 5, subscription('active', { quantity: 2 })))
    stripe.objects.set(`sub_${sequence}`, subscription('active', { quantity: 2 }))
    await processInbox(ctx)
    stripe.objects.set(`sub_${sequence}`, { id: `sub_${sequence}`, object: 'subscription', deleted: true })
    await send(ctx, event('evt_first', 'created', 1, subscription('incomplete')))
    await send(ctx, event('evt_last', 'deleted', 15, subscription('canceled')))
    await processInbox(ctx)
    expect(stripe.lookups).toHaveLength(3)
    expect(seen.slice(2)).toMatchObject([
      { id: 'evt_first', status: 'active', delivery: { late: true, current: true } },
      { id: 'evt_last', status: 'canceled', delivery: { late: false, current: false } },
    ])
  })

  it('are tried again while Stripe does not answer, and refused with a clear code when the key may not look', async () => {
    sequence++
    const ctx = context()
    await send(ctx, event('evt_new', 'updated', 20, subscription('active')))
    await processInbox(ctx)
    await send(ctx, event('evt_old', 'updated', 20, subscription('active', { quantity: 1 })))
    stripe.failWith = 503
    expect(await processInbox(ctx)).toMatchObject({ applied: 0, failed: 1 })
    expect(await showInbox(ctx, 'evt_old')).toMatchObject({ state: 'received', attempts: 1, error: { code: 'upstream_failed' } })
    stripe.failWith = 403
    await replayEvents(ctx, ['evt_old'])
    await processInbox(ctx)
    expect(await showInbox(ctx, 'evt_old')).toMatchObject({ error: { code: 'not_configured' } })
  })

  it('of a connected account are seen by no handler of the platform', async () => {
    sequence++
    const ctx = context()
    const body = JSON.stringify({ ...JSON.parse(event('evt_theirs', 'updated', 1, subscription('active'))), account: 'acct_theirs' })
    await send(ctx, body)
    expect(await processInbox(ctx)).toMatchObject({ applied: 0, ignored: 1 })
    expect(await showInbox(ctx, 'evt_theirs')).toMatchObject({ source: 'stripe-connect', state: 'ignored' })
    expect(seen).toEqual([])
  })

  it("of a connected account are the connect handlers', and looked up on its behalf", async () => {
    sequence++
    const base = context()
    const ctx = {
      ...base,
      config: defineConfig({
        app: { name: 'Test' },
        webhooks: { stripe: { connect: { on: { 'customer.subscription.updated': record as never } } } },
      }),
    }
    const theirs = (id: string, quantity: number) =>
      JSON.stringify({ ...JSON.parse(event(id, 'updated', 3, subscription('active', { quantity }))), account: 'acct_theirs' })
    stripe.objects.set(`sub_${sequence}`, subscription('unpaid'))
    stripe.accounts.set(`sub_${sequence}`, 'acct_theirs')
    await send(ctx, theirs('evt_2', 2))
    await processInbox(ctx)
    await send(ctx, theirs('evt_1', 1))
    await processInbox(ctx)
    expect(seen).toMatchObject([
      { id: 'evt_2', status: 'active' },
      { id: 'evt_1', status: 'unpaid', delivery: { source: 'stripe-connect', late: false, current: true } },
    ])
  })

  it('that are thin come with their object, fetched from the address they name and no other', async () => {
    const ctx = context()
    const thin = (id: string, url: string) =>
      JSON.stringify({
        id,
        object: 'v2.core.event',
        type: 'v1.billing.meter.error_report_triggered',
        created: '2026-11-18T11:59:00.000Z',
        livemode: false,
        related_object: { id: 'cus_thin', type: 'billing.meter', url },
      })
    stripe.objects.set('cus_thin', { id: 'cus_thin', object: 'customer', name: 'Meter' })
    await send(ctx, thin('evt_thin', '/v1/customers/cus_thin'))
    await send(ctx, thin('evt_elsewhere', '//evil.example/v1/customers/cus_thin'))
    await processInbox(ctx)
    expect(seen.map(({ id, delivery }) => [id, delivery.object?.name])).toEqual(
      expect.arrayContaining([
        ['evt_thin', 'Meter'],
        ['evt_elsewhere', undefined],
      ]),
    )
    expect(stripe.lookups).toEqual(['customers/cus_thin'])
  })

  it('lose the fields the policy does not want before they are stored, and when they are looked up', async () => {
    sequence++
    const emails: unknown[] = []
    const ctx = context({
      minimise: ['data.object.email', '**.address'],
      on: {
        'customer.subscription.updated': async ({ data }) => void emails.push([data.object.email, data.object.ship, data.object.status]),
      },
    })
    const personal = { email: 'ada@example.com', ship: { address: { city: 'London' }, kind: 'post' } }
    stripe.objects.set(`sub_${sequence}`, subscription('canceled', personal))
    await send(ctx, event('evt_m2', 'updated', 20, subscription('active', personal)))
    await processInbox(ctx)
    expect(JSON.stringify(await showInbox(ctx, 'evt_m2', { payload: true }))).not.toMatch(/ada@|London/)
    await send(ctx, event('evt_m1', 'updated', 20, subscription('trialing', personal)))
    await processInbox(ctx)
    expect(emails).toEqual([
      [null, { address: null, kind: 'post' }, 'active'],
      [null, { address: null, kind: 'post' }, 'canceled'],
    ])
  })
})
