import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import * as z from 'zod/mini'
import type { Env } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { environmentCipher, type FieldCipher } from '../../platform/field-cipher.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import type { ListedFile } from './listing.ts'

/*
 * Which stored objects a backup's files are, in a form that the server may read: it holds no identity, and must know
 * what is stored already and what may be deleted. Nothing in it can be read back without ENCRYPTION_KEY: an object's name is
 * random, a file is a keyed hash of what Storage says of it, its content's hash is keyed or encrypted. See docs/decisions/0009.
 */

/** Where the contents of files are, shared by all backups of a store. */
export const filesPrefix = 'files/'
export const referencesKey = 'file-references.ndjson'
/** The sealed index of a backup's files, before its endings. */
export const indexName = 'files.ndjson'
const format = 'caretaker-files/1'

const headSchema = z.strictObject({
  format: z.literal(format),
  /** Changes with the recipients: what was sealed for others cannot be used again. */
  sealedFor: z.string(),
})

const referenceSchema = z.strictObject({
  object: z.string().check(z.regex(/^files\/[0-9a-f]{2}\/[0-9a-f]{32}\.zst(\.age)?$/)),
  /** As stored. */
  bytes: z.number(),
  sha256: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
  /** The file in the version that Storage had: a keyed hash. Null where it must not be taken for unchanged. */
  file: z.nullable(z.string()),
  /** The content: a keyed hash. */
  content: z.nullable(z.string()),
  /** Size and SHA-256 of the content, encrypted with ENCRYPTION_KEY and bound to all of the above. */
  sealed: z.nullable(z.string()),
})

export type FileReference = z.output<typeof referenceSchema>

/** What is encrypted in a reference. */
export interface FileContent {
  bytes: number
  sha256: string
}

/** Makes and reads references; without ENCRYPTION_KEY they can be made, and never be used again. */
export class FileKeys {
  readonly #cipher: FieldCipher | undefined

  constructor(env: Env) {
    this.#cipher = env.ENCRYPTION_KEY === undefined ? undefined : environmentCipher(env, 'Recognising stored files')
  }

  get usable(): boolean {
    return this.#cipher !== undefined
  }

  /** The same as long as Storage says the same of the file. */
  file(file: ListedFile): string | null {
    return this.#tag('backup-file', JSON.stringify([file.id, file.version, file.etag, file.size, file.updatedAt]))
  }

  content(content: FileContent): string | null {
    return this.#tag('backup-file-content', `${content.bytes}:${content.sha256}`)
  }

  reference(stored: { object: string; bytes: number; sha256: string }, file: string | null, content: FileContent): FileReference {
    const { object, bytes, sha256 } = stored
    const open = { object, bytes, sha256, file, content: this.content(content) }
    if (this.#cipher === undefined) return { ...open, sealed: null }
    const plain = Buffer.alloc(40)
    plain.writeBigUInt64BE(BigInt(content.bytes))
    plain.write(content.sha256, 8, 'hex')
    return { ...open, sealed: this.#cipher.seal(plain, bound(open)).toString('base64') }
  }

  /** Undefined for a reference that was made under another key, or changed. */
  open(reference: FileReference): FileContent | undefined {
    if (this.#cipher === undefined || reference.sealed === null) return undefined
    try {
      const plain = this.#cipher.open(Buffer.from(reference.sealed, 'base64'), bound(reference))
      return { bytes: Number(plain.readBigUInt64BE()), sha256: plain.subarray(8).toString('hex') }
    } catch {
      return undefined
    }
  }

  #tag(purpose: string, value: string): string | null {
    return this.#cipher?.tag(purpose, value).toString('base64url') ?? null
  }
}

function bound(reference: Omit<FileReference, 'sealed'>): string[] {
  const { object, bytes, sha256, file, content } = reference
  return ['backup-file', object, String(bytes), sha256, file ?? '', content ?? '']
}

/** The recipients, as a hash: equal only for equal ones. */
export function sealedForName(recipients: readonly string[] | null): string {
  if (recipients === null) return 'nobody'
  return createHash('sha256')
    .update([...recipients].sort().join('\n'))
    .digest('hex')
    .slice(0, 32)
}

/** The lines of a document of references. */
export function* referenceLines(sealedFor: string, references: Iterable<FileReference>): Generator<string, void, undefined> {
  yield `${JSON.stringify({ format, sealedFor })}\n`
  for (const reference of references) yield `${JSON.stringify(reference)}\n`
}

/**
 * Reads the references of the document under `key`, one at a time. With `sealedFor`, none of a document for others.
 * @returns false when there is no such document
 * @throws {CaretakerError} `backup_corrupt` for a document that is not as it was written
 */
export async function readReferences(
  store: ObjectStore,
  key: string,
  take: (reference: FileReference) => void,
  sealedFor?: string,
): Promise<boolean> {
  const stream = await store.get(key)
  if (stream === null) return false
  let head: z.output<typeof headSchema> | undefined
  await eachLine(stream, (line) => {
    if (head === undefined) {
      head = checked(headSchema, line, key)
      return sealedFor === undefined || head.sealedFor === sealedFor
    }
    take(checked(referenceSchema, line, key))
    return true
  })
  if (head === undefined) throw new CaretakerError('backup_corrupt', `${key} is empty.`)
  return true
}

/** Calls `take` for every line until it returns false. */
export async function eachLine(stream: Readable, take: (line: string) => boolean): Promise<void> {
  // readline does not pass on what goes wrong in its input.
  let failure: unknown
  stream.once('error', (error) => {
    failure = error
  })
  for await (const line of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }))
    if (!take(line)) {
      stream.destroy()
      break
    }
  if (failure !== undefined) throw failure
}

function checked<T>(schema: z.ZodMiniType<T>, line: string, key: string): T {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    value = undefined
  }
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw new CaretakerError('backup_corrupt', `${key} was changed, or is of a version this release does not know.`)
  return parsed.data
}
