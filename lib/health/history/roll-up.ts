import type { Context } from '../../platform/context.ts'
import { databaseTime } from '../../platform/database-clock.ts'
import { environmentOf } from '../../platform/environment.ts'
import { startOfDay } from './status-history.ts'

const everyMs = 50_000
/** Yesterday must be whole when it is computed for the last time. */
const samplesKept = '48 hours'
const historyKept = '2 years'

/**
 * Computes the days of the history that may have changed since it was last done: today, and those before that were not
 * finished then. Does nothing where that was less than a minute ago. Computing a day again gives the same figures, so
 * one that is cut short is simply done again. Then drops what is no longer kept.
 * @returns how many rows were computed
 */
export async function rollUpHealth(ctx: Context): Promise<number> {
  const environment = environmentOf(ctx)
  const now = await databaseTime(ctx)
  const [last] = await ctx.db.query<{ rolled: Date | null; first: Date | null }>(
    `select (select max(rolled_at) from caretaker.health_days where environment = $1::text and rolled_at <= $2::timestamptz) as rolled,
       (select min(at) from caretaker.health_changes where environment = $1::text) as first`,
    [environment, now],
  )
  if (last === undefined || last.first === null) return 0
  if (last.rolled !== null && now.getTime() - last.rolled.getTime() < everyMs) return 0
  const from = startOfDay(last.rolled ?? last.first)
  const rows = await computeDays(ctx, environment, from, now)
  await prune(ctx, now)
  return rows
}

function computeDays(ctx: Context, environment: string, from: Date, now: Date): Promise<number> {
  // Days are generated without a zone: with one, the session's own would shorten and lengthen them.
  return ctx.db.execute(
    `with days as (
       select day::date as day, day at time zone 'UTC' as starts, least((day + interval '1 day') at time zone 'UTC', $3::timestamptz) as ends
       from generate_series($2::timestamptz at time zone 'UTC', $3::timestamptz at time zone 'UTC', interval '1 day') as day
     ), names as (
       select check_name from caretaker.health_states where environment = $1::text
       union
       select check_name from caretaker.health_changes where environment = $1::text and at >= $2::timestamptz and at <= $3::timestamptz
     ), marks as (
       select n.check_name, c.at, c.status from names n cross join lateral (
         (select at, status from caretaker.health_changes
          where environment = $1::text and check_name = n.check_name and at <= $2::timestamptz order by at desc limit 1)
         union all
         select at, status from caretaker.health_changes
         where environment = $1::text and check_name = n.check_name and at > $2::timestamptz and at <= $3::timestamptz
         union all
         select valid_until, 'unknown' from caretaker.health_states
         where environment = $1::text and check_name = n.check_name and valid_until < $3::timestamptz and status <> 'unknown'
       ) c
     ), spans as (
       -- What left the policy has no state: its history ends with its last change.
       select m.check_name, m.status, m.at as starts, coalesce(
         lead(m.at) over (partition by m.check_name order by m.at),
         case when s.check_name is null then m.at else $3::timestamptz end) as ends
       from marks m left join caretaker.health_states s on s.environment = $1::text and s.check_name = m.check_name
     ), seconds as (
       select s.check_name, d.day, s.status, extract(epoch from least(s.ends, d.ends) - greatest(s.starts, d.starts))::float8 as length
       from spans s join days d on s.starts < d.ends and s.ends > d.starts
     ), sums as (
       select check_name, day,
         coalesce(sum(length) filter (where status = 'up'), 0) as up,
         coalesce(sum(length) filter (where status = 'down'), 0) as down,
         coalesce(sum(length) filter (where status = 'maintenance'), 0) as maintenance,
         coalesce(sum(length) filter (where status = 'unknown'), 0) as unknown
       from seconds group by 1, 2
     ), looks as (
       select check_name, (at at time zone 'UTC')::date as day, count(*)::int as looks,
         percentile_disc(0.5) within group (order by duration_ms) filter (where status = 'up') as p50,
         percentile_disc(0.95) within group (order by duration_ms) filter (where status = 'up') as p95
       from caretaker.health_samples where environment = $1::text and at >= $2::timestamptz and at <= $3::timestamptz group by 1, 2
     )
     insert into caretaker.health_days as d
       (environment, check_name, day, up_s, down_s, maintenance_s, unknown_s, looks, p50_ms, p95_ms, rolled_at)
     select $1::text, s.check_name, s.day, s.up, s.down, s.maintenance, s.unknown, coalesce(l.looks, 0), l.p50, l.p95, $3::timestamptz
     from sums s left join looks l using (check_name, day)
     order by s.check_name, s.day
     on conflict (environment, check_name, day) do update set
       up_s = excluded.up_s, down_s = excluded.down_s, maintenance_s = excluded.maintenance_s, unknown_s = excluded.unknown_s,
       -- Looks that are no longer kept were counted before.
       looks = greatest(d.looks, excluded.looks),
       p50_ms = case when excluded.looks >= d.looks then excluded.p50_ms else d.p50_ms end,
       p95_ms = case when excluded.looks >= d.looks then excluded.p95_ms else d.p95_ms end,
       rolled_at = excluded.rolled_at`,
    [environment, from, now],
  )
}

/** Of every environment: those that are gone have nobody else to do it. */
async function prune(ctx: Context, now: Date): Promise<void> {
  await ctx.db.execute('delete from caretaker.health_samples where at < $1::timestamptz - $2::interval', [now, samplesKept])
  await ctx.db.execute(
    // The last change before that time still says how things stood at it.
    `delete from caretaker.health_changes c where c.at < $1::timestamptz - $2::interval and exists (
       select from caretaker.health_changes later
       where later.environment = c.environment and later.check_name = c.check_name
         and later.at > c.at and later.at <= $1::timestamptz - $2::interval)`,
    [now, historyKept],
  )
  for (const [table, column] of [
    ['health_days', 'day'],
    ['health_states', 'looked_at'],
    ['maintenance_windows', 'ends_at'],
  ] as const)
    await ctx.db.execute(`delete from caretaker.${table} where ${column} < $1::timestamptz - $2::interval`, [now, historyKept])
}
