import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { CaretakerError } from '../../platform/errors.ts'

/*
 * Ed25519 signatures in the format of `ssh-keygen -Y sign`, so that anybody can check one with what a laptop has.
 * https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.sshsig
 * The namespace is part of what is signed: a signature made for one kind of thing is none for another.
 */

const algorithm = 'ssh-ed25519'
const hashName = 'sha512'
const magic = Buffer.from('SSHSIG')
const begin = '-----BEGIN SSH SIGNATURE-----'
const end = '-----END SSH SIGNATURE-----'
/** An Ed25519 key in SubjectPublicKeyInfo is this and its 32 bytes. */
const spkiPrefix = Buffer.from('302a300506032b6570032100', 'hex')

/** What of a private key is public, as an authorized_keys line has it in its second field. */
export function publicKeyText(privateKey: KeyObject): string {
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' })
  return keyBlob(spki.subarray(spkiPrefix.length)).toString('base64')
}

/**
 * The key that `text` holds, in the one spelling in which keys are compared. `ssh-ed25519 ` before it and a comment behind it may
 * be there, as in a line of authorized_keys.
 * @throws {CaretakerError} `invalid_input`
 */
export function parsePublicKey(text: string): string {
  const words = text.trim().split(/\s+/)
  const key = (words[0] === algorithm ? words[1] : words[0]) ?? ''
  if (readKeyBlob(Buffer.from(key, 'base64')) === undefined || Buffer.from(key, 'base64').toString('base64') !== key)
    throw new CaretakerError(
      'invalid_input',
      `"${text.trim().slice(0, 100)}" is not a signer's public key; expected 68 characters that begin with "AAAAC3NzaC1lZDI1NTE5AAAAI".`,
    )
  return key
}

/** 64 bytes, over `message` in `namespace`. */
export function signBytes(key: KeyObject, namespace: string, message: Uint8Array): Buffer {
  return sign(null, signedData(namespace, message), key)
}

/** True when the holder of `publicKey` (as `publicKeyText` gives it) signed `message` in `namespace`. */
export function verifyBytes(publicKey: string, namespace: string, message: Uint8Array, signature: Uint8Array): boolean {
  const raw = readKeyBlob(Buffer.from(publicKey, 'base64'))
  if (raw === undefined || signature.length !== 64) return false
  const key = createPublicKey({ key: Buffer.concat([spkiPrefix, raw]), format: 'der', type: 'spki' })
  return verify(null, signedData(namespace, message), key, signature)
}

/** The signature as a file of its own, which `ssh-keygen -Y verify` reads. */
export function armouredSignature(publicKey: string, namespace: string, signature: Uint8Array): string {
  const blob = Buffer.concat([
    magic,
    number(1),
    string(Buffer.from(publicKey, 'base64')),
    string(Buffer.from(namespace)),
    string(Buffer.alloc(0)),
    string(Buffer.from(hashName)),
    string(Buffer.concat([string(Buffer.from(algorithm)), string(signature)])),
  ])
  const lines = blob.toString('base64').match(/.{1,70}/g) ?? []
  return `${[begin, ...lines, end].join('\n')}\n`
}

/**
 * Who signed `message`, by what a signature file says, or undefined where it is not a signature of it in `namespace`. Held to the
 * letter: a file that was changed in any bit is none, also where others would read over the change.
 */
export function signerOfArmoured(text: string, namespace: string, message: Uint8Array): string | undefined {
  const match = /^-----BEGIN SSH SIGNATURE-----\n([A-Za-z0-9+/=\n]+)\n-----END SSH SIGNATURE-----\n$/.exec(text)
  const fields = match?.[1] === undefined ? undefined : readFields(Buffer.from(match[1].replaceAll('\n', ''), 'base64'))
  if (fields === undefined) return undefined
  const publicKey = fields.key.toString('base64')
  if (armouredSignature(publicKey, namespace, fields.signature) !== text) return undefined
  return verifyBytes(publicKey, namespace, message, fields.signature) ? publicKey : undefined
}

function signedData(namespace: string, message: Uint8Array): Buffer {
  const hash = createHash(hashName).update(message).digest()
  return Buffer.concat([magic, string(Buffer.from(namespace)), string(Buffer.alloc(0)), string(Buffer.from(hashName)), string(hash)])
}

function keyBlob(raw: Uint8Array): Buffer {
  return Buffer.concat([string(Buffer.from(algorithm)), string(raw)])
}

/** The 32 bytes of a key, or undefined for anything else. */
function readKeyBlob(blob: Buffer): Buffer | undefined {
  const raw = blob.subarray(-32)
  return raw.length === 32 && keyBlob(raw).equals(blob) ? raw : undefined
}

/** Key and signature, where they stand in the one layout there is; whether the rest is right shows when it is written again. */
function readFields(blob: Buffer): { key: Buffer; signature: Buffer } | undefined {
  const keyAt = magic.length + 8
  const keyBytes = keyBlob(Buffer.alloc(32)).length
  if (blob.length < keyAt + keyBytes + 64) return undefined
  return { key: blob.subarray(keyAt, keyAt + keyBytes), signature: blob.subarray(-64) }
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function string(bytes: Uint8Array): Buffer {
  return Buffer.concat([number(bytes.length), bytes])
}
