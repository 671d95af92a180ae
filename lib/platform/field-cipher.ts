import { createCipheriv, createDecipheriv, createHmac, createSecretKey, hkdfSync, randomBytes } from 'node:crypto'
import { type Env, requireEnv } from './env.ts'
import { CaretakerError } from './errors.ts'

/** Encrypts single values before they are stored, under keys derived from ENCRYPTION_KEY. */
export interface FieldCipher {
  /**
   * The value encrypted and authenticated, together with `context`: where it belongs (`['inbox', 'stripe', 'evt_1']`).
   * A value moved to another row does not open there.
   */
  seal(value: Uint8Array, context: readonly string[]): Buffer
  /** @throws {CaretakerError} `internal` when the key, the context or the bytes are not those it was sealed with. */
  open(sealed: Uint8Array, context: readonly string[]): Buffer
  /** 16 bytes, the same for the same value: found and compared without being readable. Not reversible without the key. */
  tag(purpose: string, value: string): Buffer
}

// version (1) | key id (4) | nonce (12) | ciphertext | tag (16). The key id tells which key opens a value once there are two.
const version = 1
const nonceAt = 5
const nonceBytes = 12
const bodyAt = 17
const tagBytes = 16

// Deriving the keys takes as long as encrypting a payload does; they are kept as long as the environment they come from.
const ciphers = new WeakMap<Env, FieldCipher>()

/**
 * The cipher of this deployment. `purpose` is for the message: what cannot be done without it.
 * @throws {CaretakerError} `not_configured` without ENCRYPTION_KEY
 */
export function environmentCipher(env: Env, purpose: string): FieldCipher {
  const known = ciphers.get(env)
  if (known !== undefined) return known
  const made = fieldCipher(requireEnv(env, 'ENCRYPTION_KEY', purpose))
  ciphers.set(env, made)
  return made
}

/** @param encryptionKey 64 hexadecimal digits */
export function fieldCipher(encryptionKey: string): FieldCipher {
  const root = Buffer.from(encryptionKey, 'hex')
  // As key objects: given a buffer, OpenSSL makes one at every call (10 µs against 3).
  const derive = (purpose: string) => createSecretKey(Buffer.from(hkdfSync('sha256', root, '', `caretaker:${purpose}:v1`, 32)))
  const key = derive('field')
  const tagKey = derive('tag')
  const keyId = createHmac('sha256', key).update('key id').digest().subarray(0, 4)
  // Asking the system for twelve bytes costs as much as a quarter of the sealing: many are asked for at once.
  let nonces = Buffer.alloc(0)
  const nextNonce = (): Buffer => {
    if (nonces.length === 0) nonces = randomBytes(nonceBytes * 256)
    const nonce = nonces.subarray(0, nonceBytes)
    nonces = nonces.subarray(nonceBytes)
    return nonce
  }

  return {
    seal(value, context) {
      const nonce = nextNonce()
      const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes })
      const head = Buffer.concat([Buffer.of(version), keyId, nonce])
      cipher.setAAD(associated(head, context))
      return Buffer.concat([head, cipher.update(value), cipher.final(), cipher.getAuthTag()])
    },
    open(sealed, context) {
      const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
      if (bytes.length < bodyAt + tagBytes || bytes[0] !== version) throw unreadable('it is not in a known format')
      if (!bytes.subarray(1, nonceAt).equals(keyId)) throw unreadable('it was encrypted with another ENCRYPTION_KEY')
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(nonceAt, bodyAt), { authTagLength: tagBytes })
      decipher.setAAD(associated(bytes.subarray(0, bodyAt), context))
      decipher.setAuthTag(bytes.subarray(-tagBytes))
      try {
        return Buffer.concat([decipher.update(bytes.subarray(bodyAt, -tagBytes)), decipher.final()])
      } catch (cause) {
        throw unreadable('it was changed, or belongs to another row', cause)
      }
    },
    tag: (purpose, value) => createHmac('sha256', tagKey).update(purpose).update('\0').update(value).digest().subarray(0, 16),
  }
}

/** Lengths are part of it, so that ['a', 'bc'] and ['ab', 'c'] differ. */
function associated(head: Buffer, context: readonly string[]): Buffer {
  return Buffer.concat([head, Buffer.from(JSON.stringify(context))])
}

function unreadable(why: string, cause?: unknown): CaretakerError {
  return new CaretakerError('internal', `An encrypted field cannot be read: ${why}.`, cause === undefined ? {} : { cause })
}
