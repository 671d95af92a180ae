import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/** Webflow answers and accepts the token: what it may do. https://developers.webflow.com/data/reference/token/introspect */
export const webflow: Checker = async (ctx, _check, signal) => {
  const token = ctx.env.WEBFLOW_API_TOKEN
  if (token === undefined) return notConfigured
  return judgeApi(
    await ctx.fetch('https://api.webflow.com/v2/token/introspect', {
      headers: { authorization: `Bearer ${token}` },
      redirect: 'manual',
      signal,
    }),
  )
}
