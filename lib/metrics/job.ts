import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import type { JobOutcome, JobPlan, JobRun, PlanLine } from '../platform/job.ts'
import { describeError } from '../platform/log.ts'
import { askGauges } from './ask-gauges.ts'
import { countLogs } from './count-logs.ts'
import { countRuns } from './count-runs.ts'
import { appErrors } from './list-errors.ts'
import { askOwnGauges } from './own-gauges.ts'
import { captureHealth, type HealthLook } from './posthog.ts'
import { pruneMetrics } from './prune.ts'
import { readGauge, readNumber } from './read-gauge.ts'
import { rollUp } from './roll-up.ts'

/**
 * Every minute: what log drains and jobs have told is counted, the gauges that are due are asked, complete hours are
 * summed up, and what is old enough goes. A part that fails does not keep the others from their turn; the run then fails.
 */
export async function metricsJob(
  ctx: Context,
  run: JobRun,
  health?: (ctx: Context) => Promise<readonly HealthLook[]>,
): Promise<JobOutcome> {
  const result: Record<string, unknown> = {}
  const failures: unknown[] = []
  const part = async (work: () => Promise<void>) => {
    if (run.shouldHandOver()) return
    await work().catch((error: unknown) => void failures.push(error))
  }
  await part(() => countLogs(ctx))
  await part(async () => {
    result.runs = await countRuns(ctx)
  })
  await part(() => askOwnGauges(ctx))
  await part(async () => {
    const { asked, failed } = await askGauges(ctx, () => run.shouldHandOver())
    result.gauges = asked
    if (Object.keys(failed).length > 0) result.failed = failed
  })
  await part(async () => {
    const turned = await rollUp(ctx, () => run.shouldHandOver())
    if (turned) result.rows = await pruneMetrics(ctx, () => run.shouldHandOver())
  })
  if (health !== undefined && ctx.config.metrics?.posthog === true)
    // What only others are told of is no failure of this job.
    await captureHealth(ctx, await health(ctx).catch(() => [])).catch((error: unknown) => {
      result.posthog = 'failed'
      ctx.log.warn({ err: error }, 'PostHog did not take health_check')
    })
  if (failures.length > 0) throw failures[0]
  return { status: 'done', result }
}

/** What the gauges of the policy say now, and which of its other queries the database refuses. */
export const planMetrics: JobPlan = async (ctx) => {
  const lines: PlanLine[] = []
  for (const [name, gauge] of Object.entries(ctx.config.metrics?.gauges ?? {})) {
    const line = { action: `measure ${name}`, target: 'the database', count: null, unit: 'rows' } as const
    const values = await readGauge(ctx, name, gauge).catch((error: unknown) => String(describeError(error).message))
    if (typeof values === 'string') lines.push({ ...line, warnings: [values] })
    else if (values.length === 0) lines.push({ ...line, action: `${line.action}: no data now` })
    else
      lines.push({
        ...line,
        action: `${line.action}: ${values.map(({ value }) => Number(value.toPrecision(4))).join(', ')}`.slice(0, 120),
      })
  }
  return [
    ...lines,
    ...(await refusedQueries(ctx)),
    { action: `sum up the minutes of ${environmentOf(ctx)}`, target: 'caretaker.metric_hours', count: null, unit: 'rows' },
  ]
}

/** The queries of the dashboard and of the app's errors, asked once: a wrong one shows before somebody misses its answer. */
async function refusedQueries(ctx: Context): Promise<PlanLine[]> {
  const policy = ctx.config.metrics
  const figures = Object.entries(policy?.dashboard ?? {}).flatMap(([part, fields]) =>
    Object.entries(fields ?? {}).flatMap(([name, figure]) =>
      figure !== undefined && 'sql' in figure ? [[`metrics.dashboard.${part}.${name}`, figure.sql] as const] : [],
    ),
  )
  const refused: PlanLine[] = []
  const attempt = async (path: string, work: Promise<unknown>) => {
    const problem = await work.then(() => undefined).catch((error: unknown) => String(describeError(error).message))
    if (problem !== undefined)
      refused.push({ action: `read ${path}`, target: 'the database', count: null, unit: 'rows', warnings: [problem] })
  }
  for (const [path, sql] of figures) await attempt(path, readNumber(ctx, path, sql))
  if (policy?.errors !== undefined) await attempt('metrics.errors', appErrors(ctx, ctx.clock.now(), 1))
  return refused
}
