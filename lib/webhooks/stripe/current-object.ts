import type { CurrentObject, FetchCurrent } from '../current-object.ts'
import { positionOf, ranks } from '../source.ts'
import { isObject } from '../sources/json.ts'
import { getFromStripe } from './api.ts'

/** Where Stripe keeps each kind of object. https://docs.stripe.com/api */
const collections: Record<string, string> = {
  account: '/v1/accounts',
  charge: '/v1/charges',
  'checkout.session': '/v1/checkout/sessions',
  coupon: '/v1/coupons',
  credit_note: '/v1/credit_notes',
  customer: '/v1/customers',
  dispute: '/v1/disputes',
  invoice: '/v1/invoices',
  invoiceitem: '/v1/invoiceitems',
  payment_intent: '/v1/payment_intents',
  payment_link: '/v1/payment_links',
  payment_method: '/v1/payment_methods',
  payout: '/v1/payouts',
  plan: '/v1/plans',
  price: '/v1/prices',
  product: '/v1/products',
  promotion_code: '/v1/promotion_codes',
  quote: '/v1/quotes',
  refund: '/v1/refunds',
  setup_intent: '/v1/setup_intents',
  subscription: '/v1/subscriptions',
  subscription_schedule: '/v1/subscription_schedules',
  tax_rate: '/v1/tax_rates',
  transfer: '/v1/transfers',
}

export const currentStripeObject: FetchCurrent = async (ctx, source, event): Promise<CurrentObject | undefined> => {
  const key = ctx.env.STRIPE_SECRET_KEY
  if (key === undefined) return undefined
  const path = pathOf(event)
  if (path === undefined) return undefined
  const account = source === 'stripe-connect' ? accountOf(event) : undefined
  if (source === 'stripe-connect' && account === undefined) return undefined
  const { body, at } = await getFromStripe(ctx, {
    key,
    path,
    account,
    // In the shape the event has, or would have.
    apiVersion: typeof event.api_version === 'string' && /^[\w.-]{1,40}$/.test(event.api_version) ? event.api_version : undefined,
  })
  return {
    object: body === null || body.deleted === true ? null : body,
    // Of its own second it may or may not have everything: events of that second look it up again.
    position: positionOf(new Date(Math.floor(at.getTime() / 1000) * 1000)) + ranks - 1,
  }
}

function pathOf(event: Record<string, unknown>): string | undefined {
  const object = isObject(event.data) && isObject(event.data.object) ? event.data.object : undefined
  if (object !== undefined) {
    const collection = collections[String(object.object)]
    return collection === undefined || !isId(object.id) ? undefined : `${collection}/${object.id}`
  }
  // A thin event says the address itself.
  const url = isObject(event.related_object) ? event.related_object.url : undefined
  return typeof url === 'string' && /^\/v[12](\/[\w.-]+){2,6}$/.test(url) && !url.includes('..') ? url : undefined
}

function accountOf(event: Record<string, unknown>): string | undefined {
  const given = typeof event.account === 'string' ? event.account : (/acct_\w+$/.exec(String(event.context ?? ''))?.[0] ?? '')
  return /^acct_\w{1,80}$/.test(given) ? given : undefined
}

function isId(id: unknown): id is string {
  return typeof id === 'string' && /^\w{1,255}$/.test(id)
}
