import { delay, HttpResponse, http } from 'msw'
import Stripe from 'stripe'

/** What the double of Stripe's API expects and does. */
export interface StripeState {
  key: string
  /** How often the balance was asked for with the right key. */
  balanceReads: number
  /** Answers with this status instead. */
  failWith?: number
  /** Never answers. */
  hangs?: boolean
  /** What Stripe holds now, by id; one that is deleted says so itself. */
  objects: Map<string, Record<string, unknown>>
  /** Every event Stripe ever made, in any order. */
  events: Record<string, unknown>[]
  /** The account each connected object belongs to, by the object's id. */
  accounts: Map<string, string>
  /** What was looked up, in order. */
  lookups: string[]
  /** Stripe's own clock, as its answers tell it. */
  now?: () => Date
  /** Pages of events that were asked for. */
  pages: number
}

export function stripeState(key = 'sk_test_51Caretaker'): StripeState {
  return { key, balanceReads: 0, objects: new Map(), events: [], accounts: new Map(), lookups: [], pages: 0 }
}

const collections: Record<string, string> = {
  customers: 'customer',
  subscriptions: 'subscription',
  invoices: 'invoice',
  payment_intents: 'payment_intent',
  charges: 'charge',
}

/** Stripe's API, as far as Caretaker calls it: `doubles.use(...stripeApi(state))`. */
export function stripeApi(state: StripeState) {
  return [
    http.get('https://api.stripe.com/v1/balance', async ({ request }) => {
      if (request.headers.get('authorization') !== `Bearer ${state.key}`)
        return HttpResponse.json({ error: { type: 'invalid_request_error', message: 'Invalid API Key provided' } }, { status: 401 })
      state.balanceReads++
      if (state.hangs === true) await delay('infinite')
      if (state.failWith !== undefined) return HttpResponse.json({ error: { type: 'api_error' } }, { status: state.failWith })
      return HttpResponse.json({ object: 'balance', available: [], pending: [], livemode: false })
    }),
    http.get('https://api.stripe.com/v1/events', ({ request }) => refused(state, request) ?? eventsPage(state, new URL(request.url))),
    http.get('https://api.stripe.com/v1/:collection/:id', ({ request, params }) => {
      const refusal = refused(state, request)
      if (refusal !== undefined) return refusal
      const { collection, id } = params as { collection: string; id: string }
      state.lookups.push(`${collection}/${id}`)
      const version = request.headers.get('stripe-version')
      if (version !== null && !/^\d{4}-\d{2}-\d{2}(\.\w+)?$/.test(version))
        return HttpResponse.json(
          { error: { type: 'invalid_request_error', message: `Invalid Stripe API version: ${version}` } },
          { status: 400 },
        )
      const object = state.objects.get(id)
      const visible = (state.accounts.get(id) ?? null) === request.headers.get('stripe-account')
      if (object === undefined || !visible || (object.object !== collections[collection] && object.object !== undefined))
        return HttpResponse.json({ error: { type: 'invalid_request_error', code: 'resource_missing' } }, { status: 404 })
      return HttpResponse.json(object, { headers: state.now === undefined ? {} : { date: state.now().toUTCString() } })
    }),
  ]
}

function refused(state: StripeState, request: Request): Response | undefined {
  if (request.headers.get('authorization') !== `Bearer ${state.key}`)
    return HttpResponse.json({ error: { type: 'invalid_request_error', message: 'Invalid API Key provided' } }, { status: 401 })
  if (state.failWith !== undefined) return HttpResponse.json({ error: { type: 'api_error' } }, { status: state.failWith })
  return undefined
}

/** https://docs.stripe.com/api/events/list: the newest first, 30 days back, at most 100 a page and 20 types. */
function eventsPage(state: StripeState, url: URL): Response {
  const query = url.searchParams
  const bad = (message: string) => HttpResponse.json({ error: { type: 'invalid_request_error', message } }, { status: 400 })
  const known = ['limit', 'starting_after', 'created[gte]', 'created[lt]', 'types[]', 'type', 'delivery_success']
  for (const name of query.keys()) if (!known.includes(name)) return bad(`Received unknown parameter: ${name}`)
  const limit = Number(query.get('limit') ?? 10)
  if (!Number.isInteger(limit) || limit < 1 || limit > 100) return bad('Invalid limit')
  const types = query.getAll('types[]')
  if (types.length > 20) return bad('Invalid array: too many types')
  const since = Number(query.get('created[gte]') ?? 0)
  const until = Number(query.get('created[lt]') ?? Number.POSITIVE_INFINITY)
  const sorted = [...state.events]
    .filter(
      (event) =>
        Number(event.created) >= since && Number(event.created) < until && (types.length === 0 || types.includes(String(event.type))),
    )
    .sort((a, b) => Number(b.created) - Number(a.created) || (String(a.id) < String(b.id) ? 1 : -1))
  const after = query.get('starting_after')
  const from = after === null ? 0 : sorted.findIndex((event) => event.id === after) + 1
  if (after !== null && from === 0) return bad(`No such event: '${after}'`)
  state.pages++
  const data = sorted.slice(from, from + limit)
  return HttpResponse.json({ object: 'list', url: '/v1/events', has_more: from + limit < sorted.length, data })
}

// The provider's own library signs: an implementation of the scheme that is not ours.
const signer = new Stripe('sk_test_signer')

/** The value of a Stripe-Signature header for `payload`. `at` in seconds since 1970. */
export function signStripe(payload: string, secret: string, at: number): string {
  return signer.webhooks.generateTestHeaderString({ payload, secret, timestamp: at })
}

/** A snapshot event as Stripe sends it. */
export function stripeEvent(event: { id: string; type?: string; created?: number; object?: Record<string, unknown> }): string {
  return JSON.stringify(
    {
      id: event.id,
      object: 'event',
      api_version: '2026-10-29.dahlia',
      created: event.created ?? 1_795_000_000,
      type: event.type ?? 'invoice.paid',
      livemode: false,
      pending_webhooks: 1,
      request: { id: null, idempotency_key: null },
      data: {
        object: event.object ?? { id: `in_${event.id}`, object: 'invoice', amount_paid: 4_900, currency: 'usd', customer: 'cus_test' },
      },
    },
    null,
    2,
  )
}
