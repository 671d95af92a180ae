import { qualified, type Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { copyObjectIn } from './copy-in.ts'
import { copyOutBlocks } from './copy-out.ts'
import { holdsCronJobs, replayCronJobs } from './cron-jobs.ts'
import { tableFraming } from './framing.ts'
import type { Manifest, ManifestObject, ManifestTable } from './manifest.ts'
import { Digest } from './meter.ts'
import type { Opening } from './object-stream.ts'
import { copyIn, copyOut } from './part-sql.ts'
import type { OnProgress } from './progress.ts'
import { shareOut } from './sessions.ts'
import { foreignKeyOrder } from './target.ts'

export interface RestoredTable {
  table: string
  rows: number
  /** The rows were read back and hash to what was dumped. */
  verified: boolean
  /** Why the rows are not there: an extension's own table that this role may not write. Absent otherwise. */
  problem?: string
}

/** What a restore reads from and writes to. */
export interface Loading {
  manifest: Manifest
  opening: Opening
  main: Session
  sessions: readonly Session[]
  onProgress: OnProgress | undefined
  /** Jobs of pg_cron are made, and made inactive. */
  stillJobs?: boolean | undefined
}

/** Loads every table, on all sessions at once, and compares each with what was dumped. */
export async function loadTables(loading: Loading): Promise<RestoredTable[]> {
  const { manifest, sessions, main, onProgress } = loading
  const totalBytes = manifest.tables.reduce((sum, table) => sum + table.bytes, 0)
  let doneBytes = 0
  const restored = new Map<ManifestTable, RestoredTable>()
  const load = async (session: Session, table: ManifestTable) => {
    const what = nameOf(table)
    await loadTable(loading, session, table, (bytes) => {
      doneBytes += bytes
      onProgress?.({ phase: 'load', what, doneBytes, totalBytes })
    })
    await compareTable(loading, session, table)
    restored.set(table, { table: what, rows: table.rows, verified: true })
  }
  // Largest first, so that no connection is left with one big table at the end.
  await shareOut(
    sessions,
    manifest.tables.filter((table) => !table.shared).sort((a, b) => b.bytes - a.bytes),
    load,
  )
  // Tables of the platform have their foreign keys already.
  const shared = new Map(manifest.tables.filter((table) => table.shared).map((table) => [nameOf(table), table]))
  for (const name of await foreignKeyOrder(main, [...shared.keys()])) {
    const table = shared.get(name)
    if (table === undefined) continue
    if (holdsCronJobs(table)) {
      restored.set(table, await replayCronJobs(loading, main, table))
      continue
    }
    try {
      await load(main, table)
    } catch (error) {
      if (table.condition === null || !(error instanceof CaretakerError) || sqlState(error.cause) !== '42501') throw error
      await main.execute('rollback')
      restored.set(table, { table: name, rows: 0, verified: false, problem: `${table.rows} rows were not restored: ${error.detail}` })
    }
  }
  return manifest.tables.flatMap((table) => restored.get(table) ?? [])
}

function nameOf(table: ManifestTable): string {
  return `${table.schema}.${table.name}`
}

/**
 * All parts of one table in one transaction that truncates it first: PostgreSQL then writes row after row into new pages
 * (which keeps the order, and so the hash, of what was dumped) and freezes them at once. The hash is of what is read back.
 */
async function loadTable(loading: Loading, session: Session, table: ManifestTable, onBytes: (bytes: number) => void): Promise<void> {
  const framing = tableFraming(table)
  await session.execute('begin')
  if (table.shared && table.rows > 0) await stillTriggers(session)
  if (!table.shared) await session.execute(`truncate only ${qualified(table.schema, table.name)}`)
  let rows = 0
  let bytes = 0
  const count = (piece: Buffer) => {
    bytes += piece.length
    onBytes(piece.length)
  }
  for (const part of table.parts) {
    const object = partObject(loading.manifest, part.key)
    const sql = copyIn(table, { freeze: !table.shared })
    let loaded: number
    try {
      loaded = await copyObjectIn(loading.opening, object, session, sql, framing, count)
    } catch (error) {
      throw restoreFailure(table, bytes, error)
    }
    if (loaded !== part.rows)
      throw new CaretakerError(
        'restore_mismatch',
        `${nameOf(table)}: ${loaded} rows were loaded from ${object.key}; the backup holds ${part.rows}.`,
      )
    rows += loaded
  }
  if (rows !== table.rows)
    throw new CaretakerError('restore_mismatch', `${nameOf(table)}: ${rows} rows were loaded; the backup holds ${table.rows}.`)
  await session.execute('commit')
}

/** The object of the manifest with that key. */
export function partObject(manifest: Manifest, key: string): ManifestObject {
  const object = manifest.objects.find((candidate) => candidate.key === key)
  if (object === undefined) throw new CaretakerError('backup_corrupt', `${key} is not among the objects of the manifest.`)
  return object
}

function restoreFailure(table: ManifestTable, bytes: number, error: unknown): unknown {
  if (error instanceof CaretakerError) return error
  return new CaretakerError(
    'database_error',
    `Table ${nameOf(table)} could not be loaded; it failed after ${bytes} of ${table.bytes} bytes: ${error instanceof Error ? error.message : 'unknown'}. The target is not whole: when the cause is gone, restore again with --clean and the target's name.`,
    { cause: error },
  )
}

/** Reads the rows back, cuts them where the parts were cut, and compares hashes. */
async function compareTable(loading: Loading, session: Session, table: ManifestTable): Promise<void> {
  const parts = table.parts.map((part) => partObject(loading.manifest, part.key))
  const found = await hashCuts(
    session,
    copyOut(table, null),
    parts.map((part) => part.contentBytes),
  )
  const same = parts.every((part, index) => found[index] === part.contentSha256) && found.length === parts.length
  if (!same) throw new CaretakerError('restore_mismatch', `${nameOf(table)}: what was restored does not equal what was backed up.`)
}

/** SHA-256 of each of the stretches of `lengths` bytes; one more entry where bytes are left over. */
export async function hashCuts(session: Session, sql: string, lengths: readonly number[]): Promise<string[]> {
  const hashes: string[] = []
  let digest = new Digest()
  const close = () => {
    hashes.push(digest.measured().sha256)
    digest = new Digest()
  }
  for await (const block of copyOutBlocks(session.client, sql)) {
    let rest = block
    for (
      let room = (lengths[hashes.length] ?? Number.POSITIVE_INFINITY) - digest.bytes;
      rest.length >= room;
      room = lengths[hashes.length] ?? Number.POSITIVE_INFINITY
    ) {
      digest.update(rest.subarray(0, room))
      rest = rest.subarray(room)
      close()
    }
    digest.update(rest)
  }
  // What is missing at the end, an empty part, or what is left over.
  while (hashes.length < lengths.length || digest.bytes > 0) close()
  return hashes
}

/** Triggers of the platform would add rows that are in the backup already. Supabase lets its `postgres` role turn them off. */
async function stillTriggers(session: Session): Promise<void> {
  await session.execute('savepoint still')
  try {
    await session.execute(`set local session_replication_role = 'replica'`)
  } catch (error) {
    if (sqlState(error) !== '42501') throw error
    await session.execute('rollback to savepoint still')
  }
}
