import { identifier, type Session } from '../../platform/db.ts'
import { sqlState } from '../../platform/errors.ts'
import { lsn } from './position.ts'
import { slotPrefix } from './stream.ts'

/** A logical slot of this database whose name says that Caretaker made it. */
export interface Slot {
  name: string
  /** The process that reads it now; null where nobody does. */
  activePid: number | null
  /** Transactions that committed before it are not given any more. null for a slot that is not ready. */
  confirmed: bigint | null
  /** Bytes of log that the server keeps for it. */
  lagBytes: number
  /** The server has thrown away log that it would need. */
  lost: boolean
}

export async function listSlots(session: Session): Promise<Slot[]> {
  const rows = await session.query<{ name: string; pid: number | null; confirmed: string | null; lag: number; lost: boolean }>(
    `select slot_name::text as name, active_pid as pid, confirmed_flush_lsn::text as confirmed,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::float8 as lag,
       coalesce(wal_status, '') = 'lost' or to_jsonb(s) ->> 'invalidation_reason' is not null as lost
     from pg_catalog.pg_replication_slots s
     where slot_type = 'logical' and database = current_database() and starts_with(slot_name::text, $1)
     order by 1`,
    [slotPrefix],
  )
  return rows.map((row) => ({
    name: row.name,
    activePid: row.pid,
    confirmed: row.confirmed === null ? null : lsn(row.confirmed),
    lagBytes: row.lag,
    lost: row.lost,
  }))
}

/** Why this server cannot give increments whatever the role may do, or null. */
export async function serverRefusal(session: Session): Promise<string | null> {
  const [server] = await session.query<{ level: string; standby: boolean }>(
    `select current_setting('wal_level') as level, pg_is_in_recovery() as standby`,
  )
  if (server?.standby === true) return 'The database is a standby; increments are taken from the primary.'
  if (server?.level !== 'logical')
    return `wal_level is "${server?.level}". Increments need "logical" (a setting of the server, effective after its restart).`
  return null
}

const createTimeoutMs = 60_000

/**
 * Makes the slot. Returns null, or why the server refuses. It waits for the transactions that are open: what they write
 * would be in neither the backup nor the slot.
 */
export async function createSlot(session: Session, name: string): Promise<string | null> {
  try {
    await session.execute(`set statement_timeout = ${createTimeoutMs}`)
    await session.query(`select pg_catalog.pg_create_logical_replication_slot($1, 'test_decoding')`, [name])
    return null
  } catch (error) {
    const message = error instanceof Error ? error.message : 'unknown'
    switch (sqlState(error)) {
      case '42501':
        return `The database role may not make a replication slot (${message}). Grant it: alter role ${await roleName(session)} replication.`
      case '53400':
        return `The server has no replication slot left (${message}). Raise max_replication_slots or drop one that nobody uses.`
      case '58P01':
        return `The server does not have the output plugin test_decoding, a part of PostgreSQL's contrib (${message}).`
      case '57014':
        return `A transaction has been open for more than ${createTimeoutMs / 1000} s, and a slot can only be made when it has ended. Tried again at the next run.`
      case '55000':
      case '0A000':
        return `The server does not decode its log (${message}).`
      default:
        throw error
    }
  } finally {
    await session.execute('set statement_timeout = 0')
  }
}

async function roleName(session: Session): Promise<string> {
  const [row] = await session.query<{ name: string }>('select current_user::text as name')
  return identifier(row?.name ?? '')
}

/** Lets the server forget the log before `position`; everything before it is stored. */
export async function advanceSlot(session: Session, name: string, position: string): Promise<void> {
  await session.query('select pg_catalog.pg_replication_slot_advance($1, $2::pg_lsn)', [name, position])
}

/** Drops it, also from under a process of ours that still reads it. */
export async function dropSlot(session: Session, slot: Slot): Promise<void> {
  if (slot.activePid !== null) await session.query('select pg_catalog.pg_terminate_backend($1, 5000)', [slot.activePid])
  await session.query('select pg_catalog.pg_drop_replication_slot($1)', [slot.name])
}

export interface LogEnd {
  /** All of the log up to here is on disk, and can be decoded. */
  flushed: bigint
  /** What was committed by this time has its commit record before `flushed`. */
  at: Date
  atMicros: bigint
  /** A transaction id that was not given out yet. */
  nextTransactionId: string
}

/**
 * Marks the end of the log and brings it to disk. With synchronous_commit off a commit that was acknowledged may not be
 * there yet: our own commit, which waits for the disk, takes everything before it along.
 */
export async function markLogEnd(session: Session): Promise<LogEnd> {
  const [before] = await session.query<{ at: Date; micros: string }>(
    `select at, (extract(epoch from at) * 1000000)::int8::text as micros from (select clock_timestamp() as at) now`,
  )
  await session.execute('begin')
  await session.execute('set local synchronous_commit = local')
  await session.query(`select pg_catalog.pg_logical_emit_message(true, 'caretaker', 'increment')`)
  await session.execute('commit')
  const [after] = await session.query<{ flushed: string; next: string }>(
    `select pg_catalog.pg_current_wal_flush_lsn()::text as flushed, pg_snapshot_xmax(pg_current_snapshot())::text as next`,
  )
  return {
    flushed: lsn(after?.flushed ?? '0/0'),
    at: before?.at ?? new Date(0),
    atMicros: BigInt(before?.micros ?? '0'),
    nextTransactionId: after?.next ?? '0',
  }
}
