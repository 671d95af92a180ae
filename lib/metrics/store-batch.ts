import type { Queryable } from '../platform/db.ts'
import { type Batch, seriesKey } from './batch.ts'
import { type Figures, mergeInto } from './figures.ts'
import { resolveSeries } from './resolve-series.ts'

/** What comes later than this is counted in the oldest minute that is still open: hours that are summed up stay as they are. */
export const latestMs = 2 * 3_600_000

export interface StoreOptions {
  /** The time now: nothing is stored in minutes to come, nor in ones long past. */
  now: Date
  mostSeries?: number | undefined
  /** Ids by key from earlier calls of the same process; it is added to. With it the usual batch is one statement. */
  known?: Map<string, string>
  /** The batch says all there is of its minutes: what is stored of them is replaced. */
  replace?: boolean
}

/**
 * Adds a batch to what is stored. Another's figures of the same minute are added to, not replaced.
 * @returns names of which there were too many series, with how many were told as `other`
 */
export async function storeBatch(
  db: Queryable,
  environment: string,
  batch: Batch,
  { now, mostSeries, known = new Map(), replace = false }: StoreOptions,
): Promise<Map<string, number>> {
  let folded = new Map<string, number>()
  const unknown = [...batch.series].flatMap(([key, { identity }]) => (known.has(key) ? [] : [identity]))
  if (unknown.length > 0) {
    const resolved = await resolveSeries(db, environment, unknown, { now, mostSeries })
    for (const [key, id] of resolved.ids) known.set(key, id)
    folded = resolved.folded
  }
  await addPoints(db, rowsOf(batch, known, now), replace)
  return folded
}

interface PointRow extends Omit<Figures, 'buckets'> {
  series: string
  minute: number
  buckets: number[] | null
  counts: number[] | null
}

/** A row for each series and minute; several label sets may have become one series, and several minutes the oldest open one. */
function rowsOf(batch: Batch, ids: ReadonlyMap<string, string>, now: Date): PointRow[] {
  const newest = Math.floor(now.getTime() / 60_000)
  const oldest = Math.floor((now.getTime() - latestMs) / 60_000) + 1
  const merged = new Map<string, { series: string; minute: number; figures: Figures }>()
  for (const { identity, minutes } of batch.series.values()) {
    const series = ids.get(seriesKey(identity))
    if (series === undefined) continue
    for (const [told, figures] of minutes) {
      const minute = Math.min(Math.max(told, oldest), newest)
      const there = merged.get(`${series} ${minute}`)
      if (there !== undefined) mergeInto(there.figures, figures)
      // A copy: a batch that cannot be stored is tried again as it was.
      else
        merged.set(`${series} ${minute}`, { series, minute, figures: { ...figures, buckets: figures.buckets && new Map(figures.buckets) } })
    }
  }
  return [...merged.values()].map(({ series, minute, figures: { buckets, ...figures } }) => ({
    series,
    minute,
    ...figures,
    buckets: buckets && [...buckets.keys()],
    counts: buckets && [...buckets.values()],
  }))
}

async function addPoints(db: Queryable, rows: readonly PointRow[], replace: boolean): Promise<void> {
  if (rows.length === 0) return
  await db.execute(
    // In one order, so that two instances cannot each wait for the other's row.
    `insert into caretaker.metric_points as p (series, at, count, sum, min, max, last, buckets, counts)
     select series, to_timestamp(minute * 60), count, sum, min, max, last, buckets, counts
     from jsonb_to_recordset($1::jsonb) as row(series bigint, minute bigint, count bigint, sum float8, min float8, max float8, last float8,
       buckets int[], counts bigint[])
     order by 1, 2
     on conflict (series, at) do update ${replace ? replacing : adding}`,
    [JSON.stringify(rows)],
  )
}

const replacing = `set count = excluded.count, sum = excluded.sum, min = excluded.min, max = excluded.max, last = excluded.last
  where (p.count, p.sum) is distinct from (excluded.count, excluded.sum)`

const adding = `set count = p.count + excluded.count, sum = p.sum + excluded.sum,
       min = least(p.min, excluded.min), max = greatest(p.max, excluded.max), last = excluded.last,
       (buckets, counts) = (
         select array_agg(bucket), array_agg(count) from (
           select bucket, sum(count)::bigint as count
           from (select * from unnest(p.buckets, p.counts) union all select * from unnest(excluded.buckets, excluded.counts)) as halves(bucket, count)
           group by bucket
         ) as merged)`
