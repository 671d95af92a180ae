import * as z from 'zod/mini'
import { knownMetric } from '../known-metrics.ts'
import { issuesOfFigure } from './figure-references.ts'
import { durationBetween, line, name } from './primitives.ts'

/** As Prometheus wants names: letters, digits, underscores, not beginning with a digit. */
export const metricName = z
  .string()
  .check(
    z.regex(/^[a-zA-Z_][a-zA-Z0-9_]{0,99}$/, 'expected a metric’s name: letters, digits and underscores, such as "storage_used_ratio"'),
  )
export const labelName = z
  .string()
  .check(z.regex(/^[a-zA-Z_][a-zA-Z0-9_]{0,99}$/, 'expected a label’s name: letters, digits and underscores, such as "region"'))

const gauge = z.strictObject({
  /**
   * One query, run read-only: a single number; or a row for each label set, with the number in the column `value` and the
   * labels in the others. A null is no data.
   */
  sql: name,
  /** Default "5 minutes". */
  every: z.optional(durationBetween('1 minute', '31 days')),
  /** Labels that every value of it has. */
  labels: z.optional(z.record(labelName, z.string())),
  help: z.optional(line(1_000)),
  /** bytes, seconds, ratio… */
  unit: z.optional(line(50)),
  /** How long the query may take. Default "5 seconds". */
  timeout: z.optional(durationBetween('1 second', '5 minutes')),
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
    over: z.optional(durationBetween('1 minute', '400 days')),
  }),
])
const figures = <const Name extends string>(names: readonly Name[]) =>
  z.optional(
    z.strictObject(Object.fromEntries(names.map((one) => [one, z.optional(figure)])) as Record<Name, z.ZodMiniOptional<typeof figure>>),
  )

export const metrics = z
  .strictObject({
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
  .check((given) => {
    for (const issue of references(given.value)) given.issues.push({ code: 'custom', input: given.value, ...issue })
  })

interface Referring {
  gauges?: Record<string, GaugePolicy> | undefined
  dashboard?: Record<string, Record<string, DashboardFigure | undefined> | undefined> | undefined
}

/** Gauges that go by the name of what Caretaker tells itself, and figures of the dashboard that there cannot be. */
function* references({ gauges = {}, dashboard = {} }: Referring): Generator<{ path: PropertyKey[]; message: string }> {
  for (const gaugeName of Object.keys(gauges))
    if (knownMetric(gaugeName) !== undefined)
      yield { path: ['gauges', gaugeName], message: 'expected another name: Caretaker tells a metric of this one itself' }
  for (const [part, figuresOfPart] of Object.entries(dashboard))
    for (const [field, figure] of Object.entries(figuresOfPart ?? {}))
      if (figure !== undefined && 'metric' in figure)
        for (const { path, message } of issuesOfFigure(figure, gauges)) yield { path: ['dashboard', part, field, ...path], message }
}

export type GaugePolicy = z.output<typeof gauge>
export type DashboardFigure = z.output<typeof figure>
