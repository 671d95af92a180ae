import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto'
import { release } from '../release.ts'

/*
 * The payload of an age file: STREAM over ChaCha20-Poly1305 in chunks of 64 KiB.
 * https://github.com/C2SP/C2SP/blob/main/age.md#payload
 * age-encryption computes it in JavaScript at a thirteenth of the speed of OpenSSL, which is what node:crypto calls.
 */

export const chunkBytes = 64 * 1024
export const tagBytes = 16
export const nonceBytes = 16
const cipher = 'chacha20-poly1305'

/** The key of one file's payload, from its file key and the nonce that follows the header. */
export function payloadKey(fileKey: Uint8Array, nonce: Uint8Array): Buffer {
  return Buffer.from(hkdfSync('sha256', fileKey, nonce, 'payload', 32))
}

/** Counts chunks: eleven bytes, big-endian, and a last one that is 1 for the final chunk alone. */
export class ChunkNonce {
  readonly #bytes = Buffer.alloc(12)

  next(final: boolean): Buffer {
    const nonce = Buffer.from(this.#bytes)
    if (final) nonce[11] = 1
    for (let index = 10; index >= 0; index--) {
      const value = ((this.#bytes[index] ?? 0) + 1) & 0xff
      this.#bytes[index] = value
      if (value !== 0) break
    }
    return nonce
  }
}

/** Writes the sealed chunk to `out` at `at`. How many bytes it is. */
export function sealChunk(key: Buffer, nonce: Buffer, plain: Buffer, out: Buffer, at: number): number {
  const sealed = createCipheriv(cipher, key, nonce, { authTagLength: tagBytes })
  const body = sealed.update(plain)
  body.copy(out, at)
  release(body)
  sealed.final()
  sealed.getAuthTag().copy(out, at + plain.length)
  return plain.length + tagBytes
}

/** @throws when the chunk is not what was sealed under this key and nonce */
export function openChunk(key: Buffer, nonce: Buffer, sealed: Buffer): Buffer {
  const plainBytes = sealed.length - tagBytes
  const opened = createDecipheriv(cipher, key, nonce, { authTagLength: tagBytes })
  opened.setAuthTag(sealed.subarray(plainBytes))
  const plain = opened.update(sealed.subarray(0, plainBytes))
  opened.final()
  return plain
}
