import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import type { Context } from '../../platform/context.ts'
import type { Queryable } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { PlanLine } from '../../platform/job.ts'
import type { LeftOut } from '../catalogue.ts'
import type { Manifest, ManifestFiles, ManifestObject } from '../manifest.ts'
import { Meter } from '../meter.ts'
import { type Sealing, writeObject } from '../object-stream.ts'
import { backupPolicy } from '../policy.ts'
import type { OnProgress } from '../progress.ts'
import { filesLeftOut } from '../supabase.ts'
import { type CollectLimits, collectFiles, type Outcome } from './collect-files.ts'
import { indexLine } from './index-lines.ts'
import { loadKnownFiles } from './known-files.ts'
import { type FileListing, listStorageFiles } from './listing.ts'
import { FileKeys, type FileReference, indexName, referenceLines, referencesKey, sealedForName } from './references.ts'
import { supabaseIfConfigured } from './storage-api.ts'

export interface PrefetchInput {
  /** The backup that follows, where its id is known: its end then ends this run's journal too. */
  id?: string
  onProgress?: OnProgress | undefined
  /** Asked before each file: true ends the run, and the next one goes on there. */
  shouldStop?: () => boolean
  /** Called before each file; throws to end the run with that error. */
  checkTime?: () => void
  limits?: Partial<CollectLimits>
}

/** A backup into a bucket that it backs up would grow without end. */
function refuseOwnStore(storeUrl: string, buckets: readonly string[]): void {
  const own = /^supabase:\/\/([^/]+)/.exec(storeUrl)?.[1]
  if (own !== undefined && buckets.includes(own))
    throw new CaretakerError('policy_invalid', `backup.buckets: "${own}" is where the backups are stored; remove it from the list.`)
}

/** Ends a run of downloads in good order. */
class Stopped extends Error {}

/**
 * Brings what is new in the policy's buckets into the store before a backup takes its snapshot, so that none is held open for as
 * long as files are on their way. Nothing depends on it: `storeFiles` fetches what is still missing.
 * @returns false when `shouldStop` ended it
 * @throws {CaretakerError} as `storeFiles` does
 */
export async function prefetchFiles(ctx: Context, input: PrefetchInput = {}): Promise<boolean> {
  const { buckets } = ctx.config.backup ?? {}
  const supabase = buckets === undefined || ctx.env.ENCRYPTION_KEY === undefined ? undefined : await supabaseIfConfigured(ctx)
  if (supabase === undefined) return true
  const store = await ctx.objects()
  refuseOwnStore(store.url, buckets ?? [])
  const { recipients } = backupPolicy(ctx)
  const listing = await ctx.db.transaction((tx) => listStorageFiles(tx, buckets), { isolation: 'repeatable read', readOnly: true })
  if (listing === null || listing.files.length === 0) return true
  try {
    await collectFiles(ctx.env, supabase, {
      id: input.id ?? `before-${randomBytes(8).toString('hex')}`,
      files: listing.files,
      sealing: { store, signal: ctx.signal },
      recipients,
      onProgress: input.onProgress,
      limits: input.limits,
      checkTime: () => {
        input.checkTime?.()
        if (input.shouldStop?.() === true) throw new Stopped()
      },
    })
    return true
  } catch (error) {
    if (error instanceof Stopped) return false
    throw error
  }
}

/** What a backup would fetch now, and which buckets it would not have. */
export async function planFiles(ctx: Context): Promise<PlanLine[]> {
  const { buckets } = ctx.config.backup ?? {}
  if (buckets === undefined || buckets.length === 0) return []
  const listing = await ctx.db.transaction((tx) => listStorageFiles(tx, buckets), { isolation: 'repeatable read', readOnly: true })
  if (listing === null) return []
  const configured = (await supabaseIfConfigured(ctx)) !== undefined
  const keys = new FileKeys(ctx.env)
  const known = keys.usable ? await loadKnownFiles(await ctx.objects(), sealedForName(backupPolicy(ctx).recipients)) : undefined
  const fresh = listing.files.filter((file) => known?.ofFile(keys.file(file)) === undefined)
  const warnings = [
    ...listing.leftOut.map(({ what, why }) => `${what}: ${why}`),
    ...(configured || listing.files.length === 0 ? [] : ['Without SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY no file is in the backup.']),
    ...(keys.usable || listing.files.length === 0 ? [] : ['Without ENCRYPTION_KEY every backup stores every file again.']),
  ]
  return [
    {
      action: `store new and changed files of ${listing.files.length}`,
      target: `buckets ${buckets.join(', ')}`,
      count: configured ? fresh.length : 0,
      unit: 'objects',
      ...(warnings.length === 0 ? {} : { warnings }),
    },
  ]
}

export interface StoreFilesInput {
  /** The backup these files belong to. */
  id: string
  /** How the backup's own objects are written: the index is sealed so. */
  sealing: Sealing
  /** What the rest of the backup leaves out. */
  leftOut: readonly LeftOut[]
  onProgress?: OnProgress | undefined
  limits?: Partial<CollectLimits>
}

export interface StoredFiles {
  /** To be listed in the manifest: the sealed index, and the references. */
  objects: ManifestObject[]
  /** For the manifest: empty where no file could be asked for. */
  files: Pick<Manifest, 'files'>
  leftOut: LeftOut[]
}

/**
 * The files of the policy's buckets as `snapshot`, a session in the backup's snapshot, lists them. Each is stored once,
 * whichever backups hold it; this backup gets a sealed index of its own.
 * @throws {CaretakerError} `backup_incomplete` naming the buckets and counts, never a file; `object_store_failed`
 */
export async function storeFiles(ctx: Context, snapshot: Queryable, input: StoreFilesInput): Promise<StoredFiles> {
  const { sealing } = input
  refuseOwnStore(sealing.store.url, ctx.config.backup?.buckets ?? [])
  const listing = await listStorageFiles(snapshot, ctx.config.backup?.buckets)
  if (listing === null) return { objects: [], files: {}, leftOut: [...input.leftOut] }
  const leftOut = [...input.leftOut.filter((left) => left.what !== filesLeftOut.what), ...listing.leftOut]
  if (listing.buckets.length === 0) return { objects: [], files: {}, leftOut }
  const supabase = await supabaseIfConfigured(ctx)
  if (supabase === undefined && listing.files.length > 0) {
    const why = 'SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY are not set: without them Storage gives no file.'
    const what = `${listing.files.length} files of the buckets ${listing.buckets.map((bucket) => bucket.id).join(', ')}`
    ctx.log.warn({ files: listing.files.length }, 'files are not in the backup: Supabase is not configured')
    return { objects: [], files: {}, leftOut: [...leftOut, { what, why }] }
  }
  const { recipients } = backupPolicy(ctx)
  const { id, onProgress, limits } = input
  const outcomes =
    supabase === undefined
      ? []
      : await collectFiles(ctx.env, supabase, { id, files: listing.files, sealing, recipients, onProgress, limits })
  const counts = count(listing, outcomes)
  const references = outcomes.flatMap((outcome) => (outcome === 'missing' ? [] : [outcome.reference]))
  const index = await writeObject(sealing, indexName, 'file-index', Readable.from(indexLines(listing, outcomes), { objectMode: false }))
  return {
    objects: [index, await writeReferences(sealing, sealedForName(recipients), references)],
    files: { files: { ...counts, index: index.key, references: referencesKey } },
    leftOut: [...leftOut, ...explain(counts, ctx.env.ENCRYPTION_KEY !== undefined)],
  }
}

type Counts = Omit<ManifestFiles, 'index' | 'references'>

function count(listing: FileListing, outcomes: readonly Outcome[]): Counts {
  const stored = outcomes.filter((outcome) => outcome !== 'missing')
  const objects = new Map(stored.map(({ reference }) => [reference.object, reference.bytes]))
  const fresh = new Map(stored.filter((outcome) => outcome.fresh).map(({ reference }) => [reference.object, reference.bytes]))
  return {
    buckets: listing.buckets.map((bucket) => bucket.id),
    count: stored.length,
    bytes: stored.reduce((sum, outcome) => sum + outcome.content.bytes, 0),
    storedBytes: [...objects.values()].reduce((sum, bytes) => sum + bytes, 0),
    newCount: fresh.size,
    newStoredBytes: [...fresh.values()].reduce((sum, bytes) => sum + bytes, 0),
    missing: outcomes.length - stored.length,
    changed: stored.filter((outcome) => outcome.changed).length,
  }
}

function explain({ missing, changed, count }: Counts, recognisable: boolean): LeftOut[] {
  return [
    ...(missing === 0
      ? []
      : [{ what: `${missing} files in Storage buckets`, why: 'They are listed in storage.objects, but Storage had no content for them.' }]),
    ...(changed === 0
      ? []
      : [
          {
            what: `the older content of ${changed} files`,
            why: 'They were overwritten between the snapshot and their download; the newer content is here.',
          },
        ]),
    ...(count === 0 || recognisable
      ? []
      : [
          {
            what: 'recognition of files that did not change',
            why: 'ENCRYPTION_KEY is not set: without it each backup fetches and stores every file again.',
          },
        ]),
  ]
}

function* indexLines({ buckets, files }: FileListing, outcomes: readonly Outcome[]): Generator<string, void, undefined> {
  for (const bucket of buckets) yield indexLine({ kind: 'bucket', ...bucket })
  for (const [at, file] of files.entries()) {
    const { bucket, name, mimetype, cacheControl, userMetadata, owner, etag, createdAt, updatedAt } = file
    const outcome = outcomes[at]
    if (outcome === undefined) continue
    if (outcome === 'missing') {
      yield indexLine({ kind: 'missing', bucket, name })
      continue
    }
    const { object } = outcome.reference
    const described = { mimetype, cacheControl, userMetadata, owner, etag, createdAt, updatedAt }
    yield indexLine({ kind: 'file', bucket, name, object, ...outcome.content, ...described, changed: outcome.changed })
  }
}

/** As it is, for those who hold no identity: prune, verify, and the next backup. */
async function writeReferences(sealing: Sealing, sealedFor: string, references: readonly FileReference[]): Promise<ManifestObject> {
  const meter = new Meter()
  const source = Readable.from(referenceLines(sealedFor, references), { objectMode: false })
  const info = await sealing.store.put(`${sealing.folder}${referencesKey}`, source.pipe(meter), {
    contentType: 'application/x-ndjson',
    signal: sealing.signal,
  })
  const { bytes, sha256 } = meter.measured()
  if (info.bytes !== bytes)
    throw new CaretakerError('object_store_failed', `${referencesKey}: the store holds ${info.bytes} bytes of ${bytes}.`)
  return { key: referencesKey, kind: 'document', bytes, sha256, contentBytes: bytes, contentSha256: sha256 }
}
