import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { parseIdentities } from './age/index.ts'
import { type VerifiedFiles, verifyFiles } from './files/verify-files.ts'
import { framingOf } from './framing.ts'
import { backupFolder, type Manifest, type ManifestObject } from './manifest.ts'
import { Digest, Unframe } from './meter.ts'
import { digestSink, type Opening, readObjectInto } from './object-stream.ts'
import type { OnProgress } from './progress.ts'
import { type BackupChoice, selectBackup } from './select-backup.ts'

/** With `identity`, the text of an identity file, the contents are opened too. */
export interface VerifyInput extends BackupChoice {
  onProgress?: OnProgress
}

export interface VerifyReport {
  id: string
  createdAt: string
  objects: number
  storedBytes: number
  tables: number
  rows: number
  /** Of Storage buckets; null where the backup has none. They were checked as the rest was. */
  files: VerifiedFiles | null
  /** The public key it was signed with, which was found to be one to believe; null for one that is not signed. */
  signer: string | null
  /** `stored`: every object is there, bit for bit. `content`: and every one was opened, and holds what was dumped. */
  checked: 'stored' | 'content'
}

/**
 * Reads every object of a backup and holds it against the manifest. Without an identity that proves the stored bytes,
 * with one (or without encryption) what is in them, too.
 * @throws {CaretakerError} `backup_corrupt` naming the object, `backup_untrusted`, `backup_identity`, `object_missing`
 */
export async function verifyBackup(ctx: Context, input: VerifyInput): Promise<VerifyReport> {
  const store = await ctx.objects()
  const manifest = await selectBackup(ctx, store, input)
  const { id } = manifest
  const opening = openBackup(ctx, store, manifest, input.identity)
  await checkObjects(opening, manifest.objects, input.onProgress)
  const content = manifest.encryption.kind === 'none' || opening.identities.length > 0
  if (content) await checkContents(opening, manifest, input.onProgress)
  const files = await verifyFiles(opening, manifest, { content, onProgress: input.onProgress })
  return {
    id,
    createdAt: manifest.createdAt,
    objects: manifest.objects.length,
    storedBytes: manifest.objects.reduce((sum, object) => sum + object.bytes, 0),
    tables: manifest.tables.length,
    rows: manifest.tables.reduce((sum, table) => sum + table.rows, 0),
    files,
    signer: manifest.signer ?? null,
    checked: content ? 'content' : 'stored',
  }
}

/** How the objects of `manifest` are read, with what an identity file holds. */
export function openBackup(
  ctx: Pick<Context, 'signal'>,
  store: Opening['store'],
  manifest: Manifest,
  identity: string | undefined,
): Opening {
  const { encryption } = manifest
  const encrypted = encryption.kind === 'age'
  return {
    store,
    folder: backupFolder(manifest.id),
    encrypted,
    ...(encrypted ? { recipients: encryption.recipients } : {}),
    identities: encrypted && identity !== undefined ? parseIdentities(identity) : [],
    signal: ctx.signal,
  }
}

/** Every stored byte against its hash, four objects at a time: the network is what this waits for. */
export async function checkObjects(opening: Opening, objects: readonly ManifestObject[], onProgress?: OnProgress): Promise<void> {
  await checkEach(opening, objects, 4, onProgress, (object) => object.bytes, checkStored)
}

async function checkContents(opening: Opening, manifest: Manifest, onProgress?: OnProgress): Promise<void> {
  const sealed = manifest.objects.filter((object) => object.kind !== 'document')
  await checkEach(
    opening,
    sealed,
    2,
    onProgress,
    (object) => object.contentBytes,
    (reading, object) => checkContent(reading, manifest, object),
  )
}

async function checkEach(
  opening: Opening,
  objects: readonly ManifestObject[],
  atOnce: number,
  onProgress: OnProgress | undefined,
  sizeOf: (object: ManifestObject) => number,
  check: (opening: Opening, object: ManifestObject) => Promise<void>,
): Promise<void> {
  const totalBytes = objects.reduce((sum, object) => sum + sizeOf(object), 0)
  const waiting = [...objects]
  let doneBytes = 0
  let failed = false
  const readers = Array.from({ length: atOnce }, async () => {
    for (let object = waiting.shift(); object !== undefined && !failed; object = waiting.shift()) {
      try {
        await check(opening, object)
      } catch (error) {
        failed = true
        throw error
      }
      doneBytes += sizeOf(object)
      onProgress?.({ phase: 'check', what: object.key, doneBytes, totalBytes })
    }
  })
  for (const outcome of await Promise.allSettled(readers)) if (outcome.status === 'rejected') throw outcome.reason
}

async function checkStored(opening: Opening, object: ManifestObject): Promise<void> {
  const stream = await opening.store.get(`${opening.folder}${object.key}`, { signal: opening.signal })
  if (stream === null) throw new CaretakerError('backup_corrupt', `${object.key} is missing from the backup.`)
  const digest = new Digest()
  await digestSink(digest)(stream)
  const found = digest.measured()
  if (found.bytes !== object.bytes)
    throw new CaretakerError('backup_corrupt', `${object.key} has ${found.bytes} bytes; its manifest says ${object.bytes}.`)
  if (found.sha256 !== object.sha256)
    throw new CaretakerError('backup_corrupt', `${object.key} was changed after it was written (SHA-256 differs).`)
}

async function checkContent(opening: Opening, manifest: Manifest, object: ManifestObject): Promise<void> {
  const { head, tail } = framingOf(manifest, object)
  const digest = new Digest()
  await readObjectInto(opening, object, [new Unframe(head, tail), digestSink(digest)])
  const found = digest.measured()
  if (found.bytes !== object.contentBytes || found.sha256 !== object.contentSha256)
    throw new CaretakerError('backup_corrupt', `${object.key} does not hold what its manifest says.`)
}
