import { createHash, randomUUID } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream as NodeReadableStream } from 'node:stream/web'
import type { Row } from '../../lib/platform/db.ts'
import type { Bucket } from './buckets.ts'
import { type Ground, Refusal } from './reply.ts'

export interface StoredObject extends Row {
  id: string
  bucket_id: string
  name: string
  version: string | null
  metadata: Record<string, unknown> | null
  created_at: Date | null
  updated_at: Date | null
}

/** Storage answers 400 to nearly everything and puts the status it means into the body; so does this. */
export function storageProblem(meant: number, code: string, error: string, message: string): Refusal {
  return new Refusal(meant === 500 ? 500 : 400, { statusCode: String(meant), error, message, code })
}

export interface StoredFile {
  version: string
  metadata: Record<string, unknown>
  /** JSON, or null. */
  userMetadata: string | null
}

/** Writes the request's file to disk, whole or not at all. No row points at it yet. */
export async function storeFile(ground: Ground, request: Request, bucket: Bucket): Promise<StoredFile> {
  const { body, mimetype, cacheControl, userMetadata } = await fileOf(request)
  const limit = Number(bucket.file_size_limit ?? 50_000_000)
  const allowed = bucket.allowed_mime_types
  if (
    allowed !== null &&
    allowed.length > 0 &&
    !allowed.some((type) => type === mimetype || (type.endsWith('/*') && mimetype.startsWith(type.slice(0, -1))))
  )
    throw storageProblem(415, 'InvalidMimeType', 'invalid_mime_type', `mime type ${mimetype} is not supported`)
  const version = randomUUID()
  const path = join(ground.filesDirectory, version)
  await mkdir(ground.filesDirectory, { recursive: true })
  const hash = createHash('md5')
  let bytes = 0
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.byteLength
      hash.update(chunk)
      if (bytes > limit) done(storageProblem(413, 'EntityTooLarge', 'Payload too large', 'The object exceeded the maximum allowed size'))
      else done(null, chunk)
    },
  })
  try {
    await pipeline(body, measure, createWriteStream(`${path}.part`))
    await rename(`${path}.part`, path)
  } catch (error) {
    await rm(`${path}.part`, { force: true })
    throw error
  }
  const metadata = {
    eTag: `"${hash.digest('hex')}"`,
    size: bytes,
    mimetype,
    cacheControl,
    lastModified: ground.clock.now().toISOString(),
    contentLength: bytes,
    httpStatusCode: 200,
  }
  return { version, metadata, userMetadata }
}

/** supabase-js sends a form for a Blob and the bare bytes for a buffer or a stream. */
async function fileOf(request: Request): Promise<{ body: Readable; mimetype: string; cacheControl: string; userMetadata: string | null }> {
  const type = request.headers.get('content-type') ?? 'application/octet-stream'
  if (type.startsWith('multipart/form-data')) {
    const form = await request.formData()
    const file = [...form.values()].find((value) => typeof value !== 'string')
    if (file === undefined) throw storageProblem(400, 'InvalidRequest', 'Error', 'The form has no file')
    const seconds = form.get('cacheControl')
    return {
      body: Readable.from(Buffer.from(await file.arrayBuffer()), { objectMode: false }),
      mimetype: file.type === '' ? 'application/octet-stream' : file.type,
      cacheControl: typeof seconds === 'string' ? `max-age=${seconds}` : 'no-cache',
      userMetadata: asJson(form.get('metadata')),
    }
  }
  const metadata = request.headers.get('x-metadata')
  return {
    body: request.body === null ? Readable.from([]) : Readable.fromWeb(request.body as NodeReadableStream),
    mimetype: type,
    cacheControl: request.headers.get('cache-control') ?? 'no-cache',
    userMetadata: asJson(metadata === null ? null : Buffer.from(metadata, 'base64').toString()),
  }
}

function asJson(value: unknown): string | null {
  if (typeof value !== 'string') return null
  try {
    return JSON.stringify(JSON.parse(value))
  } catch {
    throw storageProblem(400, 'InvalidRequest', 'Error', 'The metadata is not JSON')
  }
}

/** The object's bytes, or null when they are gone. */
export async function openFile(
  directory: string,
  object: Pick<StoredObject, 'version'>,
): Promise<{ bytes: number; body: ReadableStream<Uint8Array> } | null> {
  const path = join(directory, String(object.version))
  const found = await stat(path).catch(() => null)
  if (found === null) return null
  return { bytes: found.size, body: Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array> }
}

export async function deleteFiles(directory: string, objects: readonly { version: string | null }[]): Promise<void> {
  for (const { version } of objects) if (version !== null) await rm(join(directory, version), { force: true })
}
