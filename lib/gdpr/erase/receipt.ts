import { createHash, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import { canonicalJson } from '../../platform/audit.ts'
import type { ProcessorOutcome } from './processors.ts'
import type { Residue } from './residue.ts'

/** What an erasure did, without personal data: kept by the operator, given to the person, shown to the regulator. */
export interface Receipt {
  format: 'caretaker.gdpr.receipt/1'
  app: string
  request: string | null
  /** A keyed hash of the person's id. */
  subject: string
  subjectTable: string
  requestedAt: string
  completedAt: string
  deleted: { table: string; rows: number }[]
  anonymised: { table: string; rows: number; columns: string[] }[]
  kept: { table: string; rows: number; basis: string; until: string; emptied: string[] }[]
  /** References emptied in rows that stayed. */
  references: { constraint: string; rows: number }[]
  files: { removed: number }
  authUser: 'deleted' | 'absent' | 'not-applicable'
  /** Third parties: what each has erased, what stays there, and who must be asked by hand. */
  processors: ({ name: string } & ProcessorOutcome)[]
  /** Records outside of the person's rows that named them, by what holds them, and what was emptied there. */
  elsewhere: { name: string; records: number }[]
  /** Other people's text in which the name was replaced. */
  mentions: { table: string; rows: number }[]
  /** What a search of all text for the person found afterwards; null where the policy turns it off. */
  residue: Residue | null
  /** Where a restore finds that this person must be erased again; null where no object store is configured. */
  tombstone: string | null
  /** What this erasure did not reach, in sentences. */
  notReached: string[]
}

export interface SignedReceipt extends Receipt {
  signature: { algorithm: 'HMAC-SHA256'; keyId: string; value: string }
}

/** @param encryptionKey 64 hexadecimal digits; the signing key is derived from it */
export function signReceipt(encryptionKey: string, receipt: Receipt): SignedReceipt {
  const { key, keyId } = signingKey(encryptionKey)
  return { ...receipt, signature: { algorithm: 'HMAC-SHA256', keyId, value: mac(key, receipt).toString('hex') } }
}

/** True when the receipt is as it was signed with this key. */
export function verifyReceipt(encryptionKey: string, signed: SignedReceipt): boolean {
  const { signature, ...receipt } = signed
  const { key, keyId } = signingKey(encryptionKey)
  const given = Buffer.from(signature.value, 'hex')
  const wanted = mac(key, receipt)
  return signature.keyId === keyId && given.length === wanted.length && timingSafeEqual(given, wanted)
}

function mac(key: Buffer, receipt: unknown): Buffer {
  return createHmac('sha256', key).update(canonicalJson(receipt)).digest()
}

function signingKey(encryptionKey: string): { key: Buffer; keyId: string } {
  const key = Buffer.from(hkdfSync('sha256', Buffer.from(encryptionKey, 'hex'), '', 'caretaker:gdpr-receipt:v1', 32))
  return { key, keyId: keyIdOf(key) }
}

/** What pseudonyms are made with; 64 hexadecimal digits. Restored rows get the pseudonyms they had. */
export function pseudonymKey(encryptionKey: string): string {
  return Buffer.from(hkdfSync('sha256', Buffer.from(encryptionKey, 'hex'), '', 'caretaker:gdpr-pseudonym:v1', 32)).toString('hex')
}

/** Tells which key signed without telling the key. */
export function keyIdOf(key: Buffer): string {
  return createHash('sha256').update('key id\0').update(key).digest('hex').slice(0, 16)
}
