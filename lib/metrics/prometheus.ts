import type { Context } from '../platform/context.ts'
import type { Row } from '../platform/db.ts'
import { environmentOf } from '../platform/environment.ts'
import { caretakerVersion } from '../platform/version.ts'
import type { Labels } from './batch.ts'
import type { MetricKind } from './figures.ts'
import { holdsMs } from './gauge-window.ts'
import { middleOf } from './histogram.ts'

/** https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format */
export const prometheusContentType = 'text/plain; version=0.0.4; charset=utf-8'

/** Prometheus's own default bounds, up to a minute. */
const secondsBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const otherBounds = Array.from({ length: 10 }, (_, power) => [1, 2.5, 5].map((step) => step * 10 ** power)).flat()

interface SeriesRow extends Row {
  name: string
  labels: Labels
  kind: MetricKind
  unit: string | null
  help: string | null
  everySeconds: number | null
  count: number
  sum: number
  last: number | null
  lastAt: Date | null
  buckets: number[] | null
  counts: number[] | null
}

/**
 * Every series as Prometheus reads them: counters and histograms as what ever was, gauges as long as they hold. The bounds
 * of our buckets and of Prometheus's differ by up to 5 %.
 */
export async function prometheusText(ctx: Pick<Context, 'db' | 'env' | 'clock'>): Promise<string> {
  const rows = await ctx.db.query<SeriesRow>(
    `with rolled as (
       select coalesce((select at from caretaker.metric_marks where environment = $1::text and name = 'rolled'), '-infinity') as at
     )
     select s.name, s.labels, s.kind, s.unit, s.help, s.every_s as "everySeconds", newest.last, newest.at as "lastAt",
       (coalesce(s.total_count, 0) + coalesce(recent.count, 0))::float8 as count, coalesce(s.total_sum, 0) + coalesce(recent.sum, 0) as sum,
       histogram.buckets, histogram.counts
     from caretaker.metric_series s cross join rolled
     left join lateral (
       select sum(p.count) as count, sum(p.sum) as sum from caretaker.metric_points p
       where s.kind <> 'gauge' and p.series = s.id and p.at >= rolled.at) as recent on true
     left join lateral (
       select p.last, p.at from caretaker.metric_points p where s.kind = 'gauge' and p.series = s.id order by p.at desc limit 1) as newest on true
     left join lateral (
       select array_agg(bucket) as buckets, array_agg(count) as counts
       from (
         select bucket, sum(count)::float8 as count
         from (
           select u.bucket, u.count from unnest(s.total_buckets, s.total_counts) as u(bucket, count)
           union all
           select u.bucket, u.count from caretaker.metric_points p, unnest(p.buckets, p.counts) as u(bucket, count)
           where p.series = s.id and p.at >= rolled.at) as halves
         group by bucket) as merged
       where s.kind = 'histogram') as histogram on true
     where s.environment = $1::text
     order by s.name collate "C", s.id`,
    [environmentOf(ctx)],
  )
  const lines = [
    '# HELP caretaker_build_info The version that answers.',
    '# TYPE caretaker_build_info gauge',
    `caretaker_build_info${labelsText({ version: ctx.env.APP_VERSION ?? caretakerVersion })} 1`,
  ]
  let name = ''
  for (const row of rows) {
    const samples = samplesOf(row, ctx.clock.now())
    if (samples.length === 0) continue
    if (row.name !== name) {
      name = row.name
      const help = rows.find((one) => one.name === name && one.help !== null)?.help
      if (help != null) lines.push(`# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`)
      lines.push(`# TYPE ${name} ${row.kind}`)
    }
    lines.push(...samples)
  }
  return `${lines.join('\n')}\n`
}

function samplesOf(row: SeriesRow, now: Date): string[] {
  const { name, labels } = row
  if (row.kind === 'counter') return [`${name}${labelsText(labels)} ${row.sum}`]
  if (row.kind === 'gauge') {
    const holds = row.lastAt !== null && row.lastAt.getTime() >= now.getTime() - holdsMs(row.everySeconds ?? 60)
    return holds && row.last !== null ? [`${name}${labelsText(labels)} ${row.last}`] : []
  }
  const bounds = row.unit === null || row.unit === 'seconds' ? secondsBounds : otherBounds
  const observations = (row.buckets ?? []).map((bucket, index) => [middleOf(bucket), row.counts?.[index] ?? 0] as const)
  const upTo = (bound: number) => observations.reduce((sum, [value, count]) => (value <= bound ? sum + count : sum), 0)
  return [
    ...bounds.map((bound) => `${name}_bucket${labelsText({ ...labels, le: String(bound) })} ${upTo(bound)}`),
    `${name}_bucket${labelsText({ ...labels, le: '+Inf' })} ${row.count}`,
    `${name}_sum${labelsText(labels)} ${row.sum}`,
    `${name}_count${labelsText(labels)} ${row.count}`,
  ]
}

function labelsText(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) => `${name}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  )
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}
