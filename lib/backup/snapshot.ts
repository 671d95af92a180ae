import { identifier, qualified, type Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { listTables, listTablesWithoutRows, type SourceTable } from './catalogue.ts'
import { dumpFailure } from './dump-failure.ts'
import { literal } from './sequences.ts'
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

type TableName = Pick<SourceTable, 'schema' | 'name'>

const usualLockTimeoutMs = 30_000

/**
 * One snapshot for all sessions. The first session locks every table and exports; the others import. Locking comes
 * first: a table truncated or rewritten between snapshot and lock would be read as empty, because neither is MVCC.
 * @throws {CaretakerError} `backup_incomplete` when the tables cannot be locked
 */
export async function takeSnapshot(
  keeper: Session,
  workers: readonly Session[],
  policy: { excludeSchemas: readonly string[] },
  lockTimeoutMs = usualLockTimeoutMs,
): Promise<Snapshot> {
  const version = await serverVersion(keeper)
  await pinSession(keeper, version.number, { lockTimeoutMs })
  await keeper.execute('begin isolation level read committed read only')
  const scope = await sourceScope(keeper, policy)
  let locked = new Set<number>()
  for (let attempt = 0; attempt < 5; attempt++) {
    // Parents come before their partitions, as in every statement that wants both.
    const around = await listTablesWithoutRows(keeper, scope)
    await lockTables(keeper, around)
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
    for (const worker of workers) await joinSnapshot(worker, exported.id, version.number, [...around, ...tables], lockTimeoutMs)
    return { id: exported.id, visible: exported.visible, lsn: exported.lsn, takenAt: exported.at, tables, version, scope }
  }
  throw new CaretakerError('backup_incomplete', 'Tables are being made faster than they can be locked. Try again when migrations are done.')
}

/** Opens a transaction on `worker` that sees what the snapshot `id` sees, and locks its tables. */
export async function joinSnapshot(
  worker: Session,
  id: string,
  version: number,
  tables: readonly TableName[],
  lockTimeoutMs = usualLockTimeoutMs,
): Promise<void> {
  await pinSession(worker, version, { lockTimeoutMs })
  await worker.execute('begin isolation level repeatable read read only')
  await worker.execute(`set transaction snapshot ${literal(id)}`)
  // Its own locks, while nobody can stand in the queue before it: a waiting ALTER TABLE would block a later COPY, and
  // itself wait for the keeper, which waits for that COPY.
  await lockTables(worker, tables)
}

async function lockTables(session: Session, tables: readonly TableName[]): Promise<void> {
  for (let at = 0; at < tables.length; at += 500) {
    const names = tables.slice(at, at + 500).map((table) => qualified(table.schema, table.name))
    try {
      await session.execute(`lock table only ${names.join(', only ')} in access share mode`)
    } catch (error) {
      if (sqlState(error) === '42501') throw await refused(session, error, tables)
      throw await heldUp(session, error)
    }
  }
}

/** Which tables the role may not read, and the grants that would let it. */
async function refused(session: Session, error: unknown, tables: readonly TableName[]): Promise<CaretakerError> {
  await session.execute('rollback')
  const closed = await session.query<{ role: string; schema: string; name: string; usage: boolean }>(
    `select current_user::text as role, n.nspname as schema, c.relname as name, has_schema_privilege(n.oid, 'usage') as usage
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where (n.nspname, c.relname) in (select * from unnest($1::text[], $2::text[])) and not (has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')) order by 2, 3`,
    [tables.map((table) => table.schema), tables.map((table) => table.name)],
  )
  const [first] = closed
  const role = identifier(first?.role ?? 'ROLE')
  const schemas = [...new Set(closed.map((table) => table.schema))]
  const grants = schemas.flatMap((schema) => [
    ...(closed.some((table) => table.schema === schema && !table.usage) ? [`grant usage on schema ${identifier(schema)} to ${role}`] : []),
    `grant select on all tables in schema ${identifier(schema)} to ${role}`,
    `grant select on all sequences in schema ${identifier(schema)} to ${role}`,
  ])
  const some = closed.slice(0, 3).map((table) => `${table.schema}.${table.name}`)
  const more = closed.length > some.length ? ` and ${closed.length - some.length} more` : ''
  return new CaretakerError(
    'backup_incomplete',
    `The role ${role} may not read ${some.length === 0 ? 'a table' : `${some.join(', ')}${more}`}. As their owner: ${grants.slice(0, 9).join('; ')}. Or leave schemas out with backup.excludeSchemas.`,
    { cause: error },
  )
}

/** The tables and their sizes. Reading a size waits for whoever has the table locked. */
async function listUnlocked(session: Session, scope: Scope): Promise<SourceTable[]> {
  try {
    return await listTables(session, scope)
  } catch (error) {
    throw await heldUp(session, error)
  }
}

/**
 * PostgreSQL does not say for which table it waited in vain, but who holds one, or stands in the queue for it, can be
 * seen. Names of programs are shown to roles that may see them.
 */
async function heldUp(session: Session, error: unknown): Promise<unknown> {
  const state = sqlState(error)
  if (state !== '55P03') return state === undefined ? error : dumpFailure(error, 'Locking the tables')
  await session.execute('rollback')
  const [timeout] = await session.query<{ seconds: number }>(
    `select extract(epoch from current_setting('lock_timeout')::interval)::float8 as seconds`,
  )
  const held = await session.query<{
    name: string
    pid: number
    granted: boolean
    behind: number[]
    program: string | null
    minutes: number | null
  }>(
    `select n.nspname || '.' || c.relname as name, l.pid, l.granted, pg_blocking_pids(l.pid) as behind,
       nullif(a.application_name, '') as program, (extract(epoch from clock_timestamp() - a.xact_start) / 60)::int as minutes
     from pg_catalog.pg_locks l
     join pg_catalog.pg_class c on c.oid = l.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     left join pg_catalog.pg_stat_activity a on a.pid = l.pid
     where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.pid <> pg_backend_pid() and c.relkind in ('r', 'p', 'm')
       and l.database = (select oid from pg_catalog.pg_database where datname = current_database()) order by l.granted desc, 1 limit 3`,
  )
  const which = held.map(({ name, pid, granted, behind, program, minutes }) => {
    const who = `process ${pid}${program === null ? '' : `, ${program}`}${minutes === null ? '' : `, for ${minutes} min`}`
    return `${name} (${granted ? `by ${who}` : `${who}, which waits for process ${behind.join(', ')} itself`})`
  })
  return new CaretakerError(
    'backup_incomplete',
    `A table stayed locked for ${timeout?.seconds} s by another session${which.length === 0 ? '' : `: ${which.join('; ')}`}. Try again when its work is done, or end it: select pg_terminate_backend(${held[0]?.pid ?? 'PID'}).`,
    { cause: error },
  )
}
