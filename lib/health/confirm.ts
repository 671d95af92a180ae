import { setTimeout as delay } from 'node:timers/promises'
import { canonicalName } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import type { Check } from './check.ts'
import { freshResults } from './current-results.ts'
import type { HistoryStatus } from './history/status.ts'
import type { CheckResult } from './run-check.ts'

const defaultDelayMs = 2_000

/**
 * Looks at everything now, and once more, after a moment, at what fails though it did not before, or passes though it
 * failed: one lost packet is no outage, and one lucky answer no recovery. What the second look found counts.
 */
export async function confirmedResults(
  ctx: Context,
  checks: readonly Check[],
  before: ReadonlyMap<string, HistoryStatus>,
): Promise<CheckResult[]> {
  const results = await freshResults(ctx, checks)
  const doubtful = checks.filter((check, index) => {
    const status = results[index]?.status
    const known = before.get(canonicalName(check.name))
    const failed = known === 'down' || known === 'maintenance'
    return (status === 'unhealthy' && !failed) || (status === 'healthy' && failed)
  })
  if (doubtful.length === 0) return results
  await delay(ctx.config.health?.confirmAfterMs ?? defaultDelayMs, undefined, { signal: ctx.signal })
  const second = new Map((await freshResults(ctx, doubtful)).map((result) => [result.name, result]))
  return results.map((result) => second.get(result.name) ?? result)
}
