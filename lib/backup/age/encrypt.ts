import { randomBytes } from 'node:crypto'
import { Transform, type TransformCallback } from 'node:stream'
import { CaretakerError } from '../../platform/errors.ts'
import { ChunkNonce, chunkBytes, nonceBytes, payloadKey, sealChunk, tagBytes } from './chunk.ts'

interface Envelope {
  header: Uint8Array
  fileKey: Uint8Array
}

/**
 * A header for `recipients` and the file key it wraps. age-encryption writes the header; a recipient of our own, which
 * adds no stanza, is how the file key becomes known here.
 */
async function sealFileKey(recipients: readonly string[]): Promise<Envelope> {
  const { Encrypter } = await import('age-encryption')
  const encrypter = new Encrypter()
  let fileKey: Uint8Array | undefined
  for (const recipient of recipients) {
    try {
      encrypter.addRecipient(recipient)
    } catch {
      throw new CaretakerError('invalid_input', `"${recipient}" is not an age recipient; expected "age1" and 58 characters.`)
    }
  }
  encrypter.addRecipient({
    wrapFileKey(key) {
      fileKey = key.slice()
      return []
    },
  })
  const empty = await encrypter.encrypt(new Uint8Array())
  if (fileKey === undefined) throw new CaretakerError('internal', 'The age header was made without a file key.')
  // What follows the header is a nonce and an empty chunk; both are made anew for the real payload.
  return { header: empty.subarray(0, empty.length - nonceBytes - tagBytes), fileKey }
}

/**
 * A stream that turns what is written to it into an age file for all of `recipients`; `age -d` opens it.
 * @throws {CaretakerError} `invalid_input` for a recipient that is none, `not_configured` when there is none at all
 */
export async function encryptTo(recipients: readonly string[]): Promise<Transform> {
  if (recipients.length === 0) throw new CaretakerError('not_configured', 'Nothing can be encrypted without a recipient.')
  const envelope = await sealFileKey(recipients)
  const nonce = randomBytes(nonceBytes)
  return new AgeEncrypt(envelope.header, nonce, payloadKey(envelope.fileKey, nonce))
}

class AgeEncrypt extends Transform {
  readonly #key: Buffer
  readonly #nonce = new ChunkNonce()
  readonly #pending = Buffer.allocUnsafe(chunkBytes)
  #pendingBytes = 0

  constructor(header: Uint8Array, nonce: Buffer, key: Buffer) {
    super()
    this.#key = key
    this.push(Buffer.concat([header, nonce]))
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    let at = 0
    while (at < chunk.length) {
      // A full chunk waits until more comes: only the last chunk carries the final flag.
      if (this.#pendingBytes === chunkBytes) this.#seal(false)
      const taken = chunk.copy(this.#pending, this.#pendingBytes, at, at + chunkBytes - this.#pendingBytes)
      this.#pendingBytes += taken
      at += taken
    }
    done()
  }

  override _flush(done: TransformCallback): void {
    this.#seal(true)
    done()
  }

  #seal(final: boolean): void {
    this.push(sealChunk(this.#key, this.#nonce.next(final), this.#pending.subarray(0, this.#pendingBytes)))
    this.#pendingBytes = 0
  }
}
