import { type Context, remainingMs } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'

/* Reads from Stripe's API. Two GETs are not worth the 240 KB and 48 ms of its SDK. https://docs.stripe.com/api */

const answerLimitMs = 10_000

export interface StripeAnswer {
  /** Null for an object that is not there. */
  body: Record<string, unknown> | null
  /** Stripe's own clock when it answered. */
  at: Date
}

export interface StripeRequest {
  key: string
  /** "/v1/customers/cus_1"; never taken from an event unchecked. */
  path: string
  query?: readonly (readonly [string, string])[]
  /** The shape to answer in; the account's default where it is not said. */
  apiVersion?: string | undefined
  /** A connected account to ask on behalf of. */
  account?: string | undefined
}

/** @throws {CaretakerError} `upstream_failed` for anything but an answer or a 404; `not_configured` for a key that is refused */
export async function getFromStripe(ctx: Context, request: StripeRequest): Promise<StripeAnswer> {
  const url = new URL(request.path, 'https://api.stripe.com')
  for (const [name, value] of request.query ?? []) url.searchParams.append(name, value)
  let response: Response
  let body: unknown
  try {
    response = await ctx.fetch(url, {
      headers: {
        authorization: `Bearer ${request.key}`,
        ...(request.apiVersion === undefined ? {} : { 'stripe-version': request.apiVersion }),
        ...(request.account === undefined ? {} : { 'stripe-account': request.account }),
      },
      redirect: 'error',
      signal: AbortSignal.any([ctx.signal, AbortSignal.timeout(Math.max(1, Math.min(answerLimitMs, remainingMs(ctx))))]),
    })
    body = await response.json()
  } catch (cause) {
    throw new CaretakerError('upstream_failed', 'Stripe did not answer.', { cause })
  }
  const at = new Date(response.headers.get('date') ?? Number.NaN)
  const answered = Number.isNaN(at.getTime()) ? ctx.clock.now() : at
  if (response.status === 404) return { body: null, at: answered }
  if (response.status === 401 || response.status === 403)
    throw new CaretakerError(
      'not_configured',
      `Stripe refuses STRIPE_SECRET_KEY for GET ${url.pathname.split('/').slice(0, 3).join('/')} (${response.status}); it needs to be allowed to read it.`,
    )
  if (!response.ok || typeof body !== 'object' || body === null)
    throw new CaretakerError('upstream_failed', `Stripe answered ${response.status}.`)
  return { body: body as Record<string, unknown>, at: answered }
}
