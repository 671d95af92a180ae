import * as z from 'zod/mini'
import { durationMs, isDuration } from '../duration.ts'
import { duration, name } from './primitives.ts'

/** As Prometheus wants names: letters, digits, underscores, not beginning with a digit. */
export const metricName = z
  .string()
  .check(
    z.regex(/^[a-zA-Z_][a-zA-Z0-9_]{0,99}$/, 'expected a metric’s name: letters, digits and underscores, such as "storage_used_ratio"'),
  )
const atLeastAMinute = duration.check(
  z.refine((value) => !isDuration(value) || durationMs(value) >= 60_000, 'expected at least "1 minute"'),
)

const gauge = z.strictObject({
  /**
   * One query, run read-only: a single number; or a row for each label set, with the number in the column `value` and the
   * labels in the others. A null is no data.
   */
  sql: name,
  /** Default "5 minutes". */
  every: z.optional(atLeastAMinute),
  /** Labels that every value of it has. */
  labels: z.optional(z.record(metricName, z.string())),
  help: z.optional(z.string()),
  /** bytes, seconds, ratio… */
  unit: z.optional(z.string()),
  /** How long the query may take. Default "5 seconds". */
  timeout: z.optional(duration),
})

/** A figure of the dashboard: a query that answers one number, or a metric. */
const figure = z.union([
  z.strictObject({ sql: name }),
  z.strictObject({
    metric: name,
    stat: z.optional(z.enum(['last', 'average', 'max', 'min', 'sum', 'per_second', 'p50', 'p90', 'p95', 'p99'])),
    where: z.optional(z.record(z.string(), z.string())),
    per: z.optional(z.strictObject({ metric: name, where: z.optional(z.record(z.string(), z.string())) })),
    /** Default "24 hours". */
    over: z.optional(duration),
  }),
])
const figures = <const Name extends string>(names: readonly Name[]) =>
  z.optional(
    z.strictObject(Object.fromEntries(names.map((one) => [one, z.optional(figure)])) as Record<Name, z.ZodMiniOptional<typeof figure>>),
  )

export const metrics = z.strictObject({
  /** What is asked of the database, by the name it has as a metric. */
  gauges: z.optional(z.record(metricName, gauge)),
  /** What the dashboard's figures are made of, where not by default; the other fields are null. */
  dashboard: z.optional(
    z.strictObject({
      activeUsers: figures(['daily', 'weekly', 'monthly']),
      performance: figures(['p50_response_time', 'p95_response_time', 'p99_response_time', 'error_rate']),
      usage: figures(['tasks_created', 'tasks_completed', 'completion_rate', 'avg_session_duration']),
      health: figures(['uptime', 'cpu_usage', 'memory_usage', 'database_connections']),
      ai: figures(['inference_time', 'parse_accuracy', 'cache_hit_rate', 'fallback_rate']),
    }),
  ),
  /** The app's own errors, for `caretaker logs errors`: a query that may use :since and has the columns at and message. */
  errors: z.optional(z.strictObject({ sql: name })),
  /** How many series (label sets) one name may have; further ones are counted together as `other`. Default 200. */
  mostSeries: z.optional(z.int().check(z.gte(1), z.lte(10_000))),
  /** Send `health_check` to PostHog with every look at the app's health, where POSTHOG_API_KEY is set. Default false. */
  posthog: z.optional(z.boolean()),
})

export type GaugePolicy = z.output<typeof gauge>
export type DashboardFigure = z.output<typeof figure>
