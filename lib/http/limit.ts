import { isIPv6 } from 'node:net'
import type { Actor } from '../platform/actor.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError, hasCode } from '../platform/errors.ts'
import type { LimitDecision } from '../platform/limiter.ts'
import { prepared } from './credentials.ts'
import type { Route } from './route.ts'

const perMinute = { standard: 100, sensitive: 20 } as const
const windowSeconds = 60
/** A counter that hangs is one that cannot be reached, ms. */
const answerLimitMs = 2_000

/**
 * Counts the request against its caller; returns the RateLimit fields of the answer.
 * When the counter cannot be reached, a standard route answers anyway and a sensitive one refuses.
 * @throws {CaretakerError} `rate_limited`
 */
export async function enforceLimit(ctx: Context, route: Route, actor: Actor, clientAddress: string): Promise<Record<string, string>> {
  if (route.limit === 'none') return {}
  const limit = perMinute[route.limit]
  const caller = 'id' in actor ? `${actor.type}:${actor.id}` : `address:${network(clientAddress)}`
  const decision = await hit(ctx, `${route.path}|${caller}`, limit).catch((error: unknown) => {
    if (route.limit === 'sensitive' && !hasCode(error, 'database_unavailable') && !hasCode(error, 'not_configured'))
      throw new CaretakerError('upstream_failed', 'The rate limit cannot be checked right now; try again shortly.', {
        cause: error,
        retryAfterSeconds: 10,
      })
    if (route.limit === 'sensitive') throw error
    ctx.log.warn({ err: error }, 'rate limit not checked')
    return null
  })
  if (decision === null) return {}
  const fields = {
    'ratelimit-policy': `"minute";q=${limit};w=${windowSeconds}`,
    ratelimit: `"minute";r=${decision.remaining};t=${decision.resetSeconds}`,
  }
  if (decision.allowed) return fields
  throw new CaretakerError('rate_limited', 'Rate limit exceeded. Please wait before trying again.', {
    retryAfterSeconds: Math.max(1, decision.resetSeconds),
  })
}

/** Counts a failed authentication against the address; rethrows `error`, or `rate_limited` when there were too many. */
export async function refuseGuessing(ctx: Context, error: unknown, clientAddress: string): Promise<never> {
  if (!hasCode(error, 'unauthorized')) throw error
  const decision = await hit(ctx, `unauthorized|address:${network(clientAddress)}`, perMinute.sensitive).catch(() => null)
  if (decision?.allowed !== false) throw error
  throw new CaretakerError('rate_limited', 'Too many failed attempts. Please wait before trying again.', {
    retryAfterSeconds: Math.max(1, decision.resetSeconds),
  })
}

/** One caller holds 2^64 IPv6 addresses at least, and may use a new one for every request: its network counts. */
export function network(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address
  const [head = '', tail] = (address.split('%')[0] as string).split('::')
  const groups = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const full = tail === undefined ? groups : [...groups, ...Array<string>(8 - groups.length - after.length).fill('0'), ...after]
  return `${full
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}

async function hit(ctx: Context, key: string, limit: number): Promise<LimitDecision> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new CaretakerError('timeout', `The rate limiter did not answer within ${answerLimitMs} ms.`)),
      answerLimitMs,
    )
  })
  try {
    return await Promise.race([prepared(ctx.limiter.hit(key, limit, windowSeconds)), late])
  } finally {
    clearTimeout(timer)
  }
}
