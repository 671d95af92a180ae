import { Transform, type TransformCallback } from 'node:stream'
import { CaretakerError } from '../../platform/errors.ts'
import { ChunkNonce, chunkBytes, nonceBytes, openChunk, payloadKey, tagBytes } from './chunk.ts'

const sealedBytes = chunkBytes + tagBytes
/** A header holds a stanza a recipient, about 100 bytes each; what is longer is not one of ours. */
const maxHeaderBytes = 1024 * 1024

/**
 * The keys of an identity file as `age-keygen` writes it: one a line, `#` starts a comment.
 * @throws {CaretakerError} `backup_identity` when there is none
 */
export function parseIdentities(text: string): string[] {
  const identities = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  if (identities.length === 0 || !identities.every((line) => /^AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]+$/.test(line)))
    throw new CaretakerError(
      'backup_identity',
      `The identity file holds no usable age identity; expected a line that starts with "AGE-SECRET-KEY-1".${whatItIs(text)}`,
    )
  return identities
}

/** What people give instead of an identity, and what to do about it. */
function whatItIs(text: string): string {
  if (/^(?:-----BEGIN AGE ENCRYPTED FILE-----|age-encryption\.org\/v1)/.test(text))
    return ' It is encrypted itself, with a passphrase perhaps: open it with `age -d -o identity.txt FILE` and give identity.txt.'
  if (/^-----BEGIN [A-Z ]*PRIVATE KEY-----/m.test(text)) return ' It holds an SSH key, and backups are not made for those.'
  if (text.includes('\0')) return ' It is in UTF-16, as some Windows tools write it: save it as UTF-8.'
  if (/^age1[0-9a-z]+\s*$/m.test(text)) return ' It holds the recipient, which closes backups; what opens them is the other half.'
  return ''
}

/**
 * A stream that turns an age file into what was encrypted. Nothing of a chunk is given out before it is authenticated,
 * and a file that ends early is an error, never a short result.
 * @throws {CaretakerError} through the stream: `backup_identity` when no identity opens the file, `backup_corrupt` when
 * header or payload are not what was written
 */
export function decryptWith(identities: readonly string[]): Transform {
  return new AgeDecrypt(identities)
}

class AgeDecrypt extends Transform {
  readonly #reader: AgeReader

  constructor(identities: readonly string[]) {
    super()
    this.#reader = new AgeReader(identities)
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (this.#reader.begun) this.#pass(() => this.#reader.open(chunk), done)
    else
      this.#reader.begin(chunk).then(
        (rest) => this.#pass(() => this.#reader.open(rest), done),
        (error: Error) => done(error),
      )
  }

  override _flush(done: TransformCallback): void {
    this.#pass(() => this.#reader.end(), done)
  }

  #pass(plain: () => Iterable<Buffer>, done: TransformCallback): void {
    try {
      for (const chunk of plain()) this.push(chunk)
      done()
    } catch (error) {
      done(error as Error)
    }
  }
}

/** The same, driven by hand: `begin` until it has begun, then `open`, and `end`. What it gives is the caller's, each in memory of its own. */
export class AgeReader {
  readonly #identities: readonly string[]
  readonly #nonce = new ChunkNonce()
  #key: Buffer | undefined
  #start: Buffer = Buffer.alloc(0)
  readonly #pending = Buffer.allocUnsafe(sealedBytes)
  #pendingBytes = 0
  #first = true

  constructor(identities: readonly string[]) {
    this.#identities = identities
  }

  /** The header has been read. */
  get begun(): boolean {
    return this.#key !== undefined
  }

  /** Takes what belongs to the header. What of `chunk` does not is for `open`. */
  async begin(chunk: Buffer): Promise<Buffer> {
    this.#start = Buffer.concat([this.#start, chunk])
    const mac = this.#start.indexOf('\n--- ')
    const end = mac < 0 ? -1 : this.#start.indexOf('\n', mac + 1)
    if (end < 0) {
      if (this.#start.length > maxHeaderBytes) throw corrupt('has no header')
      return Buffer.alloc(0)
    }
    if (this.#start.length < end + 1 + nonceBytes) return Buffer.alloc(0)
    const fileKey = await this.#fileKey(this.#start.subarray(0, end + 1))
    this.#key = payloadKey(fileKey, this.#start.subarray(end + 1, end + 1 + nonceBytes))
    const rest = this.#start.subarray(end + 1 + nonceBytes)
    this.#start = Buffer.alloc(0)
    return rest
  }

  async #fileKey(header: Buffer): Promise<Uint8Array> {
    const { Decrypter } = await import('age-encryption')
    const decrypter = new Decrypter()
    try {
      for (const identity of this.#identities) decrypter.addIdentity(identity)
    } catch (cause) {
      throw new CaretakerError('backup_identity', 'The identity is malformed; expected "AGE-SECRET-KEY-1" and 58 characters.', { cause })
    }
    try {
      return await decrypter.decryptHeader(header)
    } catch (cause) {
      if (cause instanceof Error && cause.message.startsWith('no identity matched'))
        throw new CaretakerError('backup_identity', 'The identity does not open this file: it was encrypted to another recipient.', {
          cause,
        })
      throw corrupt('has a header that was changed', cause)
    }
  }

  /** What can be told of `chunk` by now. */
  *open(chunk: Buffer): Generator<Buffer, void, undefined> {
    let at = 0
    while (at < chunk.length) {
      if (this.#pendingBytes === sealedBytes && this.#key !== undefined) {
        yield* this.#open(false, this.#key)
        this.#first = false
        this.#pendingBytes = 0
      }
      const taken = chunk.copy(this.#pending, this.#pendingBytes, at, at + sealedBytes - this.#pendingBytes)
      this.#pendingBytes += taken
      at += taken
    }
  }

  /** The last of it. */
  *end(): Generator<Buffer, void, undefined> {
    if (this.#key === undefined) throw corrupt('ends inside the header')
    if (this.#pendingBytes < tagBytes) throw corrupt('ends inside a chunk')
    for (const plain of this.#open(true, this.#key)) {
      if (plain.length === 0 && !this.#first) throw corrupt('ends with an empty chunk')
      yield plain
    }
  }

  /** A chunk that stands at the wrong place is authentic all the same: it is given out, as age does, and the place is what is wrong. */
  *#open(final: boolean, key: Buffer): Generator<Buffer, void, undefined> {
    const sealed = this.#pending.subarray(0, this.#pendingBytes)
    const nonce = this.#nonce.next(final)
    const plain = openOrNot(key, nonce, sealed)
    if (plain !== undefined) {
      yield plain
      return
    }
    nonce[11] = final ? 0 : 1
    const misplaced = final && this.#pendingBytes < sealedBytes ? undefined : openOrNot(key, nonce, sealed)
    if (misplaced === undefined) throw corrupt('was changed or cut off')
    yield misplaced
    throw corrupt(final ? 'was cut off between two chunks' : 'has something behind its end')
  }
}

function openOrNot(key: Buffer, nonce: Buffer, sealed: Buffer): Buffer | undefined {
  try {
    return openChunk(key, nonce, sealed)
  } catch {
    return undefined
  }
}

function corrupt(what: string, cause?: unknown): CaretakerError {
  return new CaretakerError('backup_corrupt', `An encrypted object ${what}.`, cause === undefined ? {} : { cause })
}
