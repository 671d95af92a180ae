import { canonicalName } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { databaseTime } from '../platform/database-clock.ts'
import { environmentOf } from '../platform/environment.ts'
import type { JobPlan, JobVerb, PlanLine } from '../platform/job.ts'
import { misconfiguration, policyChecks } from './check.ts'
import { confirmedResults } from './confirm.ts'
import { dependencyTree } from './dependencies.ts'
import { readStates, recordLooks } from './history/record.ts'
import { rollUpHealth } from './history/roll-up.ts'
import { type HistoryStatus, type Look, whole } from './history/status.ts'
import { deleteOldSnapshots } from './queries.ts'
import { overall } from './report.ts'
import type { CheckResult } from './run-check.ts'
import { covered, maintenanceAt } from './windows/list-maintenance.ts'

/** Looks at everything now and notes how it stands. A failing dependency is a finding, not a failure of the job. */
export const healthJob: JobVerb = async (ctx) => {
  const states = await readStates(ctx.db, environmentOf(ctx))
  const before = new Map(states.map(({ check, status }) => [check, status]))
  const results = await confirmedResults(ctx, policyChecks(ctx.config, ctx.env), before)
  const changes = await recordLooks(ctx, await looksOf(ctx, results))
  await rollUpHealth(ctx)
  await deleteOldSnapshots(ctx.db).catch((error: unknown) => ctx.log.warn({ err: error }, 'old health snapshots stay'))
  const count = (status: string) => results.filter((result) => result.status === status).length
  return {
    status: 'done',
    result: {
      status: overall(results),
      healthy: count('healthy'),
      unhealthy: count('unhealthy'),
      notConfigured: count('not_configured'),
      failing: results.filter((result) => result.status === 'unhealthy').map((result) => `${result.name}: ${result.cause ?? 'internal'}`),
      changed: changes.filter(({ check }) => check !== whole).map(({ check, status }) => `${check}: ${status}`),
    },
  }
}

/** What goes into the history: a failure that was announced is maintenance; then the app as a whole. */
async function looksOf(ctx: Context, results: readonly CheckResult[]): Promise<Look[]> {
  const windows = await maintenanceAt(ctx, await databaseTime(ctx))
  const tree = dependencyTree(ctx.config)
  const looks = results.map((result): Look & { critical: boolean } => {
    const check = canonicalName(result.name)
    const failed = covered(windows, check, tree.get(check) ?? []) ? 'maintenance' : 'down'
    const status = ({ healthy: 'up', unhealthy: failed, not_configured: 'unknown' } as const)[result.status]
    return {
      check,
      status,
      cause: result.cause ?? null,
      durationMs: result.status === 'not_configured' ? null : result.durationMs,
      critical: result.critical,
    }
  })
  return [
    ...looks.map(({ critical: _critical, ...look }) => look),
    { check: whole, status: wholeStatus(looks), cause: null, durationMs: null },
  ]
}

/** Down where a critical check is; what is not critical takes nothing down. */
function wholeStatus(looks: readonly (Pick<Look, 'status'> & { critical: boolean })[]): HistoryStatus {
  const critical = new Set(looks.filter((look) => look.critical).map(({ status }) => status))
  if (critical.has('down')) return 'down'
  if (critical.has('maintenance')) return 'maintenance'
  return looks.some(({ status }) => status !== 'unknown') ? 'up' : 'unknown'
}

/** The checks there are, and which of the policy's entries cannot be run. Asks nothing of anybody. */
export const planHealth: JobPlan = (ctx) =>
  Promise.resolve(
    policyChecks(ctx.config, ctx.env).map((check): PlanLine => {
      const wrong = misconfiguration(check)
      return {
        action: `check ${check.name}${check.critical ? ' (critical)' : ''}`,
        target: check.policy.url ?? check.policy.kind ?? check.name,
        count: null,
        unit: 'objects',
        ...(wrong === undefined ? {} : { warnings: [wrong] }),
      }
    }),
  )
