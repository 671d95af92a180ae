import type { JobPlan, JobVerb, PlanLine } from '../platform/job.ts'
import { misconfiguration, policyChecks } from './check.ts'
import { deleteOldSnapshots } from './queries.ts'
import { reportHealth } from './report.ts'

/** Looks at everything now and stores it. A failing dependency is a finding, not a failure of the job. */
export const healthJob: JobVerb = async (ctx) => {
  const { report, results } = await reportHealth(ctx, { fresh: true })
  await deleteOldSnapshots(ctx.db).catch((error: unknown) => ctx.log.warn({ err: error }, 'old health snapshots stay'))
  const count = (status: string) => results.filter((result) => result.status === status).length
  return {
    status: 'done',
    result: {
      status: report.status,
      healthy: count('healthy'),
      unhealthy: count('unhealthy'),
      notConfigured: count('not_configured'),
      failing: results.filter((result) => result.status === 'unhealthy').map((result) => `${result.name}: ${result.cause ?? 'internal'}`),
    },
  }
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
