import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/** PostHog evaluates feature flags for the project's key: a call that stores no event. https://posthog.com/docs/api/flags */
export const posthog: Checker = async (ctx, _check, signal) => {
  const key = ctx.env.POSTHOG_API_KEY
  if (key === undefined) return notConfigured
  const host = (ctx.env.POSTHOG_HOST ?? 'https://us.i.posthog.com').replace(/\/+$/, '')
  return judgeApi(
    await ctx.fetch(`${host}/flags?v=2`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ api_key: key, distinct_id: 'caretaker-health' }),
      redirect: 'manual',
      signal,
    }),
  )
}
