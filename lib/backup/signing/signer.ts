import { createPrivateKey, hkdfSync } from 'node:crypto'
import type { Env } from '../../platform/env.ts'
import { armouredSignature, publicKeyText, signBytes } from './ssh-signature.ts'

/** Who signs what this deployment stores. */
export interface Signer {
  /** As it stands in identity files, policies and `--signer`. */
  readonly publicKey: string
  /** 64 bytes over `message`. */
  sign(namespace: string, message: Uint8Array): Buffer
  /** The same as a file that `ssh-keygen -Y verify` reads. */
  signFile(namespace: string, message: Uint8Array): string
}

// Deriving takes longer than signing; kept as long as the environment it comes from.
const signers = new WeakMap<Env, Signer>()

/**
 * The signer of this deployment: an Ed25519 key derived from ENCRYPTION_KEY, under a name of its own, so that it tells nothing of
 * the keys that encrypt. Null where ENCRYPTION_KEY is not set: what is stored is then not signed.
 */
export function signerOf(env: Env): Signer | null {
  if (env.ENCRYPTION_KEY === undefined) return null
  const known = signers.get(env)
  if (known !== undefined) return known
  const made = deriveSigner(env.ENCRYPTION_KEY)
  signers.set(env, made)
  return made
}

/** An Ed25519 private key in PKCS #8 is this and its seed. */
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex')

/** @param encryptionKey 64 hexadecimal digits */
export function deriveSigner(encryptionKey: string): Signer {
  const seed = Buffer.from(hkdfSync('sha256', Buffer.from(encryptionKey, 'hex'), '', 'caretaker:backup-signer:v1', 32))
  const key = createPrivateKey({ key: Buffer.concat([pkcs8Prefix, seed]), format: 'der', type: 'pkcs8' })
  const publicKey = publicKeyText(key)
  return {
    publicKey,
    sign: (namespace, message) => signBytes(key, namespace, message),
    signFile: (namespace, message) => armouredSignature(publicKey, namespace, signBytes(key, namespace, message)),
  }
}
