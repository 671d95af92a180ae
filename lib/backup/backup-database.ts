import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import copyStreams from 'pg-copy-streams'
import packageJson from '../../package.json' with { type: 'json' }
import { type Context, remainingMs } from '../platform/context.ts'
import { qualified, type Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { JobRun } from '../platform/job.ts'
import { listExtensions, listLeftOut, listRoles, listSequences, type SourceTable } from './catalogue.ts'
import { largeObjectFraming, tableFraming } from './framing.ts'
import { copyLargeObjectsOut, countLargeObjects, largeObjectSql } from './large-objects.ts'
import { backupFolder, type Manifest, type ManifestObject, type ManifestPart, writeManifest } from './manifest.ts'
import { type Sealing, writeDocument, writeObject } from './object-stream.ts'
import { copyOut, type PageRange, splitTable } from './part-sql.ts'
import { type BackupPolicy, backupPolicy } from './policy.ts'
import type { OnProgress } from './progress.ts'
import { restoreNotes, restoreScript } from './restore-by-hand.ts'
import { rolesSql } from './roles.ts'
import { dumpSection } from './schema-sql.ts'
import { sequencesSql } from './sequences.ts'
import { shareOut, withSessions } from './sessions.ts'
import { takeSnapshot } from './snapshot.ts'

export interface BackupInput {
  onProgress?: OnProgress
  /** The run of a job this backup is made for. */
  run?: JobRun
  /** Table and TOAST bytes one object covers. Default 128 MiB; less where an invocation is short. */
  partBytes?: number
}

export interface BackupReport {
  id: string
  /** Where it is: the store's address, without credentials. */
  store: string
  createdAt: string
  durationMs: number
  encrypted: boolean
  tables: number
  rows: number
  /** Of the rows as text. */
  contentBytes: number
  /** As stored, everything. */
  storedBytes: number
  objects: number
  leftOut: { what: string; why: string }[]
}

/**
 * A complete logical backup of the database at `ctx.db.sessionUrl`, which is only read and needs nothing installed.
 * It shows in `listBackups` from the moment all of it is stored; before that, and after a failure, it does not.
 * @throws {CaretakerError} `not_configured` without a recipient, `backup_incomplete`, `object_store_failed`,
 * `database_unavailable`; the detail names the table and how far it was
 */
export async function backupDatabase(ctx: Context, input: BackupInput = {}): Promise<BackupReport> {
  const policy = backupPolicy(ctx)
  const store = await ctx.objects()
  const startedMs = ctx.clock.monotonicMs()
  const id = newId(ctx.clock.now())
  const stop = new AbortController()
  const signal = AbortSignal.any([ctx.signal, stop.signal])
  const sealing: Sealing = { store, folder: backupFolder(id), recipients: policy.recipients, signal }
  const job: Job = { ctx: { ...ctx, signal }, policy, sealing, input }
  try {
    const manifest = await withSessions(ctx.db.sessionUrl, ctx.env.DATABASE_CA, policy.connections + 1, ([keeper, ...workers]) =>
      dumpAll(job, id, keeper as Session, workers),
    )
    input.onProgress?.({ phase: 'seal', what: 'manifest', doneBytes: 0, totalBytes: 0 })
    checkTime(job)
    await writeManifest(store, manifest, signal)
    const report = reportOf(manifest, store.url, ctx.clock.monotonicMs() - startedMs)
    ctx.log.info(
      { backup: id, tables: report.tables, rows: report.rows, storedBytes: report.storedBytes, durationMs: report.durationMs },
      'backup stored',
    )
    return report
  } catch (error) {
    stop.abort()
    await discard(sealing)
    throw error
  }
}

interface Job {
  ctx: Context
  policy: BackupPolicy
  sealing: Sealing
  input: BackupInput
}

/** Sorts by time; the random part keeps two that start in one second apart. */
function newId(now: Date): string {
  return `${now.toISOString().replace(/[-:]|\.\d+/g, '')}-${randomBytes(4).toString('hex')}`
}

async function dumpAll(job: Job, id: string, keeper: Session, workers: readonly Session[]): Promise<Manifest> {
  const { ctx, policy, sealing } = job
  const snapshot = await takeSnapshot(keeper, workers, policy)
  const { scope } = snapshot
  const [reader] = workers
  if (reader === undefined) throw new CaretakerError('internal', 'A backup needs a connection that reads.')
  const restrictKey = randomBytes(24).toString('hex')
  const extensions = await listExtensions(reader)
  // An extension cannot be made where its schema is left out.
  const homeless = extensions.filter((extension) => scope.excludeSchemas.includes(extension.schema)).map((extension) => extension.name)
  const schema = { restrictKey, excludeSchemas: scope.excludeSchemas, excludeExtensions: homeless }
  const progress = tracker(job, snapshot.tables)

  job.input.onProgress?.({ phase: 'schema', what: 'schema', doneBytes: 0, totalBytes: progress.totalBytes })
  const preData = await dumpSection(ctx, snapshot, 'pre-data', schema)
  const postData = await dumpSection(ctx, snapshot, 'post-data', schema)
  const roles = await listRoles(reader)
  const leftOut = await listLeftOut(reader, policy.excludeSchemas, scope)
  const [database] = await reader.query<{ name: string; encoding: string }>(
    `select current_database() as name, pg_encoding_to_char(encoding) as encoding from pg_catalog.pg_database where datname = current_database()`,
  )
  const largeObjects = await countLargeObjects(reader)
  const largeObjectOwners = await largeObjectSql(reader, largeObjects)

  const objects: ManifestObject[] = [
    await writeObject(sealing, 'roles.sql', 'roles', Readable.from([Buffer.from(rolesSql(roles))])),
    await writeObject(sealing, 'pre-data.sql', 'pre-data', Readable.from([Buffer.from(preData)])),
  ]

  const parts = planParts(snapshot.tables, job.input.partBytes)
  const written = new Map<Part, { object: ManifestObject; rows: number }>()
  await shareOut(workers, parts, async (worker, part) => {
    checkTime(job)
    written.set(part, await dumpPart(job, worker, part, progress))
  })
  const tables = snapshot.tables.map((table) => {
    const own = parts.filter((part) => part.table === table).map((part) => written.get(part))
    const done = own.filter((part) => part !== undefined)
    if (done.length !== own.length) throw new CaretakerError('internal', `A part of ${table.schema}.${table.name} was not written.`)
    objects.push(...done.map((part) => part.object))
    return {
      schema: table.schema,
      name: table.name,
      columns: table.columns,
      condition: table.condition,
      shared: table.shared,
      rows: done.reduce((sum, part) => sum + part.rows, 0),
      bytes: done.reduce((sum, part) => sum + part.object.contentBytes, 0),
      parts: done.map((part): ManifestPart => ({ key: part.object.key, rows: part.rows })),
    }
  })

  const largeObjectParts: ManifestPart[] = []
  if (largeObjects > 0) {
    const copy = reader.client.query(copyStreams.to(copyLargeObjectsOut))
    const object = await writeObject(sealing, 'large-objects.copy', 'large-objects', copy, largeObjectFraming)
    objects.push(object)
    largeObjectParts.push({ key: object.key, rows: copy.rowCount })
    objects.push(
      await writeObject(sealing, 'large-object-owners.sql', 'large-object-owners', Readable.from([Buffer.from(largeObjectOwners)])),
    )
  }

  // Sequences are not MVCC: read after the rows, so that none of them is behind a key that was dumped.
  job.input.onProgress?.({ phase: 'sequences', what: 'sequences', doneBytes: progress.doneBytes, totalBytes: progress.totalBytes })
  const sequences = await readSequences(reader, scope.excludeSchemas)
  objects.push(
    await writeObject(sealing, 'sequences.sql', 'sequences', Readable.from([Buffer.from(sequencesSql(sequences))])),
    await writeObject(sealing, 'post-data.sql', 'post-data', Readable.from([Buffer.from(postData)])),
  )
  for (const session of [...workers, keeper]) await session.execute('commit')

  const manifest: Manifest = {
    format: 'caretaker-backup/1',
    id,
    app: ctx.config.app.name,
    caretakerVersion: packageJson.version,
    createdAt: snapshot.takenAt.toISOString(),
    finishedAt: ctx.clock.now().toISOString(),
    database: {
      name: database?.name ?? '',
      encoding: database?.encoding ?? '',
      serverVersion: snapshot.version.text,
      serverVersionNumber: snapshot.version.number,
    },
    snapshot: { id: snapshot.id, visible: snapshot.visible, lsn: snapshot.lsn },
    encryption: sealing.recipients === null ? { kind: 'none' } : { kind: 'age', recipients: [...sealing.recipients] },
    compression: 'zstd',
    restrictKey,
    objects,
    tables,
    sequences,
    largeObjects: { count: largeObjects, parts: largeObjectParts },
    extensions: extensions.filter((extension) => !homeless.includes(extension.name)),
    roles,
    leftOut,
  }
  objects.push(
    await writeDocument(sealing, 'RESTORE.md', restoreNotes(manifest)),
    await writeDocument(sealing, 'restore.sh', restoreScript(manifest)),
  )
  return manifest
}

interface Part {
  table: SourceTable
  range: PageRange | null
  name: string
}

function planParts(tables: readonly SourceTable[], partBytes: number | undefined): Part[] {
  let number = 0
  return tables.flatMap((table) =>
    splitTable(table, partBytes).map((range): Part => {
      number++
      return { table, range, name: `data/${String(number).padStart(6, '0')}.copy` }
    }),
  )
}

async function dumpPart(job: Job, worker: Session, part: Part, progress: Tracker): Promise<{ object: ManifestObject; rows: number }> {
  const { table } = part
  const name = `${table.schema}.${table.name}`
  const copy = worker.client.query(copyStreams.to(copyOut(table, part.range)))
  let bytes = 0
  try {
    const object = await writeObject(job.sealing, part.name, 'data', copy, tableFraming(table), (more) => {
      bytes += more
      progress.add(name, more)
    })
    return { object, rows: copy.rowCount }
  } catch (error) {
    if (error instanceof CaretakerError && error.code !== 'object_store_failed') throw error
    const reason = error instanceof CaretakerError ? error.detail : error instanceof Error ? error.message : 'unknown'
    throw new CaretakerError(
      error instanceof CaretakerError ? error.code : 'backup_incomplete',
      `Table ${name} failed after ${bytes} bytes: ${reason}`,
      { cause: error },
    )
  }
}

async function readSequences(session: Session, excludeSchemas: readonly string[]): Promise<Manifest['sequences']> {
  const states: Manifest['sequences'] = []
  for (const { schema, name } of await listSequences(session, excludeSchemas)) {
    const [state] = await session.query<{ lastValue: string; isCalled: boolean }>(
      `select last_value::text as "lastValue", is_called as "isCalled" from ${qualified(schema, name)}`,
    )
    if (state !== undefined) states.push({ schema, name, ...state })
  }
  return states
}

function checkTime(job: Job): void {
  if (job.ctx.signal.aborted) throw new CaretakerError('backup_incomplete', 'The backup was stopped before it was complete.')
  if (remainingMs(job.ctx) === 0 || job.input.run?.shouldHandOver() === true)
    throw new CaretakerError(
      'timeout',
      'The backup does not fit into this invocation: run it where it has more time, such as `caretaker backup run`.',
    )
}

/** What a failed backup has stored is of no use to anybody. A store that is down keeps it; the next sweep takes it. */
async function discard(sealing: Sealing): Promise<void> {
  try {
    for await (const object of sealing.store.list(sealing.folder)) await sealing.store.delete(object.key)
  } catch {
    // The failure that brought us here is the one to report.
  }
}

interface Tracker {
  totalBytes: number
  doneBytes: number
  add(what: string, bytes: number): void
}

function tracker(job: Job, tables: readonly SourceTable[]): Tracker {
  const made: Tracker = {
    totalBytes: tables.reduce((sum, table) => sum + table.bytes, 0),
    doneBytes: 0,
    add(what, bytes) {
      made.doneBytes += bytes
      job.input.onProgress?.({ phase: 'data', what, doneBytes: made.doneBytes, totalBytes: made.totalBytes })
    },
  }
  return made
}

function reportOf(manifest: Manifest, store: string, durationMs: number): BackupReport {
  return {
    id: manifest.id,
    store,
    createdAt: manifest.createdAt,
    durationMs: Math.round(durationMs),
    encrypted: manifest.encryption.kind === 'age',
    tables: manifest.tables.length,
    rows: manifest.tables.reduce((sum, table) => sum + table.rows, 0),
    contentBytes: manifest.tables.reduce((sum, table) => sum + table.bytes, 0),
    storedBytes: manifest.objects.reduce((sum, object) => sum + object.bytes, 0),
    objects: manifest.objects.length,
    leftOut: manifest.leftOut,
  }
}
