import type { Context } from '../platform/context.ts'
import type { Transaction } from '../platform/db.ts'
import { environmentOf } from '../platform/environment.ts'
import { setMark } from './marks.ts'
import { latestMs } from './store-batch.ts'

const hourMs = 3_600_000
/** Hours that are summed up in one transaction: a job that did not run for a week catches up day by day. */
const chunkMs = 24 * hourMs

/**
 * Sums complete hours up from their minutes: counts and buckets are added, percentiles are made of them when they are
 * asked for. Hours that may have got late minutes are summed up anew. Repeated, interrupted or done by two at once it ends the same.
 * @returns whether anything new was summed up; false within the hour that was summed up already
 */
export async function rollUp(ctx: Context, shouldStop: () => boolean = () => false): Promise<boolean> {
  const environment = environmentOf(ctx)
  const until = Math.floor(ctx.clock.now().getTime() / hourMs) * hourMs
  let any = false
  for (;;) {
    const done = await ctx.db.transaction(async (tx) => {
      // The second of two waits here, and then finds nothing to do.
      await tx.query(`select pg_advisory_xact_lock(hashtextextended('caretaker:metrics:' || $1::text, 0))`, [environment])
      const rolled = await rolledUntil(tx, environment)
      if (rolled === null || rolled >= until) return true
      any = true
      // What came since the hours before the mark were summed up is at most that late.
      const from = rolled - latestMs
      const to = Math.min(until, rolled + chunkMs)
      await sumUp(tx, environment, new Date(from), new Date(to))
      await setMark(tx, environment, 'rolled', new Date(to))
      return to >= until
    })
    if (done || shouldStop()) return any
  }
}

/** The hour up to which everything is summed up, ms; at the beginning that of the first minute. Null where there is none. */
async function rolledUntil(tx: Transaction, environment: string): Promise<number | null> {
  const [row] = await tx.query<{ at: Date | null }>(
    `select coalesce(
       (select at from caretaker.metric_marks where environment = $1::text and name = 'rolled'),
       (select date_bin('1 hour', min(first.at), 'epoch') from caretaker.metric_series s
        cross join lateral (select min(p.at) as at from caretaker.metric_points p where p.series = s.id) as first
        where s.environment = $1::text)) as at`,
    [environment],
  )
  return row?.at?.getTime() ?? null
}

async function sumUp(tx: Transaction, environment: string, from: Date, to: Date): Promise<void> {
  await tx.execute(
    // The totals grow by what the hours have more than before: nothing, where the same is done again.
    `with points as materialized (
       select p.*, date_bin('1 hour', p.at, 'epoch') as hour from caretaker.metric_series s
       join caretaker.metric_points p on p.series = s.id and p.at >= $2::timestamptz and p.at < $3::timestamptz
       where s.environment = $1::text
     ), fresh as materialized (
       select series, hour, sum(count)::bigint as count, sum(sum) as sum, min(min) as min, max(max) as max,
         (array_agg(last order by at desc))[1] as last
       from points group by 1, 2
     ), histograms as materialized (
       select series, hour, array_agg(bucket order by bucket) as buckets, array_agg(count order by bucket) as counts
       from (
         select p.series, p.hour, u.bucket, sum(u.count)::bigint as count from points p, unnest(p.buckets, p.counts) as u(bucket, count)
         group by 1, 2, 3) as merged
       group by 1, 2
     ), before as materialized (
       select h.* from fresh f join caretaker.metric_hours h on h.series = f.series and h.at = f.hour
     ), stored as (
       insert into caretaker.metric_hours as h (series, at, count, sum, min, max, last, buckets, counts)
       select series, hour, count, sum, min, max, last, buckets, counts from fresh left join histograms using (series, hour) order by 1, 2
       on conflict (series, at) do update set count = excluded.count, sum = excluded.sum, min = excluded.min, max = excluded.max,
         last = excluded.last, buckets = excluded.buckets, counts = excluded.counts
     ), growth as (
       select series, sum(count)::bigint as count, sum(sum) as sum
       from (select series, count, sum from fresh union all select series, -count, -sum from before) as change
       group by 1
     ), bucket_growth as materialized (
       select h.series, u.bucket, u.count
       from histograms h, unnest(h.buckets, h.counts) as u(bucket, count)
       union all
       select b.series, u.bucket, -u.count
       from before b, unnest(b.buckets, b.counts) as u(bucket, count)
     )
     update caretaker.metric_series s
     set total_count = coalesce(s.total_count, 0) + g.count, total_sum = coalesce(s.total_sum, 0) + g.sum,
       (total_buckets, total_counts) = (
         select array_agg(bucket order by bucket), array_agg(count order by bucket) from (
           select bucket, sum(count)::bigint as count
           from (
             select bucket, count from unnest(s.total_buckets, s.total_counts) as u(bucket, count)
             union all
             select b.bucket, b.count from bucket_growth b where b.series = s.id) as halves
           group by bucket having sum(count) <> 0) as merged)
     from growth g where g.series = s.id and s.kind <> 'gauge'`,
    [environment, from, to],
  )
}
