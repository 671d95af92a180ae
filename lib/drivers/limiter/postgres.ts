import type { Database } from '../../platform/db.ts'
import type { RateLimiter } from '../../platform/limiter.ts'

export interface PostgresLimiterOptions {
  /** The time; the database's where it is absent, so that all hosts agree. */
  now?: () => Date
  /** How often a hit that opened a new window also sweeps expired ones, 0 to 1. */
  sweepChance?: number
}

/**
 * A sliding window over two fixed ones, as Upstash counts it: the hits of the current window, plus those of the one
 * before weighted by how much of it still lies in the last `windowSeconds`. Refused hits do not count.
 *
 * The weight takes the earlier hits for evenly spread. Where they were not, a span of `windowSeconds` may hold more than
 * `limit` hits, but never more than twice as many: it touches two fixed windows, and each holds at most `limit`.
 * Concurrent hits never add to that: the row's lock puts them in a line.
 *
 * One statement a hit; every hundredth new window also sweeps up to a thousand expired ones.
 */
export function postgresLimiter(db: Database, options: PostgresLimiterOptions = {}): RateLimiter {
  const sweepChance = options.sweepChance ?? 0.01
  return {
    async hit(key, limit, windowSeconds) {
      const [row] = await db.query<HitRow>(hitSql, [`${windowSeconds}:${key}`, limit, windowSeconds, options.now?.() ?? null])
      if (row === undefined) throw new Error('a statement without a from clause returned no row')
      if (row.hits === 1 && Math.random() < sweepChance) await db.execute(sweepSql, [options.now?.() ?? null])
      if (row.hits !== null)
        return {
          allowed: true,
          limit,
          remaining: Math.max(0, limit - row.hits - row.weighted),
          resetSeconds: secondsUntil(windowSeconds - row.elapsed),
        }
      // What refused the hit may be newer than the statement's snapshot: then at least as many hits as it takes.
      const current = Math.max(row.seen, limit - row.weighted)
      return { allowed: false, limit, remaining: 0, resetSeconds: secondsUntil(waitSeconds({ ...row, current, limit, windowSeconds })) }
    },
  }
}

interface HitRow extends Record<string, unknown> {
  /** Hits of the current window with this one, or null where it was refused. */
  hits: number | null
  seen: number
  previous: number
  weighted: number
  /** Seconds since the current window began. */
  elapsed: number
}

/** Seconds from now until the weighted count is below the limit again, if nobody hits meanwhile. */
function waitSeconds(at: { current: number; previous: number; limit: number; windowSeconds: number; elapsed: number }): number {
  const { current, previous, limit, windowSeconds, elapsed } = at
  if (current < limit) return windowSeconds * (1 - (limit - current) / previous) - elapsed
  return windowSeconds - elapsed + windowSeconds * (1 - limit / current)
}

/** At the exact instant the count still equals the limit: the next whole second after it. */
function secondsUntil(seconds: number): number {
  return Math.max(1, Math.floor(seconds) + 1)
}

// Two hits at once on a new window: the second waits for the first's row, and then updates it under the condition.
const hitSql = `
  with clock as (
    select coalesce($4::timestamptz, clock_timestamp()) as now
  ), span as (
    select now, date_bin(make_interval(secs => $3::int), now, 'epoch') as start from clock
  ), before as (
    select coalesce((
      select r.hits from caretaker.rate_limits r, span
      where r.key = $1::text and r.window_start = span.start - make_interval(secs => $3::int)
    ), 0) as hits
  ), weighed as (
    select span.start, before.hits as previous, extract(epoch from span.now - span.start)::float8 as elapsed,
      floor(before.hits * (1 - extract(epoch from span.now - span.start)::float8 / $3::int))::int as weighted
    from span, before
  ), hit as (
    insert into caretaker.rate_limits as r (key, window_start, hits, expires_at)
    select $1::text, start, 1, start + 2 * make_interval(secs => $3::int) from weighed where weighted < $2::int
    on conflict (key, window_start) do update set hits = r.hits + 1
      where r.hits + (select weighted from weighed) < $2::int
    returning r.hits
  )
  select (select hits from hit) as hits, previous, weighted, elapsed,
    coalesce((select r.hits from caretaker.rate_limits r where r.key = $1::text and r.window_start = weighed.start), 0) as seen
  from weighed`

// Two sweeps at once take different rows.
const sweepSql = `
  delete from caretaker.rate_limits where (key, window_start) in (
    select key, window_start from caretaker.rate_limits
    where expires_at < coalesce($1::timestamptz, clock_timestamp())
    order by expires_at limit 1000 for update skip locked
  )`
