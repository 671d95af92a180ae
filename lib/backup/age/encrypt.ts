import { createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { CaretakerError } from '../../platform/errors.ts'
import { ChunkNonce, chunkBytes, nonceBytes, payloadKey, sealChunk, tagBytes } from './chunk.ts'
import { base64, x25519Key, x25519Stanza } from './x25519.ts'

interface Envelope {
  header: Uint8Array
  fileKey: Uint8Array
}

/** A header for `recipients` and the file key it wraps. */
async function sealFileKey(recipients: readonly string[]): Promise<Envelope> {
  const keys = recipients.map(x25519Key)
  if (!keys.every((key) => key !== null)) return sealForOthers(recipients)
  const fileKey = randomBytes(16)
  const stanzas = keys.map((key) => x25519Stanza(key, fileKey))
  const head = `age-encryption.org/v1\n${stanzas.join('')}---`
  const mac = createHmac('sha256', Buffer.from(hkdfSync('sha256', fileKey, Buffer.alloc(0), 'header', 32)))
    .update(head)
    .digest()
  return { header: Buffer.from(`${head} ${base64(mac)}\n`), fileKey }
}

/**
 * Recipients of all kinds that age-encryption knows. It writes the header; a recipient of our own, which adds no stanza, is how
 * the file key becomes known here.
 */
async function sealForOthers(recipients: readonly string[]): Promise<Envelope> {
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

/** An age file, written piece by piece. */
export interface AgeWriter {
  /** What there is of the file by now; `plain` is no longer needed then. */
  update(plain: Buffer): Buffer
  /** The rest of it. */
  end(): Buffer
}

/**
 * Writes an age file for all of `recipients`; `age -d` opens it.
 * @throws {CaretakerError} `invalid_input` for a recipient that is none, `not_configured` when there is none at all
 */
export async function encryptTo(recipients: readonly string[]): Promise<AgeWriter> {
  if (recipients.length === 0) throw new CaretakerError('not_configured', 'Nothing can be encrypted without a recipient.')
  const { header, fileKey } = await sealFileKey(recipients)
  const salt = randomBytes(nonceBytes)
  const key = payloadKey(fileKey, salt)
  const nonce = new ChunkNonce()
  const pending = Buffer.allocUnsafe(chunkBytes)
  let pendingBytes = 0
  let start = Buffer.concat([header, salt])

  function take(plain: Buffer, final: boolean): Buffer {
    const bytes = pendingBytes + plain.length
    // A full chunk waits until more comes: only the last chunk carries the final flag.
    const full = final ? 0 : Math.max(0, Math.ceil(bytes / chunkBytes) - 1)
    const out = Buffer.allocUnsafe(start.length + (final ? bytes + tagBytes : full * (chunkBytes + tagBytes)))
    let written = start.copy(out)
    start = Buffer.alloc(0)
    let at = 0
    for (let chunk = 0; chunk < full; chunk++) {
      const wanted = chunkBytes - pendingBytes
      let whole = plain.subarray(at, at + wanted)
      if (pendingBytes > 0) {
        whole.copy(pending, pendingBytes)
        whole = pending
        pendingBytes = 0
      }
      written += sealChunk(key, nonce.next(false), whole, out, written)
      at += wanted
    }
    pendingBytes += plain.copy(pending, pendingBytes, at)
    if (final) sealChunk(key, nonce.next(true), pending.subarray(0, pendingBytes), out, written)
    return out
  }

  return { update: (plain) => take(plain, false), end: () => take(Buffer.alloc(0), true) }
}
