import * as z from 'zod/mini'
import { CaretakerError } from '../../platform/errors.ts'
import type { ManifestObject } from '../manifest.ts'
import { Digest } from '../meter.ts'
import { type Opening, readObjectInto, type Sink } from '../object-stream.ts'

/*
 * The index of a backup's files: one JSON object a line, sealed to the recipients as the rows are, because names are personal
 * data. Buckets first, then files, then those that Storage listed and no longer had.
 */

const text = z.nullable(z.string())

const bucketSchema = z.strictObject({
  kind: z.literal('bucket'),
  id: z.string(),
  public: z.boolean(),
  fileSizeLimit: z.nullable(z.number()),
  allowedMimeTypes: z.nullable(z.array(z.string())),
})

const fileSchema = z.strictObject({
  kind: z.literal('file'),
  bucket: z.string(),
  name: z.string(),
  /** Where its content is in the store. */
  object: z.string(),
  /** Of the content. */
  bytes: z.number(),
  sha256: z.string(),
  mimetype: text,
  cacheControl: text,
  userMetadata: z.nullable(z.record(z.string(), z.unknown())),
  owner: text,
  etag: text,
  createdAt: text,
  updatedAt: text,
  /** Overwritten between the listing and the download: the content is newer than the rows. */
  changed: z.boolean(),
})

const missingSchema = z.strictObject({ kind: z.literal('missing'), bucket: z.string(), name: z.string() })

const lineSchema = z.discriminatedUnion('kind', [bucketSchema, fileSchema, missingSchema])

export type IndexLine = z.output<typeof lineSchema>
export type IndexedBucket = z.output<typeof bucketSchema>
export type IndexedFile = z.output<typeof fileSchema>

export function indexLine(line: IndexLine): string {
  return `${JSON.stringify(line)}\n`
}

/**
 * Reads the index, and gives its lines only when all of it is what its manifest says.
 * @throws {CaretakerError} `backup_corrupt`, `backup_identity`
 */
export async function readIndex(opening: Opening, object: ManifestObject): Promise<IndexLine[]> {
  const lines: IndexLine[] = []
  const digest = new Digest()
  let rest: Buffer = Buffer.alloc(0)
  const collect: Sink = async (from) => {
    for await (const chunk of from) {
      digest.update(chunk)
      const whole = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      const end = whole.lastIndexOf(10)
      rest = whole.subarray(end + 1)
      if (end > 0) for (const line of whole.toString('utf8', 0, end).split('\n')) lines.push(parse(line, object.key))
    }
  }
  await readObjectInto(opening, object, [collect])
  if (rest.length > 0 || digest.measured().sha256 !== object.contentSha256)
    throw new CaretakerError('backup_corrupt', `${object.key} does not hold what its manifest says.`)
  return lines
}

function parse(line: string, key: string): IndexLine {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    value = undefined
  }
  const parsed = lineSchema.safeParse(value)
  if (!parsed.success) throw new CaretakerError('backup_corrupt', `${key} was changed, or is of a version this release does not know.`)
  return parsed.data
}
