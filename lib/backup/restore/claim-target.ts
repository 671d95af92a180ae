import { setTimeout as delay } from 'node:timers/promises'
import type { Session } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'

/** Advisory locks of the target: the first of one restore's main session, the second shared by the others. */
const lock = { main: 1, others: 2 }
const family = 0x0d_21_12

/** How often the sessions of a killed restore are looked for, ten times a second: over a network that was cut the server notices late. */
const attempts = { fresh: 30, resumed: 900 }

/**
 * Makes sure that nobody else restores into this database, not even a session that a killed restore has left behind. Holds until
 * the sessions end.
 * @throws {CaretakerError} `conflict` naming the server's process
 */
export async function claimTarget(
  sessions: readonly Session[],
  options: { resumed: boolean; signal: AbortSignal; onWait: (pid: number) => void },
): Promise<void> {
  const [main, ...others] = sessions
  if (main === undefined) return
  let left = attempts[options.resumed ? 'resumed' : 'fresh']
  for (const id of [lock.main, lock.others]) {
    for (;;) {
      const [got] = await main.query<{ locked: boolean }>('select pg_try_advisory_lock($1::int, $2::int) as locked', [family, id])
      if (got?.locked === true) break
      const pid = await holder(main, id)
      if (left-- <= 0)
        throw new CaretakerError(
          'conflict',
          `Another restore into this database is under way (process ${pid ?? '?'} of the server). If it is not, end that process: select pg_terminate_backend(${pid ?? 'PID'}).`,
        )
      if (pid !== null) options.onWait(pid)
      await delay(100, undefined, { signal: options.signal })
    }
  }
  await main.query('select pg_advisory_unlock($1::int, $2::int)', [family, lock.others])
  for (const session of others) await session.query('select pg_advisory_lock_shared($1::int, $2::int)', [family, lock.others])
}

async function holder(session: Session, id: number): Promise<number | null> {
  const [row] = await session.query<{ pid: number }>(
    `select pid from pg_catalog.pg_locks where locktype = 'advisory' and granted and classid = $1::int::oid and objid = $2::int::oid
       and database = (select oid from pg_catalog.pg_database where datname = current_database()) limit 1`,
    [family, id],
  )
  return row?.pid ?? null
}

/**
 * Settings of the target's sessions. The server is to notice within seconds that its client is gone, in the middle of an index too; and
 * what is lost when it crashes is repeated, so that nobody waits for its disk before the end. The entries of
 * an index that fit into memory are sorted there, without files: `shared_buffers` is about a quarter of what a server has, so that much again is there for all sessions together.
 */
export async function tuneTarget(session: Session, sessions: number): Promise<void> {
  await session.query(
    `select set_config('synchronous_commit', 'off', false),
       set_config('maintenance_work_mem', greatest(m.bytes, least(1073741824, b.bytes / $1::int)) / 1024 || 'kB', false),
       set_config('tcp_keepalives_idle', '20', false), set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '4', false)
     from (select pg_size_bytes(current_setting('maintenance_work_mem')) as bytes) m, (select pg_size_bytes(current_setting('shared_buffers')) as bytes) b`,
    [sessions],
  )
  // Views are read here: materialised ones are filled from them. It is the dump that must not.
  await session.query(`select set_config(name, '', false) from pg_catalog.pg_settings where name = 'restrict_nonsystem_relation_kind'`)
  // Not on every system that PostgreSQL runs on.
  await session.query(`select set_config('client_connection_check_interval', '1s', false)`).catch(() => undefined)
}
