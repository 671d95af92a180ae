import { setTimeout as delay } from 'node:timers/promises'
import type { Context } from '../../platform/context.ts'
import type { Queryable } from '../../platform/db.ts'
import type { Limits } from './limits.ts'

/** What others suffer or need just now. */
export interface Pressure {
  /** Somebody waits for a row of the transaction that asks. */
  rowAwaited: boolean
  /** Why batches should pause, as a sentence's end; undefined when nothing is in the way. */
  obstacle: string | undefined
}

interface Sensed extends Record<string, unknown> {
  rowAwaited: boolean
  queued: string | null
  lagBytes: number | null
  delayMs: number | null
  snapshotMs: number | null
}

/**
 * Looks at what batches may do to others: locks that are waited for, replicas that fall behind, snapshots that keep dead
 * rows. What the role may not see (`pg_monitor` shows all) does not count.
 */
export async function sensePressure(db: Queryable, relations: readonly number[], limits: Limits): Promise<Pressure> {
  const [sensed] = await db.query<Sensed>(
    `select
       exists (select from pg_locks where not granted and locktype = 'transactionid'
               and transactionid = pg_current_xact_id_if_assigned()::xid) as "rowAwaited",
       (select min(relation::regclass::text) from pg_locks where not granted and locktype = 'relation' and relation = any($1::oid[])
        and database = (select oid from pg_database where datname = current_database()) and pid <> pg_backend_pid()) as queued,
       (select max(pg_wal_lsn_diff(case when pg_is_in_recovery() then null else pg_current_wal_lsn() end,
                                   coalesce(replay_lsn, flush_lsn)))::float8
        from pg_stat_replication where state in ('streaming', 'catchup')) as "lagBytes",
       (select extract(epoch from max(replay_lag))::float8 * 1000 from pg_stat_replication where state in ('streaming', 'catchup')) as "delayMs",
       (select extract(epoch from max(clock_timestamp() - xact_start))::float8 * 1000 from pg_stat_activity
        where (backend_xmin is not null or backend_xid is not null) and datname = current_database() and pid <> pg_backend_pid()
          and backend_type in ('client backend', 'walsender')) as "snapshotMs"`,
    [relations],
  )
  if (sensed === undefined) return { rowAwaited: false, obstacle: undefined }
  return { rowAwaited: sensed.rowAwaited, obstacle: obstacleOf(sensed, limits) }
}

function obstacleOf({ queued, lagBytes, delayMs, snapshotMs }: Sensed, limits: Limits): string | undefined {
  if (queued !== null) return `another session waits for a lock on ${queued}`
  if ((lagBytes ?? 0) > limits.replicaLagBytes)
    return `a replica is ${megabytes(lagBytes ?? 0)} behind (limit ${megabytes(limits.replicaLagBytes)})`
  if ((delayMs ?? 0) > limits.replicaDelayMs)
    return `a replica is ${seconds(delayMs ?? 0)} behind (limit ${seconds(limits.replicaDelayMs)})`
  if ((snapshotMs ?? 0) > limits.snapshotAgeMs)
    return `another session's snapshot is ${seconds(snapshotMs ?? 0)} old (limit ${seconds(limits.snapshotAgeMs)}): a dump, or a transaction that was left open`
  return undefined
}

const megabytes = (bytes: number) => `${Math.round(bytes / 1024 / 1024)} MB`
const seconds = (ms: number) => `${Math.round(ms / 1_000)} s`

/** How long between two looks while waiting, milliseconds. */
const lookMs = 500

/**
 * Waits until nothing is in the way.
 * @returns 'clear', 'hand-over' when `stop` said so, or 'patience' when `leftMs` was used up; with how long it waited and for what
 */
export async function waitForRelief(
  ctx: Pick<Context, 'db' | 'clock' | 'signal'>,
  wait: { relations: readonly number[]; limits: Limits; obstacle: string; leftMs: number; stop: () => boolean },
): Promise<{ end: 'clear' | 'hand-over' | 'patience'; waitedMs: number; obstacle: string }> {
  const began = ctx.clock.monotonicMs()
  let { obstacle } = wait
  for (;;) {
    const waitedMs = ctx.clock.monotonicMs() - began
    if (wait.stop()) return { end: 'hand-over', waitedMs, obstacle }
    if (waitedMs >= wait.leftMs) return { end: 'patience', waitedMs, obstacle }
    await delay(Math.min(lookMs, wait.leftMs - waitedMs + 1), undefined, { signal: ctx.signal }).catch(() => undefined)
    const now = (await sensePressure(ctx.db, wait.relations, wait.limits)).obstacle
    if (now === undefined) return { end: 'clear', waitedMs: ctx.clock.monotonicMs() - began, obstacle }
    obstacle = now
  }
}
