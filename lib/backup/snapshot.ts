import { qualified, type Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { listTables, type SourceTable } from './catalogue.ts'
import { pinSession, serverVersion } from './sessions.ts'
import { type Scope, sourceScope } from './supabase.ts'

export interface Snapshot {
  /** What SET TRANSACTION SNAPSHOT takes, as long as the keeper's transaction is open. */
  id: string
  /** `pg_current_snapshot()`: which transactions the backup holds. */
  visible: string
  /** Where the log stood. */
  lsn: string
  takenAt: Date
  tables: SourceTable[]
  scope: Scope
  version: { number: number; text: string }
}

const lockTimeoutMs = 30_000

/**
 * One snapshot for all sessions. The first session locks every table and exports; the others import. Locking comes
 * first: a table truncated or rewritten between snapshot and lock would be read as empty, because neither is MVCC.
 * @throws {CaretakerError} `backup_incomplete` when the tables cannot be locked
 */
export async function takeSnapshot(
  keeper: Session,
  workers: readonly Session[],
  policy: { excludeSchemas: readonly string[] },
): Promise<Snapshot> {
  const version = await serverVersion(keeper)
  await pinSession(keeper, version.number, { lockTimeoutMs })
  await keeper.execute('begin isolation level read committed read only')
  const scope = await sourceScope(keeper, policy)
  let locked = new Set<number>()
  for (let attempt = 0; attempt < 5; attempt++) {
    const found = await listUnlocked(keeper, scope)
    await lockTables(
      keeper,
      found.filter((table) => !locked.has(table.oid)),
    )
    locked = new Set([...locked, ...found.map((table) => table.oid)])
    const [exported] = await keeper.query<{ id: string; visible: string; lsn: string; at: Date }>(
      `select pg_export_snapshot() as id, pg_current_snapshot()::text as visible, clock_timestamp() as at,
         case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end::text as lsn`,
    )
    if (exported === undefined) throw new CaretakerError('backup_incomplete', 'The database exported no snapshot.')
    const tables = await listUnlocked(keeper, scope)
    // A table made between the list and the snapshot is not locked yet: list, lock and export again.
    if (!tables.every((table) => locked.has(table.oid))) continue
    for (const worker of workers) await joinSnapshot(worker, exported.id, version.number, tables)
    return { id: exported.id, visible: exported.visible, lsn: exported.lsn, takenAt: exported.at, tables, version, scope }
  }
  throw new CaretakerError('backup_incomplete', 'Tables are being made faster than they can be locked. Try again when migrations are done.')
}

/** Opens a transaction on `worker` that sees what the snapshot `id` sees, and locks its tables. */
export async function joinSnapshot(worker: Session, id: string, version: number, tables: readonly SourceTable[]): Promise<void> {
  await pinSession(worker, version, { lockTimeoutMs })
  await worker.execute('begin isolation level repeatable read read only')
  await worker.execute(`set transaction snapshot '${id.replaceAll("'", "''")}'`)
  // Its own locks, while nobody can stand in the queue before it: a waiting ALTER TABLE would block a later COPY, and
  // itself wait for the keeper, which waits for that COPY.
  await lockTables(worker, tables)
}

async function lockTables(session: Session, tables: readonly SourceTable[]): Promise<void> {
  for (let at = 0; at < tables.length; at += 500) {
    const names = tables.slice(at, at + 500).map((table) => qualified(table.schema, table.name))
    try {
      await session.execute(`lock table only ${names.join(', only ')} in access share mode`)
    } catch (error) {
      const message = error instanceof Error ? error.message : ''
      if (sqlState(error) === '42501')
        throw new CaretakerError(
          'backup_incomplete',
          `The database role may not read everything: ${message}. Grant it select, or leave the schema out with backup.excludeSchemas.`,
          { cause: error },
        )
      throw await heldUp(session, error)
    }
  }
}

/** The tables and their sizes. Reading a size waits for whoever has the table locked. */
async function listUnlocked(session: Session, scope: Scope): Promise<SourceTable[]> {
  try {
    return await listTables(session, scope)
  } catch (error) {
    throw await heldUp(session, error)
  }
}

/** PostgreSQL does not say for which table it waited in vain, but who holds one can be seen. */
async function heldUp(session: Session, error: unknown): Promise<unknown> {
  if (sqlState(error) !== '55P03') return error
  await session.execute('rollback')
  const held = await session.query<{ name: string; pid: number }>(
    `select n.nspname || '.' || c.relname as name, l.pid from pg_catalog.pg_locks l
     join pg_catalog.pg_class c on c.oid = l.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.granted and l.pid <> pg_backend_pid() and c.relkind in ('r', 'p', 'm')
       and l.database = (select oid from pg_catalog.pg_database where datname = current_database()) order by 1 limit 3`,
  )
  const which = held.map((lock) => `${lock.name} (by process ${lock.pid})`).join(', ')
  return new CaretakerError(
    'backup_incomplete',
    `A table stayed locked for ${lockTimeoutMs / 1000} s by another session${which === '' ? '' : `: ${which}`}. Try again when its work is done.`,
    { cause: error },
  )
}
