import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/** Stripe answers and accepts the key: the cheapest call that needs one (https://docs.stripe.com/api/balance/balance_retrieve). */
export const stripe: Checker = async (ctx, _check, signal) => {
  const key = ctx.env.STRIPE_SECRET_KEY
  if (key === undefined) return notConfigured
  const response = await ctx.fetch('https://api.stripe.com/v1/balance', {
    headers: { authorization: `Bearer ${key}` },
    redirect: 'manual',
    signal,
  })
  return judgeApi(response)
}
