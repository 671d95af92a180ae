import { pipeline } from 'node:stream/promises'
import copyStreams from 'pg-copy-streams'
import type { Context } from '../platform/context.ts'
import { qualified, type Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { largeObjectFraming, tableFraming } from './framing.ts'
import { copyLargeObjectsIn, copyLargeObjectsOut, largeObjectPrelude, largeObjectTail } from './large-objects.ts'
import { type Manifest, type ManifestObject, type ManifestTable, readManifest, resolveBackupId } from './manifest.ts'
import { Digest, Meter, Unframe } from './meter.ts'
import { type Opening, readObjectInto, readObjectText } from './object-stream.ts'
import { copyIn, copyOut } from './part-sql.ts'
import { backupConnections } from './policy.ts'
import type { OnProgress } from './progress.ts'
import { type Executed, runPostData, runScript } from './run-script.ts'
import { pinSession, serverVersion, shareOut, withSessions } from './sessions.ts'
import { checkObjects, openBackup } from './verify-backup.ts'

export interface RestoreInput {
  /** An id, a unique beginning of one, or `latest`. */
  id: string
  /** The text of an identity file. Needed for an encrypted backup. */
  identity?: string | undefined
  /** The empty database to restore into. A secret. */
  targetUrl: string
  onProgress?: OnProgress
}

export interface RestoredTable {
  table: string
  rows: number
  /** The rows were read back and hash to what was dumped. */
  verified: boolean
}

export interface RestoreReport {
  id: string
  createdAt: string
  target: string
  tables: RestoredTable[]
  rows: number
  sequences: number
  largeObjects: number
  /** Statements the target refused although they were not essential, each with its reason: an owner that may not be given. */
  skipped: { statement: string; reason: string }[]
  durationMs: number
}

/**
 * Restores a backup into an empty database and proves it: every object is checked against the manifest before the first
 * row is written, and every table's rows, read back, must hash to what was dumped.
 * @throws {CaretakerError} `restore_target_not_empty`, `backup_corrupt`, `backup_identity`, `restore_mismatch`
 */
export async function restoreBackup(ctx: Context, input: RestoreInput): Promise<RestoreReport> {
  const startedMs = ctx.clock.monotonicMs()
  const store = await ctx.objects()
  const id = await resolveBackupId(store, input.id)
  const manifest = await readManifest(store, id)
  const opening = openBackup(ctx, store, manifest, input.identity)
  if (opening.encrypted && opening.identities.length === 0)
    throw new CaretakerError('backup_identity', `Backup ${id} is encrypted; give the identity file with --identity.`)
  const report = await withSessions(input.targetUrl, ctx.env.DATABASE_CA, backupConnections(ctx), async (sessions) => {
    const [main] = sessions
    if (main === undefined) throw new CaretakerError('internal', 'A restore needs a connection.')
    const version = await serverVersion(main)
    for (const session of sessions) await pinSession(session, version.number, { lockTimeoutMs: 0 })
    await refuseNonEmpty(main)
    // Opens the schema first: a wrong identity shows before the whole backup is read.
    await checkObjects(
      opening,
      manifest.objects.filter((object) => object.kind === 'pre-data'),
    )
    const preData = await textOf(opening, manifest, 'pre-data')
    await checkObjects(opening, manifest.objects, input.onProgress)
    return load({ ctx, input, manifest, opening, main, sessions, preData })
  })
  return { id, createdAt: manifest.createdAt, ...report, durationMs: Math.round(ctx.clock.monotonicMs() - startedMs) }
}

interface Loading {
  ctx: Context
  input: RestoreInput
  manifest: Manifest
  opening: Opening
  main: Session
  sessions: readonly Session[]
  preData: string
}

async function load(loading: Loading): Promise<Omit<RestoreReport, 'id' | 'createdAt' | 'durationMs'>> {
  const { input, manifest, opening, main, sessions } = loading
  const progress = (phase: 'schema' | 'sequences' | 'indexes', what: string) =>
    input.onProgress?.({ phase, what, doneBytes: 0, totalBytes: 0 })
  const skipped: Executed['skipped'] = []
  const run = async (sql: string) => skipped.push(...(await runScript(main, sql, manifest.restrictKey)).skipped)

  progress('schema', 'roles and schema')
  await run(await textOf(opening, manifest, 'roles'))
  await run(loading.preData)
  const tables = await loadTables(loading)
  await loadLargeObjects(loading, run)
  progress('sequences', 'sequences')
  await run(await textOf(opening, manifest, 'sequences'))
  await checkSequences(main, manifest)
  progress('indexes', 'indexes, constraints and triggers')
  const postData = await textOf(opening, manifest, 'post-data')
  skipped.push(...(await runPostData(sessions, postData, manifest.restrictKey, (name) => progress('indexes', name))).skipped)
  await main.execute('analyze')
  const [target] = await main.query<{ name: string }>('select current_database() as name')
  return {
    target: target?.name ?? '',
    tables,
    rows: tables.reduce((sum, table) => sum + table.rows, 0),
    sequences: manifest.sequences.length,
    largeObjects: manifest.largeObjects.count,
    skipped,
  }
}

async function refuseNonEmpty(session: Session): Promise<void> {
  const [found] = await session.query<{ count: number; example: string }>(
    `select count(*)::float8 as count, min(n.nspname || '.' || c.relname) as example
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
       and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')`,
  )
  if (found !== undefined && found.count > 0)
    throw new CaretakerError(
      'restore_target_not_empty',
      `The target already holds ${found.count} tables, views or sequences, such as ${found.example}. Restore into an empty database.`,
    )
}

async function textOf(opening: Opening, manifest: Manifest, kind: ManifestObject['kind']): Promise<string> {
  const object = manifest.objects.find((candidate) => candidate.kind === kind)
  if (object === undefined) throw new CaretakerError('backup_corrupt', `The backup has no ${kind}.`)
  return readObjectText(opening, object)
}

async function loadTables(loading: Loading): Promise<RestoredTable[]> {
  const { manifest, sessions, input } = loading
  const totalBytes = manifest.tables.reduce((sum, table) => sum + table.bytes, 0)
  let doneBytes = 0
  const restored = new Map<ManifestTable, RestoredTable>()
  // Largest first, so that no connection is left with one big table at the end.
  const order = [...manifest.tables].sort((a, b) => b.bytes - a.bytes)
  await shareOut(sessions, order, async (session, table) => {
    const what = `${table.schema}.${table.name}`
    await loadTable(loading, session, table, (bytes) => {
      doneBytes += bytes
      input.onProgress?.({ phase: 'load', what, doneBytes, totalBytes })
    })
    await compareTable(loading, session, table)
    restored.set(table, { table: what, rows: table.rows, verified: true })
  })
  return manifest.tables.flatMap((table) => restored.get(table) ?? [])
}

/**
 * All parts of one table in one transaction that truncates it first: PostgreSQL then writes row after row into new pages
 * (which keeps the order, and so the hash, of what was dumped) and freezes them at once.
 */
async function loadTable(loading: Loading, session: Session, table: ManifestTable, onBytes: (bytes: number) => void): Promise<void> {
  const own = table.condition === null
  const framing = tableFraming(table)
  await session.execute('begin')
  if (own) await session.execute(`truncate only ${qualified(table.schema, table.name)}`)
  let rows = 0
  for (const part of table.parts) {
    const object = partObject(loading.manifest, part.key)
    const copy = session.client.query(copyStreams.from(copyIn(table, { freeze: own })))
    const meter = new Meter(onBytes)
    try {
      await readObjectInto(loading.opening, object, [new Unframe(framing.head, framing.tail), meter, copy])
    } catch (error) {
      throw restoreFailure(table, error)
    }
    const found = meter.measured()
    if (found.sha256 !== object.contentSha256)
      throw new CaretakerError('backup_corrupt', `${object.key} does not hold what its manifest says.`)
    if (copy.rowCount !== part.rows)
      throw new CaretakerError(
        'restore_mismatch',
        `${table.schema}.${table.name}: ${copy.rowCount} rows were loaded from ${object.key}; the backup holds ${part.rows}.`,
      )
    rows += copy.rowCount
  }
  if (rows !== table.rows)
    throw new CaretakerError('restore_mismatch', `${table.schema}.${table.name}: ${rows} rows were loaded; the backup holds ${table.rows}.`)
  await session.execute('commit')
}

function partObject(manifest: Manifest, key: string): ManifestObject {
  const object = manifest.objects.find((candidate) => candidate.key === key)
  if (object === undefined) throw new CaretakerError('backup_corrupt', `${key} is not among the objects of the manifest.`)
  return object
}

function restoreFailure(table: ManifestTable, error: unknown): unknown {
  if (error instanceof CaretakerError) return error
  return new CaretakerError(
    'database_error',
    `Table ${table.schema}.${table.name} could not be loaded: ${error instanceof Error ? error.message : 'unknown'}`,
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
  if (!same)
    throw new CaretakerError('restore_mismatch', `${table.schema}.${table.name}: what was restored does not equal what was backed up.`)
}

/** SHA-256 of each of the stretches of `lengths` bytes; one more entry where bytes are left over. */
async function hashCuts(session: Session, sql: string, lengths: readonly number[]): Promise<string[]> {
  const hashes: string[] = []
  let digest = new Digest()
  const close = () => {
    hashes.push(digest.measured().sha256)
    digest = new Digest()
  }
  const copy = session.client.query(copyStreams.to(sql))
  await pipeline(copy, async (from: AsyncIterable<Buffer>) => {
    for await (const chunk of from) {
      let rest = chunk
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
  })
  // What is missing at the end, an empty part, or what is left over.
  while (hashes.length < lengths.length || digest.bytes > 0) close()
  return hashes
}

async function loadLargeObjects(loading: Loading, run: (sql: string) => Promise<unknown>): Promise<void> {
  const { manifest, main, opening } = loading
  const [part] = manifest.largeObjects.parts
  if (part === undefined) return
  const object = partObject(manifest, part.key)
  for (const statement of largeObjectPrelude) await main.execute(statement)
  const copy = main.client.query(copyStreams.from(copyLargeObjectsIn))
  await readObjectInto(opening, object, [new Unframe(largeObjectFraming.head, largeObjectFraming.tail), copy])
  await run(largeObjectTail)
  const [found] = await hashCuts(main, copyLargeObjectsOut, [object.contentBytes])
  if (found !== object.contentSha256)
    throw new CaretakerError('restore_mismatch', 'The restored large objects do not equal those that were backed up.')
  await run(await textOf(opening, manifest, 'large-object-owners'))
}

async function checkSequences(session: Session, manifest: Manifest): Promise<void> {
  for (const sequence of manifest.sequences) {
    const [state] = await session.query<{ lastValue: string; isCalled: boolean }>(
      `select last_value::text as "lastValue", is_called as "isCalled" from ${qualified(sequence.schema, sequence.name)}`,
    )
    if (state?.lastValue !== sequence.lastValue || state.isCalled !== sequence.isCalled)
      throw new CaretakerError(
        'restore_mismatch',
        `Sequence ${sequence.schema}.${sequence.name} stands at ${state?.lastValue}; the backup has ${sequence.lastValue}.`,
      )
  }
}
