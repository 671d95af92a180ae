import type { SupabaseClient } from '@supabase/supabase-js'
import type { Context } from '../../platform/context.ts'
import { openDatabase } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { OnProgress } from '../progress.ts'
import { type BackupChoice, selectBackup } from '../select-backup.ts'
import { shareOut } from '../sessions.ts'
import { checkObjects, openBackup } from '../verify-backup.ts'
import { type IndexedBucket, type IndexedFile, readIndex } from './index-lines.ts'
import { FileObjects } from './open-file.ts'
import { presenceOf } from './presence.ts'
import { refusalOf, saidNo } from './storage-api.ts'
import { uploadFile } from './upload-file.ts'

/** `identity`, the text of an identity file, is needed for an encrypted backup. */
export interface RestoreFilesInput extends BackupChoice {
  /** Only these buckets. */
  buckets?: readonly string[] | undefined
  /** Replace files that Storage has with another content. Without it they are left and counted. */
  overwrite?: boolean | undefined
  /** The project's database: owners and dates of creation are put back there, which the Storage API cannot. A secret. */
  targetUrl?: string | undefined
  /** Whether an id is of a person who has been erased: their files are not restored, and what the database lists of them is removed. */
  isErased?: ((id: string) => boolean) | undefined
  onProgress?: OnProgress | undefined
}

export interface RestoreFilesReport {
  id: string
  createdAt: string
  /** The project's address. */
  target: string
  buckets: { bucket: string; made: boolean; files: number; restored: number; present: number; different: number; erased: number }[]
  /** In all buckets. */
  files: number
  restored: number
  restoredBytes: number
  /** There already, with the same content. */
  present: number
  /** There with another content, and left as they are. */
  different: number
  /** Of people who have been erased. */
  erased: number
  /** The backup says that Storage had lost them already. */
  missing: number
  /** Files whose owner was put back; null where no database was given, and none could be. */
  owners: number | null
  durationMs: number
}

const atOnce = 4

/**
 * Puts the files of a backup back into the Supabase project of SUPABASE_URL, each with its type, cache control and metadata.
 * Every content is checked before Storage has all of it. What is there already is skipped: a run that was stopped is
 * run again.
 * @throws {CaretakerError} `backup_corrupt`, `backup_identity`, `object_missing` for a backup without files,
 * `restore_mismatch` naming the buckets and how many of their files Storage did not take
 */
export async function restoreFiles(ctx: Context, input: RestoreFilesInput): Promise<RestoreFilesReport> {
  const startedMs = ctx.clock.monotonicMs()
  const supabase = await ctx.supabase()
  const store = await ctx.objects()
  const manifest = await selectBackup(ctx, store, input)
  const { id } = manifest
  const { files: summary } = manifest
  if (summary === undefined)
    throw new CaretakerError(
      'object_missing',
      `Backup ${id} holds no files: when it was made, backup.buckets named none that could be read.`,
    )
  const opening = openBackup(ctx, store, manifest, input.identity)
  if (opening.encrypted && opening.identities.length === 0)
    throw new CaretakerError('backup_identity', `Backup ${id} is encrypted; give the identity file with --identity.`)
  const own = manifest.objects.filter((object) => object.key === summary.index || object.key === summary.references)
  await checkObjects(opening, own)
  const index = own.find((object) => object.kind === 'file-index')
  if (index === undefined) throw new CaretakerError('backup_corrupt', `Backup ${id} has lost the index of its files.`)
  const lines = (await readIndex(opening, index)).filter((line) => wanted(input.buckets, line.kind === 'bucket' ? line.id : line.bucket))
  refuseUnknown(input.buckets, summary.buckets)
  const restoring: Restoring = {
    ctx,
    input,
    supabase,
    objects: await FileObjects.read(opening, summary.references),
    totals: new Map(),
    failures: new Map(),
    restoredBytes: 0,
    doneBytes: 0,
    totalBytes: lines.reduce((sum, line) => sum + (line.kind === 'file' ? line.bytes : 0), 0),
  }
  for (const line of lines) if (line.kind === 'bucket') await openBucket(restoring, line)
  const files = lines.filter((line) => line.kind === 'file')
  await shareOut(
    Array.from({ length: atOnce }, (_, slot) => slot),
    files,
    (_slot, file) => restoreFile(restoring, file),
  )
  const owners = input.targetUrl === undefined ? null : await restoreOwners(ctx, input.targetUrl, files)
  refuseFailures(restoring, id)
  const buckets = [...restoring.totals.values()]
  const sum = (of: 'files' | 'restored' | 'present' | 'different' | 'erased') => buckets.reduce((total, bucket) => total + bucket[of], 0)
  return {
    id,
    createdAt: manifest.createdAt,
    target: ctx.env.SUPABASE_URL ?? '',
    buckets,
    files: sum('files'),
    restored: sum('restored'),
    restoredBytes: restoring.restoredBytes,
    present: sum('present'),
    different: sum('different'),
    erased: sum('erased'),
    missing: lines.filter((line) => line.kind === 'missing').length,
    owners,
    durationMs: Math.round(ctx.clock.monotonicMs() - startedMs),
  }
}

type Totals = RestoreFilesReport['buckets'][number]

interface Restoring {
  ctx: Context
  input: RestoreFilesInput
  supabase: SupabaseClient
  objects: FileObjects
  totals: Map<string, Totals>
  failures: Map<string, { count: number; why: string }>
  restoredBytes: number
  doneBytes: number
  totalBytes: number
}

function wanted(buckets: readonly string[] | undefined, bucket: string): boolean {
  return buckets === undefined || buckets.length === 0 || buckets.includes(bucket)
}

function refuseUnknown(asked: readonly string[] | undefined, held: readonly string[]): void {
  for (const bucket of asked ?? [])
    if (!held.includes(bucket))
      throw new CaretakerError('invalid_input', `The backup has no bucket "${bucket}"; it has ${held.join(', ')}.`)
}

/** Makes the bucket with its settings where it is not there; one that is there keeps its own. */
async function openBucket(restoring: Restoring, bucket: IndexedBucket): Promise<void> {
  const { supabase } = restoring
  const { id } = bucket
  const found = await supabase.storage.getBucket(id)
  let made = false
  if (found.error !== null) {
    const refused = refusalOf(found.error)
    if (refused.status !== 404 && refused.code !== 'NoSuchBucket')
      throw new CaretakerError('upstream_failed', `Supabase Storage did not describe bucket "${id}": ${saidNo(refused)}.`)
    const { error } = await supabase.storage.createBucket(id, {
      public: bucket.public,
      fileSizeLimit: bucket.fileSizeLimit,
      allowedMimeTypes: bucket.allowedMimeTypes,
    })
    if (error !== null)
      throw new CaretakerError('upstream_failed', `Supabase Storage did not make bucket "${id}": ${saidNo(refusalOf(error))}.`)
    made = true
  }
  restoring.totals.set(id, { bucket: id, made, files: 0, restored: 0, present: 0, different: 0, erased: 0 })
}

async function restoreFile(restoring: Restoring, file: IndexedFile): Promise<void> {
  const { ctx, input, supabase, objects } = restoring
  if (ctx.signal.aborted) throw new CaretakerError('timeout', 'Stopped; run it again, and it goes on where it was.')
  const totals = restoring.totals.get(file.bucket)
  if (totals === undefined) throw new CaretakerError('backup_corrupt', 'The index of the files names a bucket that it does not describe.')
  totals.files++
  try {
    if (isErased(input.isErased, file)) {
      await forget(supabase, file)
      totals.erased++
    } else {
      const presence = await presenceOf(supabase, file, ctx.signal)
      if (presence === 'same') totals.present++
      else if (presence === 'different' && input.overwrite !== true) totals.different++
      else {
        await uploadFile(supabase, objects, file, ctx.signal)
        totals.restored++
        restoring.restoredBytes += file.bytes
      }
    }
  } catch (error) {
    // One file that Storage refuses is no reason to leave the others out.
    if (!(error instanceof CaretakerError) || error.code !== 'upstream_failed') throw error
    const failed = restoring.failures.get(file.bucket) ?? { count: 0, why: error.detail }
    failed.count++
    restoring.failures.set(file.bucket, failed)
  }
  restoring.doneBytes += file.bytes
  input.onProgress?.({ phase: 'files', what: file.bucket, doneBytes: restoring.doneBytes, totalBytes: restoring.totalBytes })
}

/** By its owner, or by an id in its path: "voice/PERSON/1.wav", "PERSON.png". */
function isErased(erased: RestoreFilesInput['isErased'], file: IndexedFile): boolean {
  if (erased === undefined) return false
  const parts = file.name.split('/').flatMap((part) => [part, part.replace(/\.[^.]*$/, '')])
  return [...(file.owner === null ? [] : [file.owner]), ...parts].some((id) => id !== '' && erased(id))
}

/** The row that a restored database still has of it. */
async function forget(supabase: SupabaseClient, file: IndexedFile): Promise<void> {
  const { error } = await supabase.storage.from(file.bucket).remove([file.name])
  if (error !== null)
    throw new CaretakerError('upstream_failed', `a file of an erased person could not be removed: ${saidNo(refusalOf(error))}`)
}

/** The Storage API makes its caller the owner, and now the date: the rows say otherwise. */
async function restoreOwners(ctx: Context, targetUrl: string, files: readonly IndexedFile[]): Promise<number> {
  const db = openDatabase({ sessionUrl: targetUrl, ca: ctx.env.DATABASE_CA, maxConnections: 1 })
  try {
    const columns = await db.query<{ name: string }>(
      `select attname::text as name from pg_attribute where attrelid = to_regclass('storage.objects') and attname in ('owner', 'owner_id') and not attisdropped`,
    )
    if (columns.length === 0)
      throw new CaretakerError('invalid_input', '--to: the database has no storage.objects; give the one of the project in SUPABASE_URL.')
    // An owner that is no uuid (of a third-party sign-in) is in owner_id alone, which is text.
    const values: Record<string, string> = {
      owner_id: 'f.owner',
      owner: `case when f.owner ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then f.owner::uuid end`,
    }
    const sets = columns.map(({ name }) => `${name} = ${values[name]}`)
    let owned = 0
    for (let at = 0; at < files.length; at += 1_000) {
      const batch = files.slice(at, at + 1_000)
      await db.execute(
        `update storage.objects o set ${sets.join(', ')}, created_at = coalesce(f.created_at, o.created_at)
         from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) as f (bucket, name, owner, created_at)
         where o.bucket_id = f.bucket and o.name = f.name`,
        [
          batch.map((file) => file.bucket),
          batch.map((file) => file.name),
          batch.map((file) => file.owner),
          batch.map((file) => file.createdAt),
        ],
      )
      owned += batch.filter((file) => file.owner !== null).length
    }
    return owned
  } finally {
    await db.close()
  }
}

function refuseFailures(restoring: Restoring, id: string): void {
  if (restoring.failures.size === 0) return
  const buckets = [...restoring.failures].map(([bucket, { count, why }]) => `bucket "${bucket}": ${count} files (${why})`)
  throw new CaretakerError(
    'restore_mismatch',
    `Not all files of backup ${id} could be restored: ${buckets.join('; ')}. Run it again: those that are there are skipped.`,
  )
}
