import type { Context } from '../platform/context.ts'
import { findSeries, type SeriesGroup } from './find-series.ts'
import { quantile } from './histogram.ts'
import { readSums } from './measure.ts'
import type { Selection } from './metric-query.ts'
import type { BinFigures } from './read-bins.ts'

export interface RoutePerformance {
  /** Whose it is: `caretaker`, or what the app or the host says. */
  service: string
  method: string
  route: string
  requests: number
  /** Share of answers with 5xx; null without a request that was counted. */
  errorRate: number | null
  /** Seconds; null where nobody told how long it took. */
  p50: number | null
  p95: number | null
  p99: number | null
  max: number | null
}

export interface PerformanceReport {
  from: string
  to: string
  routes: RoutePerformance[]
}

const by = ['service', 'method', 'route'] as const
const whole = (metric: string): Selection => ({ metric, where: {}, from: 'any' })

/** How fast each route was answered within a stretch of time, and how often with an error; the most called first. */
export async function performanceReport(
  ctx: Pick<Context, 'db' | 'env' | 'clock'>,
  { from, to }: { from: Date; to: Date },
): Promise<PerformanceReport> {
  const durations = await read(ctx, 'http_request_duration_seconds', by, from, to)
  const counts = await read(ctx, 'http_requests_total', [...by, 'status'], from, to)
  const routes = new Map<string, RoutePerformance & { errors: number }>()
  const routeOf = (labels: Record<string, string>) => {
    const key = JSON.stringify(by.map((name) => labels[name]))
    const none = { requests: 0, errors: 0, errorRate: null, p50: null, p95: null, p99: null, max: null }
    const there = routes.get(key) ?? { service: labels.service || 'app', method: labels.method ?? '', route: labels.route ?? '', ...none }
    routes.set(key, there)
    return there
  }
  for (const [{ labels }, { sum }] of counts) {
    const route = routeOf(labels)
    route.requests += sum
    if (labels.status?.startsWith('5') === true) route.errors += sum
  }
  for (const [{ labels }, { count, buckets, min, max }] of durations) {
    const route = routeOf(labels)
    const at = (share: number) => (buckets === null ? null : quantile(buckets, share, { min, max }))
    Object.assign(route, { p50: at(0.5), p95: at(0.95), p99: at(0.99), max, requests: route.requests || count })
  }
  return {
    from: from.toISOString(),
    to: to.toISOString(),
    routes: [...routes.values()]
      .map(({ errors, ...route }) => ({ ...route, errorRate: route.requests === 0 ? null : errors / route.requests }))
      .sort((a, b) => b.requests - a.requests || a.route.localeCompare(b.route)),
  }
}

async function read(
  ctx: Pick<Context, 'db' | 'env' | 'clock'>,
  metric: string,
  labels: readonly string[],
  from: Date,
  to: Date,
): Promise<[SeriesGroup, BinFigures][]> {
  const found = await findSeries(ctx, whole(metric), labels)
  const figures = await readSums(ctx, found, from.getTime(), to)
  return found.groups.flatMap((group, index) => {
    const one = figures[index]
    return one === undefined ? [] : [[group, one] as [SeriesGroup, BinFigures]]
  })
}
