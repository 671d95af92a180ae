import { qualified, type Session } from '../platform/db.ts'
import { CaretakerError, type ErrorCode, sqlState } from '../platform/errors.ts'
import { describeError } from '../platform/log.ts'
import { copyObjectIn } from './copy-in.ts'
import { copyOutBlocks } from './copy-out.ts'
import { tableFraming } from './framing.ts'
import type { Manifest, ManifestObject, ManifestTable } from './manifest.ts'
import { Digest } from './meter.ts'
import type { Opening } from './object-stream.ts'
import { copyIn, copyOut } from './part-sql.ts'
import type { OnProgress } from './progress.ts'
import { adviceOnRows } from './restore/advice.ts'
import {
  type Beginning,
  BeginningDigest,
  beginningBytes,
  copyBeginning,
  filledPages,
  inOrder,
  type StoredAsSent,
  storesAsSent,
} from './restore/proof.ts'
import { isLost } from './run-script.ts'
import { nameOf } from './table-name.ts'

export interface RestoredTable {
  table: string
  rows: number
  /** The rows are those that were dumped: see `restore/proof.ts`. */
  verified: boolean
  /** Only so much of them had to be read back; absent where it was all. */
  readBack?: 'beginning'
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

export interface LoadOptions {
  /** Statements of the same transaction: before the rows, and after them. */
  before: readonly string[]
  after: readonly string[]
  /** How the rows are proven: read back in the same transaction, later, or later and only as far as it is necessary. */
  proof: 'now' | 'later' | 'as necessary'
  /** Gives the statement that notes, in the same transaction, that the beginning is all that has to be read back. */
  onStoredAsSent: (stored: StoredAsSent) => string
  onBytes: (bytes: number) => void
}

/**
 * All parts of one table in one transaction that truncates it first: PostgreSQL then writes row after row into new pages
 * (which keeps the order, and so the hash, of what was dumped) and freezes them at once.
 * @throws {CaretakerError} naming the table and the bytes done
 */
export async function loadRows(loading: Loading, session: Session, table: ManifestTable, options: LoadOptions): Promise<void> {
  const framing = tableFraming(table)
  let rows = 0
  let bytes = 0
  try {
    await session.execute('begin')
    if (table.shared && table.rows > 0) await stillTriggers(session)
    for (const sql of options.before) await session.execute(sql)
    if (!table.shared) await session.execute(`truncate only ${qualified(table.schema, table.name)}`)
    const large = options.proof === 'as necessary' && !table.shared && table.bytes > beginningBytes
    const beginning = large && (await storesAsSent(session, table)) ? new BeginningDigest() : null
    for (const part of table.parts) {
      const object = partObject(loading.manifest, part.key)
      const sent = beginning === null ? null : new Digest()
      const loaded = await copyObjectIn(loading.opening, object, session, copyIn(table, { freeze: !table.shared }), framing, (piece) => {
        bytes += piece.length
        options.onBytes(piece.length)
        sent?.update(piece)
        beginning?.update(piece)
      })
      if (loaded !== part.rows)
        throw new CaretakerError('restore_mismatch', `${loaded} rows were loaded from ${object.key}; the backup holds ${part.rows}.`)
      if (sent !== null && sent.measured().sha256 !== object.contentSha256)
        throw new CaretakerError('backup_corrupt', `${object.key} does not hold what its manifest says.`)
      rows += loaded
    }
    if (rows !== table.rows) throw new CaretakerError('restore_mismatch', `${rows} rows were loaded; the backup holds ${table.rows}.`)
    if (options.proof === 'now') await proveRows(loading, session, table)
    const noted =
      beginning === null ? [] : [options.onStoredAsSent({ beginning: beginning.beginning(), pages: await filledPages(session, table) })]
    for (const sql of [...noted, ...options.after]) await session.execute(sql)
    await session.execute('commit')
  } catch (error) {
    if (error instanceof CaretakerError && error.detail.startsWith(nameOf(table))) throw error
    throw new CaretakerError(
      codeOf(error),
      `Table ${nameOf(table)} could not be loaded; it failed after ${bytes} of ${table.bytes} bytes: ${reasonOf(error)}${adviceOnRows(error)}`,
      // What the server said, for whoever looks for its SQLSTATE.
      { cause: error instanceof CaretakerError && error.cause !== undefined ? error.cause : error },
    )
  }
}

/** The code of an error; of one that is PostgreSQL's or the network's, what it means for a restore. */
export function codeOf(error: unknown): ErrorCode {
  if (error instanceof CaretakerError) return error.code
  return isLost(error) ? 'database_unavailable' : 'database_error'
}

/** What an error says, without a value of any row. It ends with a full stop. */
export function reasonOf(error: unknown): string {
  const described = error instanceof CaretakerError ? undefined : describeError(error)
  const constraint = typeof described?.constraint === 'string' ? ` (constraint ${described.constraint})` : ''
  const said = error instanceof CaretakerError ? error.detail : `${described?.message}${constraint}`
  // What a socket and a client say of a server that went away.
  const gone = /\b(?:EPIPE|ECONNRESET|is not queryable)$/.test(said)
  const reason = gone ? `the connection to the database was lost (${said})` : said
  return /[.!?]$/.test(reason) ? reason : `${reason}.`
}

/**
 * Does a part of a restore. An error that does not say where it comes from says `failed` first: it is PostgreSQL's, or a connection's
 * that is gone.
 * @throws {CaretakerError}
 */
export async function orSay<T>(failed: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof CaretakerError && (error.code !== 'database_unavailable' || error.detail.startsWith(failed))) throw error
    throw new CaretakerError(codeOf(error), `${failed}: ${reasonOf(error)}`, { cause: error })
  }
}

/**
 * Reads the rows back, cuts them where the parts were cut, and compares hashes.
 * @throws {CaretakerError} `restore_mismatch`
 */
export async function proveRows(loading: Loading, session: Session, table: ManifestTable): Promise<void> {
  const parts = table.parts.map((part) => partObject(loading.manifest, part.key))
  const found = await hashCuts(
    session,
    copyOut(table, null),
    parts.map((part) => part.contentBytes),
  )
  const same = parts.every((part, index) => found[index] === part.contentSha256) && found.length === parts.length
  if (!same) throw differs(table)
}

/**
 * Reads the first rows back, and compares their hash.
 * @throws {CaretakerError} `restore_mismatch`
 */
export async function proveBeginning(session: Session, table: ManifestTable, beginning: Beginning): Promise<void> {
  await session.client.query(`begin; ${inOrder}`)
  const [found] = await hashCuts(session, copyBeginning(table, beginning), [])
  await session.execute('commit')
  if (found !== beginning.sha256) throw differs(table)
}

function differs(table: ManifestTable): CaretakerError {
  return new CaretakerError('restore_mismatch', `${nameOf(table)}: what was restored does not equal what was backed up.`)
}

/** The object of the manifest with that key. */
export function partObject(manifest: Manifest, key: string): ManifestObject {
  const object = manifest.objects.find((candidate) => candidate.key === key)
  if (object === undefined) throw new CaretakerError('backup_corrupt', `${key} is not among the objects of the manifest.`)
  return object
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
