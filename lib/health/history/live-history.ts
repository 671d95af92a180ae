import { canonicalName } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { policyChecks } from '../check.ts'
import { reportHealth } from '../report.ts'
import type { HistoryStatus } from './status.ts'
import { type CheckHistory, type StatusHistory, startOfDay } from './status-history.ts'

const statuses = { healthy: 'up', unhealthy: 'down', not_configured: 'unknown' } as const satisfies Record<string, HistoryStatus>

/** What a look just now finds, in the shape of a history without a past: for when what is stored cannot be read. */
export async function liveHistory(ctx: Context): Promise<StatusHistory> {
  const { report, results } = await reportHealth(ctx)
  const checks = policyChecks(ctx.config, ctx.env).map((check): CheckHistory => {
    const result = results.find(({ name }) => name === check.name)
    return {
      check: canonicalName(check.name),
      kind: canonicalName(check.policy.kind ?? check.name),
      critical: check.critical,
      status: statuses[result?.status ?? 'not_configured'],
      cause: result?.cause,
      since: null,
      durationMs: result?.durationMs ?? null,
      days: [],
      uptime: null,
    }
  })
  const now = ctx.clock.now()
  const whole: CheckHistory = {
    check: '',
    kind: 'whole',
    critical: true,
    status: report.status === 'unhealthy' ? 'down' : 'up',
    cause: undefined,
    since: null,
    durationMs: null,
    days: [],
    uptime: null,
  }
  return { now, from: startOfDay(now), whole, checks }
}
