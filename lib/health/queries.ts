import type { Queryable, Row } from '../platform/db.ts'

export interface Snapshot<T> extends Row {
  scope: string
  /** Null where nothing was ever stored. */
  result: T | null
  ageMs: number | null
  /** The lease is ours until then, as text with its microseconds; null where it is another's, or none is needed. */
  lease: string | null
}

/**
 * Reads snapshots and, in the same statement, takes the lease on those that are too old and nobody is renewing. Fresh
 * ones are only read: no lock, no write. All times are the database's, so that instances need not agree on theirs.
 */
export function claimSnapshots<T>(
  probe: <R extends Row>(sql: string, params: readonly unknown[]) => Promise<R[]>,
  wanted: { scopes: readonly string[]; maxAgeMs: number; leaseMs: number },
): Promise<Snapshot<T>[]> {
  return probe<Snapshot<T>>(
    `with wanted as (select distinct scope from unnest($1::text[]) as scope),
     seen as (
       select w.scope, s.report, s.taken_at, s.lease_until,
         extract(epoch from clock_timestamp() - s.taken_at) * 1000 as age_ms
       from wanted w left join caretaker.health_snapshots s using (scope)
     ),
     claimed as (
       -- In one order, so that two instances cannot each wait for the other's row; the second finds the lease taken.
       insert into caretaker.health_snapshots as s (scope, report, taken_at, lease_until)
       select scope, 'null', 'epoch', clock_timestamp() + $3::int * interval '1 millisecond' from seen
       where (age_ms is null or age_ms < 0 or age_ms >= $2::int) and (lease_until is null or lease_until <= clock_timestamp())
       order by scope
       on conflict (scope) do update set lease_until = excluded.lease_until
       where (s.lease_until is null or s.lease_until <= clock_timestamp()) and (s.taken_at <= clock_timestamp() - $2::int * interval '1 millisecond' or s.taken_at > clock_timestamp())
       returning scope, lease_until
     )
     select seen.scope, nullif(seen.report, 'null') as result,
       case when nullif(seen.report, 'null') is null or age_ms < 0 then null else age_ms::float8 end as "ageMs", claimed.lease_until::text as lease
     from seen left join claimed using (scope)`,
    [wanted.scopes, wanted.maxAgeMs, wanted.leaseMs],
  )
}

/** Stores results. One with a lease is dropped where the lease has passed to another, whose result is newer. */
export async function storeSnapshots(
  db: Pick<Queryable, 'execute'>,
  rows: readonly { scope: string; result: unknown; lease: string | null }[],
): Promise<void> {
  await db.execute(
    `insert into caretaker.health_snapshots as s (scope, report, taken_at, lease_until)
     select r.scope, r.result, clock_timestamp(), r.lease::timestamptz
     from jsonb_to_recordset($1::jsonb) as r(scope text, result jsonb, lease text)
     order by r.scope
     on conflict (scope) do update set report = excluded.report, taken_at = excluded.taken_at, lease_until = null
     where excluded.lease_until is null or s.lease_until = excluded.lease_until`,
    [JSON.stringify(rows)],
  )
}

/** Forgets checks that left the policy, and environments that are gone. */
export function deleteOldSnapshots(db: Pick<Queryable, 'execute'>): Promise<number> {
  return db.execute(
    `delete from caretaker.health_snapshots where taken_at < now() - interval '7 days' and (lease_until is null or lease_until < now())`,
  )
}
