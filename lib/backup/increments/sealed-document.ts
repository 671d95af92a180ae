import { createHash } from 'node:crypto'
import type * as z from 'zod/mini'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'

/** The bytes of a document that says its own SHA-256: a changed bit anywhere in it is found when it is read. */
export function sealDocument(content: unknown): Buffer {
  const sha256 = createHash('sha256').update(JSON.stringify(content)).digest('hex')
  return Buffer.from(`${JSON.stringify({ sha256, content }, null, 1)}\n`)
}

/**
 * The content of a sealed document, or null where there is none.
 * @throws {CaretakerError} `backup_corrupt` when it is not as it was written
 */
export async function readSealedDocument<T>(
  store: ObjectStore,
  key: string,
  schema: z.ZodMiniType<T>,
): Promise<{ content: T; bytes: Buffer } | null> {
  const stream = await store.get(key)
  if (stream === null) return null
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  const bytes = Buffer.concat(chunks)
  const raw = parseJson(bytes)
  const parsed = schema.safeParse(raw)
  if (!parsed.success || !sealDocument(raw).equals(bytes))
    throw new CaretakerError('backup_corrupt', `${key} was changed, or is of a version this release does not know.`)
  return { content: parsed.data, bytes }
}

function parseJson(bytes: Buffer): unknown {
  try {
    return (JSON.parse(bytes.toString('utf8')) as { content?: unknown } | null)?.content
  } catch {
    return undefined
  }
}
