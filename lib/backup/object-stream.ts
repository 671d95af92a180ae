import { ReadStream } from 'node:fs'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createZstdDecompress, type ZstdDecompress } from 'node:zlib'
import { CaretakerError, hasCode } from '../platform/errors.ts'
import type { ObjectInfo, ObjectStore } from '../platform/objects.ts'
import { AgeReader, encryptTo } from './age/index.ts'
import { Compressor, compress } from './compressor.ts'
import type { ManifestObject } from './manifest.ts'
import { Digest, type Measured, Meter } from './meter.ts'
import { Outlet, OutletClosed } from './outlet.ts'
import { release } from './release.ts'

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

const contentType = 'application/octet-stream'

export interface Framing {
  head: string
  tail: string
}

/** `.zst`, and `.age` where it is encrypted. */
export function sealedName(name: string, sealing: Pick<Sealing, 'recipients'>): string {
  return `${name}.zst${sealing.recipients === null ? '' : '.age'}`
}

/** What is stored: bytes, lent until the next are asked for. */
export interface ByteSource extends AsyncIterable<Buffer> {
  /** Ends it from outside, also while it is silent. */
  destroy(error?: Error): unknown
}

/** What ends before this is compressed in one go: no thread is asked for it, and nothing is set up that a larger object needs. */
const smallBytes = 64 * 1024

/**
 * Compresses, encrypts and stores what `source` gives. Nothing is held but a few chunks: a slow store slows the source
 * down. Resolves when the store has every byte.
 * @throws what failed first, the source or the store; what `sealing.signal` was aborted with
 */
export async function writeObject(
  sealing: Sealing,
  name: string,
  kind: ManifestObject['kind'],
  source: ByteSource,
  framing: Framing = { head: '', tail: '' },
  onBytes?: (bytes: number) => void,
): Promise<ManifestObject> {
  const key = sealedName(name, sealing)
  const { signal } = sealing
  const stop = () => source.destroy(signal.reason as Error)
  // Whoever reads it meets the error, too; until then it must not end the process.
  if (source instanceof Readable) source.on('error', () => undefined)
  signal.addEventListener('abort', stop, { once: true })
  const content = new Digest()
  try {
    if (signal.aborted) stop()
    const blocks = metered(source, content, onBytes)
    const start: Buffer[] = []
    let startBytes = 0
    let ended = false
    while (!ended && startBytes < smallBytes) {
      const next = await blocks.next()
      if (next.done === true) ended = true
      else {
        start.push(Buffer.from(next.value))
        startBytes += next.value.length
      }
    }
    const stored = ended
      ? await putWhole(sealing, key, Buffer.concat([Buffer.from(framing.head), ...start, Buffer.from(framing.tail)]))
      : await putStream(sealing, key, source, framed(framing, start, blocks))
    const whole = content.measured()
    return { key, kind, ...stored, contentBytes: whole.bytes, contentSha256: whole.sha256 }
  } catch (error) {
    // Source and store both end then, each with an error of its own.
    throw signal.aborted ? signal.reason : error
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

async function* metered(source: ByteSource, digest: Digest, onBytes?: (bytes: number) => void): AsyncGenerator<Buffer, void, undefined> {
  for await (const block of source) {
    digest.update(block)
    onBytes?.(block.length)
    yield block
  }
}

async function* framed(framing: Framing, start: readonly Buffer[], rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  if (framing.head !== '') yield Buffer.from(framing.head)
  yield* start
  yield* rest
  if (framing.tail !== '') yield Buffer.from(framing.tail)
}

async function putWhole(sealing: Sealing, key: string, content: Buffer): Promise<Measured> {
  const { recipients, signal } = sealing
  const compressed = compress(content)
  const age = recipients === null ? null : await encryptTo(recipients)
  const sealed = age === null ? compressed : Buffer.concat([age.update(compressed), age.end()])
  const digest = new Digest()
  digest.update(sealed)
  const info = await sealing.store.put(`${sealing.folder}${key}`, sealed, { contentType, signal })
  return asStored(key, info, digest)
}

async function putStream(sealing: Sealing, key: string, source: ByteSource, blocks: AsyncIterable<Buffer>): Promise<Measured> {
  const { recipients, signal } = sealing
  const outlet = new Outlet()
  outlet.on('error', () => undefined)
  const digest = new Digest()
  const compressor = new Compressor()
  let failure: { cause: unknown } | undefined
  const fail = (cause: unknown) => {
    // The other one ends for this reason, and says so too.
    if (failure !== undefined) return
    failure = { cause }
    const error = cause instanceof Error ? cause : new Error('stopped', { cause })
    source.destroy(error)
    outlet.destroy(error)
  }
  const seal = async () => {
    const age = recipients === null ? null : await encryptTo(recipients)
    const send = async (sealed: Buffer) => {
      digest.update(sealed)
      await outlet.send(sealed)
    }
    const pass = async (compressed: readonly Buffer[]) => {
      for (const chunk of compressed) await send(age === null ? Buffer.from(chunk) : age.update(chunk))
    }
    for await (const block of blocks) await pass(await compressor.update(block))
    await pass(await compressor.end())
    if (age !== null) await send(age.end())
    outlet.end()
  }
  try {
    const put = sealing.store.put(`${sealing.folder}${key}`, outlet, { contentType, signal })
    let whole = true
    const sealed = seal().catch((error: unknown) => {
      whole = false
      // A store that has stopped reading says itself why.
      if (!(error instanceof OutletClosed)) fail(error)
    })
    const [kept] = await Promise.allSettled([put, sealed, put.catch(fail)])
    if (failure !== undefined) throw failure.cause
    return asStored(key, whole && kept.status === 'fulfilled' ? kept.value : undefined, digest)
  } finally {
    compressor.destroy()
  }
}

/** What was sent, if that is what the store has. */
function asStored(key: string, info: ObjectInfo | undefined, digest: Digest): Measured {
  const sent = digest.measured()
  if (info?.bytes === sent.bytes) return sent
  throw new CaretakerError('object_store_failed', `${key}: the store holds ${info?.bytes ?? 0} bytes of ${sent.bytes}.`)
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
    for await (const chunk of from) {
      digest.update(chunk)
      if (from instanceof ReadStream) release(chunk as Buffer<ArrayBuffer>)
    }
  }
}

/** How objects of one backup are read. */
export interface Opening {
  store: ObjectStore
  folder: string
  encrypted: boolean
  /** Empty where the backup is not encrypted. */
  identities: readonly string[]
  /** Whose identities open it, for a message. */
  recipients?: readonly string[]
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
  const decompress = createZstdDecompress({ chunkSize: 128 * 1024 })
  let feeding: Promise<void> | undefined
  try {
    const rest = typeof stages === 'function' ? stages() : stages
    feeding = feed(source, opening.encrypted ? new AgeReader(opening.identities) : null, decompress).catch((error: Error) => {
      // Whoever reads from it meets the error.
      decompress.destroy(error)
    })
    await pipeline([decompress, ...rest] as never, { signal: opening.signal })
  } catch (error) {
    if (error instanceof Error && (error as NodeJS.ErrnoException).code?.startsWith('ZSTD_') === true)
      throw new CaretakerError('backup_corrupt', `${object.key} cannot be decompressed.`, { cause: error })
    const { recipients = [] } = opening
    if (hasCode(error, 'backup_identity') && recipients.length > 0)
      throw new CaretakerError('backup_identity', `${error.detail} What opens it: the identity of ${recipients.join(', or of ')}.`, {
        cause: error,
      })
    throw error
  } finally {
    source.destroy()
    await feeding
  }
}

/** Memory that nobody else has is given back as soon as it has been read: a file's, and what was decrypted. */
async function feed(source: Readable, age: AgeReader | null, decompress: ZstdDecompress): Promise<void> {
  let interrupt: (error: Error) => void = () => undefined
  // Closed while it waits for a reader, it does not say what became of the write.
  decompress.once('close', () => interrupt(new Error('the reader has stopped')))
  const write = (chunk: Buffer) =>
    new Promise<void>((done, fail) => {
      interrupt = fail
      decompress.write(chunk, (error) => (error == null ? done() : fail(error)))
    })
  const pass = async (plain: Iterable<Buffer>) => {
    for (const chunk of plain) {
      await write(chunk)
      release(chunk as Buffer<ArrayBuffer>)
    }
  }
  for await (const chunk of source as AsyncIterable<Buffer<ArrayBuffer>>) {
    if (age === null) await write(chunk)
    else await pass(age.open(age.begun ? chunk : await age.begin(chunk)))
    if (source instanceof ReadStream) release(chunk)
  }
  if (age !== null) await pass(age.end())
  decompress.end()
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
