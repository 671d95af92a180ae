import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { type MetricsDashboard, metricsDashboard } from './dashboard.ts'
import type { MetricKind } from './figures.ts'
import { measureOne } from './measure.ts'

export interface UsageLine {
  metric: string
  kind: MetricKind
  unit: string | null
  help: string | null
  /** A counter's growth, a gauge's last value, a histogram's number of observations. */
  value: number | null
  /** The same of the period before (a gauge: at its end). */
  before: number | null
}

export interface UsageReport {
  from: string
  to: string
  activeUsers: MetricsDashboard['activeUsers']
  usage: MetricsDashboard['usage']
  metrics: UsageLine[]
  /** Runs of jobs that ended, by state. */
  jobs: { done: number; failed: number }
  /** Webhook events received, by source. */
  webhooks: Record<string, number>
}

/** What Caretaker measures of itself that says how much it is used. */
const ownUsage = ['http_requests_total', 'database_size_bytes']
/** A gauge's last value is one of the last hour, seconds. */
const gaugeSeconds = 3_600

/** How much the app and Caretaker were used within a stretch of time, and in the one of the same length before. */
export async function usageReport(ctx: Context, { from, to }: { from: Date; to: Date }): Promise<UsageReport> {
  const overSeconds = (to.getTime() - from.getTime()) / 1_000
  const names = await ctx.db.query<{ metric: string; kind: MetricKind; unit: string | null; help: string | null; since: Date }>(
    `select name as metric, min(kind) as kind, min(unit) as unit, min(help) as help, min(made_at) as since from caretaker.metric_series
     where environment = $1::text and (source <> 'caretaker' or name = any ($2::text[])) group by name order by min(kind), name`,
    [environmentOf(ctx), ownUsage],
  )
  const metrics: UsageLine[] = []
  for (const { since, ...one } of names) {
    const stat = { counter: 'sum', gauge: 'last', histogram: 'per_second' } as const
    const query = { metric: one.metric, stat: stat[one.kind], overSeconds: one.kind === 'gauge' ? gaugeSeconds : overSeconds }
    const [now, then] = [await measureOne(ctx, query, to), await measureOne(ctx, query, from)]
    const value = (measured: typeof now) => (one.kind === 'histogram' ? measured.samples : measured.value)
    metrics.push({ ...one, value: value(now), before: since < from ? value(then) : null })
  }
  const [ended] = await ctx.db.query<{ done: number; failed: number }>(
    `select (count(*) filter (where state = 'done'))::int as done, (count(*) filter (where state = 'failed'))::int as failed
     from caretaker.runs where finished_at >= $1::timestamptz and finished_at < $2::timestamptz`,
    [from, to],
  )
  const received = await ctx.db.query<{ source: string; count: number }>(
    `select source, count(*)::int as count from caretaker.inbox
     where received_at >= $1::timestamptz and received_at < $2::timestamptz group by source order by source`,
    [from, to],
  )
  const { activeUsers, usage } = await metricsDashboard(ctx)
  return {
    from: from.toISOString(),
    to: to.toISOString(),
    activeUsers,
    usage,
    metrics,
    jobs: ended ?? { done: 0, failed: 0 },
    webhooks: Object.fromEntries(received.map(({ source, count }) => [source, count])),
  }
}
