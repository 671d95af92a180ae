/*
 * The history of a made-up Stripe account: customers, subscriptions, invoices and payments that live and change, many of
 * them several times in one second, and the events Stripe would have sent of it. Deterministic by seed.
 */

export type StripeObject = Record<string, unknown> & { id: string; object: string }

export interface StripeEventBody {
  id: string
  object: 'event'
  api_version: string
  created: number
  type: string
  livemode: boolean
  data: { object: StripeObject }
}

export interface StripeHistory {
  /** In the order in which they happened. */
  events: StripeEventBody[]
  /** What Stripe holds in the end. */
  objects: Map<string, StripeObject>
}

const begin = 1_795_000_000

export function stripeHistory(count: number, seed = 1): StripeHistory {
  const random = generator(seed)
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T
  const objects = new Map<string, StripeObject>()
  const events: StripeEventBody[] = []
  let second = begin
  let serial = 0
  const emit = (type: string, object: StripeObject) => {
    events.push({
      // Ids that do not sort by time, as Stripe's.
      id: `evt_${Math.floor(random() * 1e12).toString(36)}${events.length}`,
      object: 'event',
      api_version: '2026-10-28.endive',
      created: second,
      type,
      livemode: false,
      data: { object: structuredClone(object) },
    })
  }
  const put = (object: StripeObject) => {
    objects.set(object.id, object)
    return object
  }
  const living = (kind: string) => [...objects.values()].filter((object) => object.object === kind && object.deleted !== true)
  const change = (object: StripeObject, more: Record<string, unknown>) => put(Object.assign(object, more))

  const steps: (() => void)[] = [
    () =>
      emit(
        'customer.created',
        put({
          id: `cus_${++serial}`,
          object: 'customer',
          email: `c${serial}@example.com`,
          name: null,
          currency: 'usd',
          balance: 0,
          created: second,
          metadata: { n: String(serial) },
        }),
      ),
    () => {
      const customer = pick(living('customer'))
      if (customer !== undefined)
        emit('customer.updated', change(customer, { balance: Math.floor(random() * 1000), name: `Name ${serial}` }))
    },
    () => {
      const customer = pick(living('customer'))
      if (customer === undefined || random() < 0.8) return
      emit('customer.deleted', customer)
      put({ id: customer.id, object: 'customer', deleted: true })
    },
    () => {
      const customer = pick(living('customer'))
      if (customer === undefined) return
      const subscription = put({
        id: `sub_${++serial}`,
        object: 'subscription',
        customer: customer.id,
        status: 'incomplete',
        currency: 'usd',
        created: second,
        cancel_at_period_end: false,
        metadata: {},
        items: {
          data: [
            {
              price: { id: pick(['price_a', 'price_b']) },
              quantity: 1,
              current_period_start: second,
              current_period_end: second + 2_592_000,
            },
          ],
        },
      })
      emit('customer.subscription.created', subscription)
      // Paid at once: in the same second.
      if (random() < 0.5) emit('customer.subscription.updated', change(subscription, { status: 'active' }))
    },
    () => {
      const subscription = pick(living('subscription'))
      if (subscription === undefined || subscription.status === 'canceled') return
      if (random() < 0.15)
        emit('customer.subscription.deleted', change(subscription, { status: 'canceled', canceled_at: second, ended_at: second }))
      else
        emit(
          'customer.subscription.updated',
          change(subscription, { status: pick(['active', 'past_due', 'trialing']), cancel_at_period_end: random() < 0.3 }),
        )
    },
    () => {
      const customer = pick(living('customer'))
      if (customer === undefined) return
      const invoice = put({
        id: `in_${++serial}`,
        object: 'invoice',
        customer: customer.id,
        status: 'draft',
        currency: 'usd',
        amount_due: 4_900,
        amount_paid: 0,
        amount_remaining: 4_900,
        total: 4_900,
        created: second,
        metadata: {},
        status_transitions: { paid_at: null },
      })
      emit('invoice.created', invoice)
      if (random() < 0.3) return
      emit('invoice.finalized', change(invoice, { status: 'open', number: `N-${serial}` }))
      if (random() < 0.3) return
      emit(
        'invoice.paid',
        change(invoice, { status: 'paid', amount_paid: 4_900, amount_remaining: 0, status_transitions: { paid_at: second } }),
      )
      emit('invoice.payment_succeeded', invoice)
    },
    () => {
      const customer = pick(living('customer'))
      const payment = put({
        id: `pi_${++serial}`,
        object: 'payment_intent',
        customer: customer?.id ?? null,
        status: 'requires_payment_method',
        currency: 'usd',
        amount: 4_900,
        amount_received: 0,
        created: second,
        metadata: {},
      })
      emit('payment_intent.created', payment)
      second += Math.floor(random() * 2)
      if (random() < 0.2) emit('payment_intent.payment_failed', change(payment, { last_error: serial }))
      else emit('payment_intent.succeeded', change(payment, { status: 'succeeded', amount_received: 4_900 }))
    },
  ]
  while (events.length < count) {
    pick(steps)()
    if (random() < 0.5) second += Math.floor(random() * 3)
  }
  events.length = count
  // What was cut off has not happened.
  const last = new Map<string, StripeObject>()
  for (const { type, data } of events)
    last.set(data.object.id, type === 'customer.deleted' ? { id: data.object.id, object: 'customer', deleted: true } : data.object)
  return { events, objects: last }
}

/** In an order of its own, by seed. */
export function shuffled<T>(list: readonly T[], seed: number): T[] {
  const random = generator(seed)
  const copy = [...list]
  for (let index = copy.length - 1; index > 0; index--) {
    const other = Math.floor(random() * (index + 1))
    ;[copy[index], copy[other]] = [copy[other] as T, copy[index] as T]
  }
  return copy
}

/** mulberry32: numbers from 0 to 1, always the same for a seed. */
export function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}
