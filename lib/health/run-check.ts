import type { Context } from '../platform/context.ts'
import { hasCode } from '../platform/errors.ts'
import { type CauseCode, causeOf } from './causes.ts'
import { type Check, misconfiguration } from './check.ts'
import { type CheckStatus, type Finding, notConfigured, unhealthy } from './checker.ts'

/** The outcome of one check, as it is stored and reported. */
export interface CheckResult {
  name: string
  status: CheckStatus
  critical: boolean
  /** Milliseconds. */
  durationMs: number
  cause?: CauseCode
  /** For operators only. */
  measures?: Finding['measures']
  /** ISO 8601. */
  checkedAt: string
}

/** Runs one check under its time limit. Never throws, and is never late, even where the checker does not heed its signal. */
export async function runCheck(ctx: Context, check: Check): Promise<CheckResult> {
  const started = ctx.clock.monotonicMs()
  const checkedAt = ctx.clock.now().toISOString()
  // Not the caller's signal: others wait for this result too, and one visitor's leaving must not look like a failure.
  const limit = new AbortController()
  const signal = limit.signal
  const late = new Promise<Finding>((resolve) => {
    signal.addEventListener('abort', () => resolve(unhealthy('timeout')), { once: true })
  })
  const timer = setTimeout(() => limit.abort(new DOMException('The check took too long.', 'TimeoutError')), check.timeoutMs)
  try {
    const finding = await Promise.race([look(ctx, check, signal), late])
    return {
      name: check.name,
      status: finding.status,
      critical: check.critical,
      durationMs: Math.round((ctx.clock.monotonicMs() - started) * 10) / 10,
      ...(finding.cause === undefined ? {} : { cause: finding.cause }),
      ...(finding.measures === undefined ? {} : { measures: finding.measures }),
      checkedAt,
    }
  } finally {
    clearTimeout(timer)
    // Whatever a late checker still holds open is let go.
    limit.abort()
  }
}

async function look(ctx: Context, check: Check, signal: AbortSignal): Promise<Finding> {
  if (check.kind === undefined || misconfiguration(check) !== undefined) return unhealthy('misconfigured')
  try {
    return await check.kind.check(ctx, check.policy, signal)
  } catch (error) {
    if (signal.aborted) return unhealthy('timeout')
    if (hasCode(error, 'not_configured')) return notConfigured
    const cause = causeOf(error)
    ctx.log.warn({ check: check.name, cause, err: error }, 'health check failed')
    return unhealthy(cause)
  }
}
