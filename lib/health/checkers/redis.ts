import { type Checker, healthy, judgeStatus, notConfigured, unhealthy } from '../checker.ts'

/** Upstash Redis answers a PING with the token. https://upstash.com/docs/redis/features/restapi */
export const redis: Checker = async (ctx, _check, signal) => {
  const { UPSTASH_REDIS_REST_URL: url, UPSTASH_REDIS_REST_TOKEN: token } = ctx.env
  if (url === undefined || token === undefined) return notConfigured
  const response = await ctx.fetch(`${url.replace(/\/+$/, '')}/ping`, {
    headers: { authorization: `Bearer ${token}` },
    redirect: 'manual',
    signal,
  })
  if (response.status !== 200) return judgeStatus(response)
  const { result } = (await response.json()) as { result?: unknown }
  return result === 'PONG' ? healthy() : unhealthy('bad_answer')
}
