import { type DashboardFigure, durationMs } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { measureOne } from './measure.ts'
import { readNumber } from './read-gauge.ts'

/** The figures of the app at a glance. Null is not measured; nothing is made up. */
export interface MetricsDashboard {
  /** People who were there in the last day, week, month. */
  activeUsers: Record<'daily' | 'weekly' | 'monthly', number | null>
  /** Milliseconds of the last 24 hours; the error rate as a share, 0 to 1. */
  performance: Record<'p50_response_time' | 'p95_response_time' | 'p99_response_time' | 'error_rate', number | null>
  usage: Record<'tasks_created' | 'tasks_completed' | 'completion_rate' | 'avg_session_duration', number | null>
  /** Uptime: percent of the last 30 days, as far as somebody looked. Processor: cores in use. Memory: bytes of the largest process. */
  health: Record<'uptime' | 'cpu_usage' | 'memory_usage' | 'database_connections', number | null>
  ai: Record<'inference_time' | 'parse_accuracy' | 'cache_hit_rate' | 'fallback_rate', number | null>
}

/** `needs`: a table without which there is nothing to ask. */
type Figure = DashboardFigure & { factor?: number; needs?: string }

const active = (interval: string): Figure => ({
  needs: 'auth.users',
  sql: `select count(*) from auth.users where last_sign_in_at > now() - interval '${interval}'`,
})
const percentile = (metric: string): Figure => ({ metric, factor: 1_000 })
const recent = '5 minutes'

const fields = {
  activeUsers: { daily: active('1 day'), weekly: active('7 days'), monthly: active('30 days') },
  performance: {
    p50_response_time: percentile('http.p50'),
    p95_response_time: percentile('http.p95'),
    p99_response_time: percentile('http.p99'),
    error_rate: { metric: 'http.error_rate' },
  },
  usage: { tasks_created: null, tasks_completed: null, completion_rate: null, avg_session_duration: null },
  health: {
    uptime: {
      sql: `select 100 * extract(epoch from up) / nullif(extract(epoch from up + down), 0) from caretaker.uptime(now() - interval '30 days', now())`,
    },
    cpu_usage: { metric: 'process_cpu_seconds_total', stat: 'per_second', over: recent },
    memory_usage: { metric: 'process_resident_memory_bytes', stat: 'max', over: recent },
    database_connections: { metric: 'database_connections', over: recent },
  },
  ai: { inference_time: null, parse_accuracy: null, cache_hit_rate: null, fallback_rate: null },
} as const satisfies Record<keyof MetricsDashboard, Record<string, Figure | null>>

/** All figures, each from the policy or, where that says nothing, from what Caretaker measures. One that fails is null, and the log says why. */
export async function metricsDashboard(ctx: Context): Promise<MetricsDashboard> {
  const parts = await Promise.all(
    Object.entries(fields).map(async ([part, known]) => {
      const names = Object.keys(known)
      const values = await Promise.all(names.map((name) => valueOfFigure(ctx, `${part}.${name}`, figureOf(ctx, part, name))))
      return [part, Object.fromEntries(names.map((name, index) => [name, values[index] ?? null]))] as const
    }),
  )
  return Object.fromEntries(parts) as unknown as MetricsDashboard
}

/** What a figure of the dashboard is made of; null where it is not measured. */
function figureOf(ctx: Pick<Context, 'config'>, part: string, name: string): Figure | null {
  const wanted = ctx.config.metrics?.dashboard as Record<string, Record<string, DashboardFigure | undefined> | undefined> | undefined
  return wanted?.[part]?.[name] ?? (fields as Record<string, Record<string, Figure | null>>)[part]?.[name] ?? null
}

async function valueOfFigure(ctx: Context, path: string, figure: Figure | null): Promise<number | null> {
  if (figure === null) return null
  try {
    if ('sql' in figure) {
      if (figure.needs !== undefined && !(await exists(ctx, figure.needs))) return null
      return await readNumber(ctx, `metrics.dashboard.${path}`, figure.sql)
    }
    const { over = '24 hours', factor = 1, stat, where, per, metric } = figure
    const query = {
      metric,
      overSeconds: durationMs(over) / 1_000,
      ...(stat === undefined ? {} : { stat }),
      ...(where === undefined ? {} : { where }),
      ...(per === undefined ? {} : { per: { metric: per.metric, ...(per.where === undefined ? {} : { where: per.where }) } }),
    }
    const { value } = await measureOne(ctx, query, ctx.clock.now())
    return value === null ? null : value * factor
  } catch (error) {
    ctx.log.warn({ err: error, figure: path }, 'a figure of the dashboard could not be measured')
    return null
  }
}

async function exists(ctx: Pick<Context, 'db'>, table: string): Promise<boolean> {
  const [row] = await ctx.db.query<{ there: boolean }>('select to_regclass($1::text) is not null as there', [table])
  return row?.there === true
}
