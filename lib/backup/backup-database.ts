import { type Context, remainingMs } from '../platform/context.ts'
import type { Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { JobRun } from '../platform/job.ts'
import { recipientsOf } from './drill/identity.ts'
import { dumpPart, nameOfPart } from './dump-part.ts'
import { prefetchFiles } from './files/index.ts'
import { backupFolder, type Manifest, type ManifestFiles } from './manifest.ts'
import type { Sealing } from './object-stream.ts'
import { newBackupId, openDump, type WrittenPart } from './open-dump.ts'
import { type BackupPolicy, backupPolicy } from './policy.ts'
import type { OnProgress } from './progress.ts'
import { sealDump } from './seal-dump.ts'
import { shareOut, withSessions } from './sessions.ts'

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
  const job: Job = { ctx: { ...ctx, signal }, policy, sealing, input }
  try {
    await prefetchFiles(job.ctx, { id, onProgress: input.onProgress, checkTime: () => checkTime(job) })
    const manifest = await withSessions(ctx.db.sessionUrl, ctx.env.DATABASE_CA, policy.connections + 1, ([keeper, ...workers]) =>
      dumpAll(job, id, keeper as Session, workers),
    )
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

/** Takes the snapshot, dumps every part on as many sessions as there are, and seals. */
async function dumpAll(job: Job, id: string, keeper: Session, workers: readonly Session[]): Promise<Manifest> {
  const { ctx, policy, sealing, input } = job
  input.onProgress?.({ phase: 'schema', what: 'schema', doneBytes: 0, totalBytes: 0 })
  const dump = await openDump(ctx, policy, sealing, id, { keeper, workers }, input.partBytes)
  const totalBytes = dump.tables.reduce((sum, table) => sum + table.bytes, 0)
  let doneBytes = 0
  const written = new Map<number, WrittenPart>()
  await shareOut(workers, dump.parts, async (worker, part) => {
    checkTime(job)
    const stored = await dumpPart(sealing, dump, part, worker, (bytes) => {
      doneBytes += bytes
      input.onProgress?.({ phase: 'data', what: nameOfPart(dump, part), doneBytes, totalBytes })
    })
    written.set(part.number, stored)
  })
  input.onProgress?.({ phase: 'seal', what: 'manifest', doneBytes, totalBytes })
  checkTime(job)
  return sealDump(ctx, sealing, dump, written, workers[0] as Session)
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
