import type { Context } from '../platform/context.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs

/** How long minutes and hours are kept. */
export const minutesKeptMs = 7 * dayMs
const hoursKeptMs = 400 * dayMs
/** Of a deployment that is gone, and sums up nothing any more. */
const abandonedMs = 30 * dayMs
const batchesKeptMs = 2 * dayMs

const limit = 20_000

/**
 * Deletes what is older than it is kept, in batches and of every environment: previews that are gone do not tidy up
 * themselves. Minutes that may still be summed up stay, a month at
 * most.
 * @returns rows deleted
 */
export async function pruneMetrics(ctx: Context, shouldStop: () => boolean = () => false): Promise<number> {
  // Half an hour's minutes, summed up once more, would be half of it.
  const wholeHour = (at: Date) => new Date(Math.floor(at.getTime() / hourMs) * hourMs)
  const before = (ms: number) => new Date(ctx.clock.now().getTime() - ms)
  const rules: [string, string, Date[]][] = [
    [
      'caretaker.metric_points',
      `select p.ctid from caretaker.metric_series s
       left join caretaker.metric_marks m on m.environment = s.environment and m.name = 'rolled'
       join caretaker.metric_points p on p.series = s.id and p.at < $1::timestamptz and (p.at < m.at - interval '3 hours' or p.at < $2::timestamptz)`,
      [wholeHour(before(minutesKeptMs)), before(abandonedMs)],
    ],
    [
      'caretaker.metric_hours',
      'select h.ctid from caretaker.metric_series s join caretaker.metric_hours h on h.series = s.id and h.at < $1::timestamptz',
      [before(hoursKeptMs)],
    ],
    [
      'caretaker.metric_series',
      `select s.ctid from caretaker.metric_series s where s.made_at < $1::timestamptz
         and not exists (select from caretaker.metric_points p where p.series = s.id)
         and not exists (select from caretaker.metric_hours h where h.series = s.id)`,
      [before(hoursKeptMs)],
    ],
    // Of an environment that is gone, or a gauge that is asked no more: what is alive is marked every few minutes, or once a month.
    ['caretaker.metric_marks', 'select m.ctid from caretaker.metric_marks m where m.at < $1::timestamptz', [before(hoursKeptMs)]],
    ['caretaker.metric_batches', 'select b.ctid from caretaker.metric_batches b where b.at < $1::timestamptz', [before(batchesKeptMs)]],
  ]
  let rows = 0
  for (const [table, old, cuts] of rules)
    for (;;) {
      if (shouldStop()) return rows
      const gone = await ctx.db.execute(`delete from ${table} where ctid = any (array(${old} limit ${limit}))`, cuts)
      rows += gone
      if (gone < limit) break
    }
  return rows
}
