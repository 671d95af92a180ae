import { createHash } from 'node:crypto'
import type * as z from 'zod/mini'
import { CaretakerError } from '../platform/errors.ts'
import type { ObjectStore } from '../platform/objects.ts'
import type { Signer } from './signing/index.ts'
import { verifyBytes } from './signing/ssh-signature.ts'

const namespace = 'caretaker-document'

/**
 * The bytes of a document that says its own SHA-256, so that a changed bit anywhere in it is found when it is read, and that carries
 * the writer's signature where there is one. `content` says by its `format` what it is: no document can pass for one of another kind.
 */
export function signDocument(content: { format: string }, signer: Signer | null): Buffer {
  const text = JSON.stringify(content)
  return layOut(
    content,
    text,
    signer === null ? null : { key: signer.publicKey, value: signer.sign(namespace, Buffer.from(text)).toString('base64') },
  )
}

export interface SignedDocument<T> {
  content: T
  bytes: Buffer
  /** The public key it was signed with; null for one that is not signed. */
  signer: string | null
}

/**
 * A document, or null where there is none. Whether its signer is one to believe is for the caller to ask.
 * @throws {CaretakerError} `backup_corrupt` when it is not as it was written
 */
export async function readSignedDocument<T>(store: ObjectStore, key: string, schema: z.ZodMiniType<T>): Promise<SignedDocument<T> | null> {
  const stream = await store.get(key)
  if (stream === null) return null
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return parseSignedDocument(Buffer.concat(chunks), key, schema)
}

/** The same of bytes that were read already; `key` is for the message. */
export function parseSignedDocument<T>(bytes: Buffer, key: string, schema: z.ZodMiniType<T>): SignedDocument<T> {
  const { content, signature } = parse(bytes)
  const parsed = schema.safeParse(content)
  const text = JSON.stringify(content)
  const asWritten = parsed.success && layOut(content, text, signature).equals(bytes)
  const signed = signature === null || verifyBytes(signature.key, namespace, Buffer.from(text), Buffer.from(signature.value, 'base64'))
  if (!parsed.success || !asWritten || !signed)
    throw new CaretakerError('backup_corrupt', `${key} was changed, or is of a version this release does not know.`)
  return { content: parsed.data, bytes, signer: signature?.key ?? null }
}

interface Signature {
  key: string
  /** Base64. */
  value: string
}

function layOut(content: unknown, text: string, signature: Signature | null): Buffer {
  const sha256 = createHash('sha256').update(text).digest('hex')
  const head = signature === null ? { sha256 } : { sha256, signer: signature.key, signature: signature.value }
  return Buffer.from(`${JSON.stringify({ ...head, content }, null, 1)}\n`)
}

function parse(bytes: Buffer): { content: unknown; signature: Signature | null } {
  try {
    const { content, signer, signature } = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>
    const whole = typeof signer === 'string' && typeof signature === 'string' && isCanonical(signer) && isCanonical(signature)
    return { content, signature: whole ? { key: signer, value: signature } : null }
  } catch {
    return { content: undefined, signature: null }
  }
}

/** Base64 has more than one spelling of the same bytes; only one is what was written. */
function isCanonical(base64: string): boolean {
  return Buffer.from(base64, 'base64').toString('base64') === base64
}
