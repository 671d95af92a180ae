import { Ratelimit } from '@upstash/ratelimit'
import { Redis } from '@upstash/redis'
import { systemClock } from '../../platform/clock.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { RateLimiter } from '../../platform/limiter.ts'

export interface UpstashLimiterOptions {
  url: string
  token: string
  /** How long a hit may take, retry included, milliseconds. */
  timeoutMs?: number
}

/**
 * Upstash's own sliding window. What its client does by itself is turned off where it decides for us: the timeout that
 * lets everything through, the cache of refusals in module memory, and telemetry.
 * `hit` throws `upstream_failed` when Upstash does not answer in time or as expected.
 */
export function upstashLimiter(options: UpstashLimiterOptions): RateLimiter {
  const timeoutMs = options.timeoutMs ?? 1_500
  const redis = new Redis({
    url: options.url,
    token: options.token,
    enableTelemetry: false,
    retry: { retries: 1, backoff: () => 50 },
    // As a function: a plain signal's abort would come back as an answer that lets the hit through.
    signal: () => AbortSignal.timeout(timeoutMs),
  })
  return {
    async hit(key, limit, windowSeconds) {
      const limiter = new Ratelimit({
        redis,
        limiter: Ratelimit.slidingWindow(limit, `${windowSeconds} s`),
        prefix: 'caretaker:limit',
        timeout: 0,
        ephemeralCache: false,
        analytics: false,
      })
      const answer = await limiter.limit(`${windowSeconds}:${key}`).catch((error: unknown) => {
        throw new CaretakerError('upstream_failed', `Upstash Redis did not count a hit: ${reasonOf(error, timeoutMs)}.`)
      })
      const untilReset = (answer.reset - systemClock.now().getTime()) / 1_000
      return {
        allowed: answer.success,
        limit,
        remaining: Math.max(0, answer.remaining),
        // At the exact end of the window the last one still counts in full: the next whole second.
        resetSeconds: Math.max(1, Math.floor(untilReset) + 1),
      }
    },
  }
}

/** Its client's messages repeat the command: only what is known to be harmless is passed on. */
function reasonOf(error: unknown, timeoutMs: number): string {
  if (!(error instanceof Error)) return 'unknown error'
  if (error.name === 'TimeoutError' || error.name === 'AbortError') return `no answer within ${timeoutMs} ms`
  if (/WRONGPASS|Unauthorized|invalid token/i.test(error.message)) return 'it refused the token; check UPSTASH_REDIS_REST_TOKEN'
  if (error.name === 'UpstashError') return 'it answered with an error'
  if (error.name === 'UpstashJSONParseError') return 'its answer is not JSON; check UPSTASH_REDIS_REST_URL'
  const code = (error.cause as NodeJS.ErrnoException | undefined)?.code
  return `it cannot be reached (${code ?? 'connection lost'})`
}
