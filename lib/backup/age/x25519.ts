import { createCipheriv, createPublicKey, diffieHellman, generateKeyPairSync, hkdfSync, type KeyObject } from 'node:crypto'

/*
 * The stanza of an X25519 recipient. https://github.com/C2SP/C2SP/blob/main/age.md#the-x25519-recipient-type
 * age-encryption makes one in a millisecond and a half; with node:crypto it is a fifteenth of that, which counts where a backup has
 * thousands of tables or files.
 */

const charset = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'
const generators = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3]
/** What stands before the 32 bytes of a public key in its DER form. */
const publicKeyHead = Buffer.from('302a300506032b656e032100', 'hex')

/** The public key behind `age1…`; null for what is none: a recipient of another kind, or a mistyped one. */
export function x25519Key(recipient: string): KeyObject | null {
  if (!/^age1[a-z0-9]{58}$/.test(recipient)) return null
  const words = [...recipient.slice(4)].map((char) => charset.indexOf(char))
  if (words.includes(-1) || checksum([...prefixWords('age'), ...words]) !== 1) return null
  const bytes = Buffer.alloc(32)
  let bits = 0
  let value = 0
  let at = 0
  for (const word of words.slice(0, -6)) {
    value = ((value << 5) | word) & 0xfff
    bits += 5
    if (bits < 8) continue
    bits -= 8
    bytes[at++] = (value >>> bits) & 0xff
  }
  return createPublicKey({ key: Buffer.concat([publicKeyHead, bytes]), format: 'der', type: 'spki' })
}

/** BIP 173: what a prefix adds to its checksum. */
function prefixWords(prefix: string): number[] {
  const codes = [...prefix].map((char) => char.charCodeAt(0))
  return [...codes.map((code) => code >>> 5), 0, ...codes.map((code) => code & 31)]
}

function checksum(words: readonly number[]): number {
  let sum = 1
  for (const word of words) {
    const top = sum >>> 25
    sum = ((sum & 0x1ffffff) << 5) ^ word
    for (const [bit, generator] of generators.entries()) if (((top >>> bit) & 1) === 1) sum ^= generator
  }
  return sum >>> 0
}

/** The lines of the header that let the holder of `recipient`'s identity have `fileKey`. */
export function x25519Stanza(recipient: KeyObject, fileKey: Uint8Array): string {
  const ephemeral = generateKeyPairSync('x25519')
  const share = rawKey(ephemeral.publicKey)
  const shared = diffieHellman({ privateKey: ephemeral.privateKey, publicKey: recipient })
  const wrapping = Buffer.from(hkdfSync('sha256', shared, Buffer.concat([share, rawKey(recipient)]), 'age-encryption.org/v1/X25519', 32))
  const sealed = createCipheriv('chacha20-poly1305', wrapping, Buffer.alloc(12), { authTagLength: 16 })
  const body = Buffer.concat([sealed.update(fileKey), sealed.final(), sealed.getAuthTag()])
  return `-> X25519 ${base64(share)}\n${base64(body)}\n`
}

function rawKey(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(publicKeyHead.length)
}

/** Without padding, as everything in a header. */
export function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '')
}
