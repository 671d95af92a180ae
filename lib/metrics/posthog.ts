import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { CaretakerError } from '../platform/errors.ts'

/** What of a health check is captured. */
export interface HealthLook {
  status: string
  critical: boolean
  durationMs: number | null
}

const timeoutMs = 5_000

/**
 * Sends `health_check` to PostHog, with how everything is and how long the slowest check took, where the policy asks for
 * it and there is a key. No person belongs to it, and none is made. https://posthog.com/docs/api/capture
 * @throws {CaretakerError} `upstream_failed`
 */
export async function captureHealth(ctx: Context, looks: readonly HealthLook[]): Promise<boolean> {
  const key = ctx.env.POSTHOG_API_KEY
  if (ctx.config.metrics?.posthog !== true || key === undefined || looks.every(({ status }) => status === 'unknown')) return false
  const down = looks.filter(({ status }) => status === 'down')
  const response = await ctx
    .fetch(`${(ctx.env.POSTHOG_HOST ?? 'https://us.i.posthog.com').replace(/\/+$/, '')}/i/v0/e/`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        api_key: key,
        event: 'health_check',
        distinct_id: 'caretaker',
        timestamp: ctx.clock.now().toISOString(),
        properties: {
          status: down.some(({ critical }) => critical) ? 'unhealthy' : down.length > 0 ? 'degraded' : 'healthy',
          response_time: Math.max(...looks.map(({ durationMs }) => durationMs ?? 0)),
          memory_usage: process.memoryUsage.rss(),
          uptime: Math.round(process.uptime()),
          environment: environmentOf(ctx),
          $process_person_profile: false,
        },
      }),
      signal: AbortSignal.any([ctx.signal, AbortSignal.timeout(timeoutMs)]),
    })
    .catch((cause: unknown) => {
      throw new CaretakerError('upstream_failed', 'PostHog did not take the event health_check.', { cause })
    })
  await response.body?.cancel()
  if (!response.ok) throw new CaretakerError('upstream_failed', `PostHog answered the event health_check with ${response.status}.`)
  return true
}
