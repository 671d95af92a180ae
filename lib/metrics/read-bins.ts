import type { Queryable, Row } from '../platform/db.ts'
import type { Figures } from './figures.ts'
import type { SeriesGroup } from './find-series.ts'

/** What a group's series say of one stretch of time. `last` is the greatest of their last values, `lastSum` the sum of these. */
export interface BinFigures extends Figures {
  lastSum: number
}

interface BinRow extends Row {
  group: number
  bin: number
  count: number
  sum: number
  min: number
  max: number
  last: number
  lastSum: number
  buckets: number[] | null
  counts: number[] | null
}

/** By group, by bin: bin n begins `n * binSeconds` after `from`. */
export type Bins = Map<number, BinFigures>[]

export interface Stretch {
  /** Minutes, kept for a week, or hours. */
  table: 'metric_points' | 'metric_hours'
  from: Date
  to: Date
  binSeconds: number
}

/** The figures of groups of series within a stretch of time; buckets are merged by the database. */
export async function readBins(db: Queryable, groups: readonly SeriesGroup[], stretch: Stretch): Promise<Bins> {
  const bins: Bins = groups.map(() => new Map())
  if (groups.length === 0 || stretch.to <= stretch.from) return bins
  const rows = await db.query<BinRow>(
    `with points as materialized (
       select w.number, floor(extract(epoch from p.at - $3::timestamptz) / $5::float8)::int as bin, p.*
       from unnest($1::bigint[], $2::int[]) as w(series, number)
       join caretaker.${stretch.table} p on p.series = w.series and p.at >= $3::timestamptz and p.at < $4::timestamptz
     ), sums as (
       select number, bin, sum(count)::float8 as count, sum(sum) as sum, min(min) as min, max(max) as max from points group by 1, 2
     ), lasts as (
       select number, bin, max(last) as last, sum(last) as "lastSum"
       from (select distinct on (series, bin) number, bin, last from points order by series, bin, at desc) as newest group by 1, 2
     ), histograms as (
       select number, bin, array_agg(bucket) as buckets, array_agg(count) as counts
       from (
         select p.number, p.bin, u.bucket, sum(u.count)::float8 as count from points p, unnest(p.buckets, p.counts) as u(bucket, count)
         group by 1, 2, 3) as merged
       group by 1, 2
     )
     select number as "group", bin, count, sum, min, max, last, "lastSum", buckets, counts
     from sums join lasts using (number, bin) left join histograms using (number, bin)`,
    [
      groups.flatMap((group) => group.ids),
      groups.flatMap((group, index) => group.ids.map(() => index)),
      stretch.from,
      stretch.to,
      stretch.binSeconds,
    ],
  )
  for (const { group, bin, buckets, counts, ...figures } of rows)
    bins[group]?.set(bin, { ...figures, buckets: buckets && new Map(buckets.map((bucket, index) => [bucket, counts?.[index] ?? 0])) })
  return bins
}

/** One's figures of a longer stretch; `newer` is not older than `older`. Either may be missing. */
export function joinBins(older: BinFigures | undefined, newer: BinFigures | undefined): BinFigures | undefined {
  if (older === undefined || newer === undefined) return older ?? newer
  const buckets = new Map(older.buckets)
  for (const [bucket, count] of newer.buckets ?? []) buckets.set(bucket, (buckets.get(bucket) ?? 0) + count)
  return {
    count: older.count + newer.count,
    sum: older.sum + newer.sum,
    min: Math.min(older.min, newer.min),
    max: Math.max(older.max, newer.max),
    last: newer.last,
    lastSum: newer.lastSum,
    buckets: older.buckets === null && newer.buckets === null ? null : buckets,
  }
}
