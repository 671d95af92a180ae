import { type Context, remainingMs } from '../platform/context.ts'
import type { Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { JobRun } from '../platform/job.ts'
import { recipientsOf } from './drill/identity.ts'
import { dumpPart, nameOfPart } from './dump-part.ts'
import { prefetchFiles } from './files/index.ts'
import { backupFolder, type Manifest, type ManifestFiles } from './manifest.ts'
import type { Sealing } from './object-stream.ts'
import {
  type DumpLimits,
  type DumpSessions,
  dumpSessions,
  newBackupId,
  type OpenDump,
  openDump,
  otherSessions,
  type WrittenPart,
} from './open-dump.ts'
import { type BackupPolicy, backupPolicy } from './policy.ts'
import type { OnProgress } from './progress.ts'
import { sealDump } from './seal-dump.ts'
import { shareOut, withSessions } from './sessions.ts'

export interface BackupInput extends DumpLimits {
  onProgress?: OnProgress
  /** The run of a job this backup is made for. */
  run?: JobRun
}

export interface BackupReport {
  id: string
  /** Where it is: the store's address, without credentials. */
  store: string
  createdAt: string
  durationMs: number
  encrypted: boolean
  /** The public key it is signed with; null where ENCRYPTION_KEY is not set, and a restore has to be told to take it unsigned. */
  signer: string | null
  tables: number
  rows: number
  /** Of the rows as text. */
  contentBytes: number
  /** As stored, everything. */
  storedBytes: number
  objects: number
  /** Of Storage buckets, where the policy names some. Their bytes are not among the above. */
  files?: ManifestFiles
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
  const id = newBackupId(ctx.clock.now())
  const stop = new AbortController()
  const signal = AbortSignal.any([ctx.signal, stop.signal])
  const sealing: Sealing = { store, folder: backupFolder(id), ...(await recipientsOf(ctx, store, id, policy.recipients)), signal }
  const job: Job = { ctx: { ...ctx, signal }, policy, sealing, input, stop, reached: 'before it began' }
  try {
    await prefetchFiles(job.ctx, { id, onProgress: input.onProgress, checkTime: () => checkTime(job) })
    job.reached = 'while it waited for connections'
    const work = (sessions: Session[]) => dumpAll(job, id, dumpSessions(sessions))
    const manifest = await withSessions(ctx.db.sessionUrl, ctx.env.DATABASE_CA, policy.connections + otherSessions, work, signal)
    const report = reportOf(manifest, store.url, ctx.clock.monotonicMs() - startedMs)
    ctx.log.info(
      { backup: id, tables: report.tables, rows: report.rows, storedBytes: report.storedBytes, durationMs: report.durationMs },
      'backup stored',
    )
    return report
  } catch (error) {
    const failure = ctx.signal.aborted ? stopped(job) : error
    stop.abort()
    await discard(sealing)
    throw failure
  }
}

interface Job {
  ctx: Context
  policy: BackupPolicy
  sealing: Sealing
  input: BackupInput
  /** Ends everything that is under way. */
  stop: AbortController
  /** How far it is, to go on after "stopped". */
  reached: string
}

/** Takes the snapshot, dumps the schema, and every part on as many sessions as there are, and seals. */
async function dumpAll(job: Job, id: string, sessions: DumpSessions): Promise<Manifest> {
  const { ctx, policy, sealing, input } = job
  input.onProgress?.({ phase: 'schema', what: 'schema', doneBytes: 0, totalBytes: 0 })
  job.reached = 'while the tables were locked'
  const { dump, schema } = await openDump(ctx, policy, sealing, id, sessions, input)
  job.reached = 'while the schema was read'
  const totalBytes = dump.tables.reduce((sum, table) => sum + table.bytes, 0)
  let doneBytes = 0
  const written = new Map<number, WrittenPart>()
  const rows = shareOut(sessions.workers, dump.parts, async (worker, part) => {
    checkTime(job)
    const stored = await dumpPart(sealing, dump, part, worker, (bytes) => {
      doneBytes += bytes
      job.reached = `while ${nameOfPart(dump, part)} was read, after ${doneBytes} bytes of all tables`
      input.onProgress?.({ phase: 'data', what: nameOfPart(dump, part), doneBytes, totalBytes })
    })
    written.set(part.number, stored)
  })
  const [whole] = await together(job.stop, [schema.then((objects): OpenDump => ({ ...dump, ...objects })), rows])
  input.onProgress?.({ phase: 'seal', what: 'manifest', doneBytes, totalBytes })
  job.reached = 'when all rows were stored, before the manifest was'
  checkTime(job)
  return sealDump(ctx, sealing, whole, written, sessions.workers[0] as Session)
}

/** What both give; when one fails the other is ended, and waited for. */
async function together<A, B>(stop: AbortController, [first, second]: [Promise<A>, Promise<B>]): Promise<[A, B]> {
  const ended = [first, second].map((one) => one.catch((error: unknown) => stop.abort(error)))
  await Promise.all(ended)
  // The first failure is the reason that the other one, too, was given.
  if (stop.signal.aborted) throw stop.signal.reason
  return [await first, await second]
}

function checkTime(job: Job): void {
  job.ctx.signal.throwIfAborted()
  if (remainingMs(job.ctx) === 0 || job.input.run?.shouldHandOver() === true)
    throw new CaretakerError(
      'timeout',
      'The backup does not fit into this invocation: run it where it has more time, such as `caretaker backup run`.',
    )
}

function stopped(job: Job): CaretakerError {
  return new CaretakerError('backup_incomplete', `The backup was stopped ${job.reached}. Nothing of it is kept; run it again.`, {
    cause: job.ctx.signal.reason,
  })
}

/**
 * What a failed backup has stored is of no use to anybody; the manifest goes first, should it be there. A store that is
 * down keeps it; the next sweep takes it.
 */
async function discard(sealing: Sealing): Promise<void> {
  try {
    await sealing.store.delete(`${sealing.folder}manifest.json`)
    for await (const object of sealing.store.list(sealing.folder)) await sealing.store.delete(object.key)
  } catch {
    // The failure that brought us here is the one to report.
  }
}

export function reportOf(manifest: Manifest, store: string, durationMs: number): BackupReport {
  return {
    id: manifest.id,
    store,
    createdAt: manifest.createdAt,
    durationMs: Math.round(durationMs),
    encrypted: manifest.encryption.kind === 'age',
    signer: manifest.signer ?? null,
    tables: manifest.tables.length,
    rows: manifest.tables.reduce((sum, table) => sum + table.rows, 0),
    contentBytes: manifest.tables.reduce((sum, table) => sum + table.bytes, 0),
    storedBytes: manifest.objects.reduce((sum, object) => sum + object.bytes, 0),
    objects: manifest.objects.length,
    ...(manifest.files === undefined ? {} : { files: manifest.files }),
    leftOut: manifest.leftOut,
  }
}
