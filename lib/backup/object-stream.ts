import type { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib'
import { CaretakerError } from '../platform/errors.ts'
import type { ObjectStore } from '../platform/objects.ts'
import { decryptWith, encryptTo } from './age/index.ts'
import type { ManifestObject } from './manifest.ts'
import { Digest, Frame, Meter } from './meter.ts'

/** How objects of one backup are written: to which folder, for whom. */
export interface Sealing {
  store: ObjectStore
  /** `backups/ID/`. */
  folder: string
  /** null: the policy says `encryption: "none"`. */
  recipients: readonly string[] | null
  /** The one among the recipients that is this backup's drill, if there is one. */
  drillRecipient?: string | null
  signal: AbortSignal
}

export interface Framing {
  head: string
  tail: string
}

// Level 1 takes half the time of level 3 and gives 1 to 12 % more; gzip -6, which pg_dump uses, gives 20 % more and takes ten times as long.
const compression = { params: { [constants.ZSTD_c_compressionLevel]: 1 }, chunkSize: 128 * 1024 }

/** `.zst`, and `.age` where it is encrypted. */
export function sealedName(name: string, sealing: Pick<Sealing, 'recipients'>): string {
  return `${name}.zst${sealing.recipients === null ? '' : '.age'}`
}

/**
 * Compresses, encrypts and stores what `source` gives. Nothing is held but the stream's own buffers: a slow store
 * slows the source down. Resolves when the store has every byte.
 */
export async function writeObject(
  sealing: Sealing,
  name: string,
  kind: ManifestObject['kind'],
  source: Readable,
  framing: Framing = { head: '', tail: '' },
  onBytes?: (bytes: number) => void,
): Promise<ManifestObject> {
  const key = sealedName(name, sealing)
  const content = new Meter(onBytes)
  const stored = new Meter()
  const stages = [content, new Frame(framing.head, framing.tail), createZstdCompress(compression)]
  const encrypt = sealing.recipients === null ? [] : [await encryptTo(sealing.recipients)]
  const put = sealing.store.put(`${sealing.folder}${key}`, stored, { contentType: 'application/octet-stream', signal: sealing.signal })
  const failures: unknown[] = []
  const noted = (error: unknown) => {
    failures.push(error)
    // A store that gives up must end the source too, which would otherwise wait for a reader for ever.
    if (!stored.destroyed) stored.destroy(error as Error)
  }
  const flow = pipeline([source, ...stages, ...encrypt, stored], { signal: sealing.signal })
  const [, kept] = await Promise.allSettled([flow.catch(noted), put.catch(noted)])
  if (failures.length > 0) throw failures.find((error) => !isConsequence(error)) ?? failures[0]
  const info = kept.status === 'fulfilled' ? kept.value : undefined
  const measured = stored.measured()
  if (info?.bytes !== measured.bytes)
    throw new CaretakerError('object_store_failed', `${key}: the store holds ${info?.bytes ?? 0} bytes of ${measured.bytes}.`)
  const whole = content.measured()
  return { key, kind, ...measured, contentBytes: whole.bytes, contentSha256: whole.sha256 }
}

/** True for the errors with which the streams around the one that failed are ended. */
function isConsequence(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  return code === 'ERR_STREAM_PREMATURE_CLOSE' || code === 'ABORT_ERR' || code === 'ERR_STREAM_UNABLE_TO_PIPE'
}

/** A text kept as it is, for people: RESTORE.md and its script. */
export async function writeDocument(sealing: Sealing, key: string, text: string): Promise<ManifestObject> {
  const bytes = Buffer.from(text)
  const digest = new Digest()
  digest.update(bytes)
  await sealing.store.put(`${sealing.folder}${key}`, bytes, { contentType: 'text/plain', signal: sealing.signal })
  const measured = digest.measured()
  return { key, kind: 'document', ...measured, contentBytes: measured.bytes, contentSha256: measured.sha256 }
}

/** What takes the last of a pipeline's bytes. */
export type Sink = (from: AsyncIterable<Buffer>) => Promise<void>

/** Hashes and keeps nothing. */
export function digestSink(digest: Digest): Sink {
  return async (from) => {
    for await (const chunk of from) digest.update(chunk)
  }
}

/** How objects of one backup are read. */
export interface Opening {
  store: ObjectStore
  folder: string
  encrypted: boolean
  /** Empty where the backup is not encrypted. */
  identities: readonly string[]
  signal: AbortSignal
}

type Stages = readonly (NodeJS.ReadWriteStream | Writable | Sink)[]

/**
 * Reads an object through decryption and decompression into `stages`; the last of them takes it. A function is called when
 * the store has given the object.
 */
export async function readObjectInto(
  opening: Opening,
  object: Pick<ManifestObject, 'key'>,
  stages: Stages | (() => Stages),
): Promise<void> {
  const source = await opening.store.get(`${opening.folder}${object.key}`, { signal: opening.signal })
  if (source === null) throw new CaretakerError('backup_corrupt', `${object.key} is missing from the backup.`)
  const decrypt = opening.encrypted ? [decryptWith(opening.identities)] : []
  try {
    const rest = typeof stages === 'function' ? stages() : stages
    await pipeline([source, ...decrypt, createZstdDecompress({ chunkSize: 128 * 1024 }), ...rest] as never, { signal: opening.signal })
  } catch (error) {
    if (error instanceof Error && (error as NodeJS.ErrnoException).code?.startsWith('ZSTD_') === true)
      throw new CaretakerError('backup_corrupt', `${object.key} cannot be decompressed.`, { cause: error })
    throw error
  }
}

/** A whole object as text: schemas, which fit in memory. Its hash is checked. */
export async function readObjectText(opening: Opening, object: ManifestObject): Promise<string> {
  const chunks: Buffer[] = []
  const plain = new Meter()
  const collect: Sink = async (from) => {
    for await (const chunk of from) chunks.push(chunk)
  }
  await readObjectInto(opening, object, [plain, collect])
  if (plain.measured().sha256 !== object.contentSha256)
    throw new CaretakerError('backup_corrupt', `${object.key} does not hold what its manifest says.`)
  return Buffer.concat(chunks).toString('utf8')
}
