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
}

export function stripeState(key = 'sk_test_51Caretaker'): StripeState {
  return { key, balanceReads: 0 }
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
  ]
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
