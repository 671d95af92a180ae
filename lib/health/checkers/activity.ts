import { type Checker, healthy, unhealthy } from '../checker.ts'

const longMinutes = 15

/**
 * What goes on in the database: no transaction is open for a quarter of an hour (vacuum cleans nothing behind it), nobody
 * waits for a lock for a minute, connections are left. Measures size and replication too, as far as the role may see.
 */
export const activity: Checker = async (ctx, _check, signal) => {
  const [row] = await ctx.db.probe<{
    long: number
    oldest: number
    waiting: number
    used: number
    max: number
    size: string
    lag: number | null
  }>(
    `select
       (count(*) filter (where state <> 'idle' and backend_type = 'client backend' and xact_start < now() - make_interval(mins => $1::int)))::int as long,
       coalesce(extract(epoch from now() - min(xact_start) filter (where backend_type = 'client backend' and pid <> pg_backend_pid())), 0)::int as oldest,
       (count(*) filter (where wait_event_type = 'Lock' and state_change < now() - interval '1 minute'))::int as waiting,
       (count(*) filter (where backend_type = 'client backend'))::int as used,
       current_setting('max_connections')::int as max,
       pg_size_pretty(pg_database_size(current_database())) as size,
       (select extract(epoch from max(replay_lag))::int from pg_stat_replication) as lag
     from pg_stat_activity`,
    [longMinutes],
    signal,
  )
  if (row === undefined) return unhealthy('bad_answer')
  const measures = {
    longTransactions: row.long,
    oldestTransactionSeconds: row.oldest,
    waitingForLocks: row.waiting,
    connections: row.used,
    maxConnections: row.max,
    size: row.size,
    ...(row.lag === null ? {} : { replicationLagSeconds: row.lag }),
  }
  if (row.used >= row.max * 0.9) return unhealthy('connections_exhausted', measures)
  if (row.waiting > 0) return unhealthy('lock_waits', measures)
  return row.long > 0 ? unhealthy('long_transaction', measures) : healthy(measures)
}
