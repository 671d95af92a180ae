import type { Queryable } from '../../lib/platform/db.ts'

/**
 * A year of days, and how things stand, for every check and the whole: mostly up, with outages, maintenance and unwatched
 * time here and there, the same every time. `until` is the last day.
 */
export async function insertSyntheticYear(db: Queryable, environment: string, checks: readonly string[], until: Date): Promise<void> {
  await db.execute(
    `insert into caretaker.health_days (environment, check_name, day, up_s, down_s, maintenance_s, unknown_s, looks, p50_ms, p95_ms, rolled_at)
     select $1::text, c.name, d.day, 86400 - f.down - f.maintenance - f.unknown, f.down, f.maintenance, f.unknown, 1440, 20 + h % 180, 60 + h % 900, $3::timestamptz
     from unnest($2::text[]) with ordinality c(name, n)
     cross join lateral (select ($3::timestamptz at time zone 'UTC')::date - ago as day, ago from generate_series(0, 364) ago) d
     cross join lateral (select abs(hashtextextended(c.name || d.day, 0)) as h) g
     cross join lateral (select
       case when h % 31 = 0 then 60 + h % 900 when h % 97 = 0 then 4000 + h % 30000 else 0 end as down,
       case when extract(isodow from d.day) = 7 then 1800 else 0 end as maintenance,
       case when h % 53 = 0 then 600 + h % 40000 else 0 end as unknown) f`,
    [environment, checks, until],
  )
  await db.execute(
    `insert into caretaker.health_states (environment, check_name, status, cause, since, looked_at, valid_until, duration_ms)
     select $1::text, name, case when n = 3 then 'down' else 'up' end, case when n = 3 then 'timeout' end,
       $3::timestamptz - n * interval '1 hour', $3::timestamptz, $3::timestamptz + interval '3 minutes', 20 + n
     from unnest($2::text[]) with ordinality c(name, n)`,
    [environment, checks, until],
  )
}

/** A look every minute for the two days before `until`. */
export async function insertSyntheticLooks(db: Queryable, environment: string, checks: readonly string[], until: Date): Promise<void> {
  await db.execute(
    `insert into caretaker.health_samples (environment, check_name, at, status, duration_ms)
     select $1::text, name, $3::timestamptz - n * interval '1 minute', 'up', 20 + abs(hashtextextended(name || n, 0)) % 180
     from unnest($2::text[]) as name, generate_series(1, 2880) as n`,
    [environment, checks, until],
  )
  await db.execute(
    `insert into caretaker.health_changes (environment, check_name, at, status)
     select $1::text, name, $3::timestamptz - interval '365 days', 'up' from unnest($2::text[]) as name`,
    [environment, checks, until],
  )
}
