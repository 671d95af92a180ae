import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import * as z from 'zod/mini'
import type { Context } from '../../platform/context.ts'
import { CaretakerError, hasCode } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'

/*
 * The server holds no identity of a person. To prove a backup it needs one, so each backup is also encrypted to an identity
 * of its own, made for one drill. It is kept beside the backups, sealed with ENCRYPTION_KEY, and destroyed when the drill is
 * over: until then the server could read this backup, which holds what it can read in the live database anyway.
 */

export const drillsPrefix = 'drills/'

const sealedSchema = z.object({
  recipient: z.string(),
  /** nonce, ciphertext and tag of the identity, base64. */
  sealed: z.string(),
})

type SealedIdentity = z.output<typeof sealedSchema>

type Needs = Pick<Context, 'config' | 'env'>

/**
 * The recipient of the drill of backup `id`, made at the first call; others who write the same backup get the same one. Null
 * where no drill by the server is possible (no ENCRYPTION_KEY or DRILL_DATABASE_URL) or the policy forbids it.
 */
export async function drillRecipient(ctx: Needs, store: ObjectStore, id: string): Promise<string | null> {
  const key = ctx.env.ENCRYPTION_KEY
  if (key === undefined || ctx.env.DRILL_DATABASE_URL === undefined || ctx.config.backup?.drill === false) return null
  const { generateX25519Identity, identityToRecipient } = await import('age-encryption')
  // From the sealed identity, not from what stands beside it: whoever may write to the store could put a recipient of their own there.
  const recipientOf = async (known: SealedIdentity) => identityToRecipient(unseal(key, id, known.sealed))
  const known = await readSealed(store, id)
  if (known !== null) return recipientOf(known)
  const identity = await generateX25519Identity()
  const recipient = await identityToRecipient(identity)
  try {
    await store.put(keyOf(id), Buffer.from(JSON.stringify({ recipient, sealed: seal(key, id, identity) })), {
      ifAbsent: true,
      contentType: 'application/json',
    })
    return recipient
  } catch (error) {
    // Another writer of this backup was first: its identity is the one.
    if (!hasCode(error, 'conflict')) throw error
    const first = await readSealed(store, id)
    return first === null ? null : recipientOf(first)
  }
}

/** Recipients of backup `id`: the policy's, and its drill's. */
export async function recipientsOf(
  ctx: Needs,
  store: ObjectStore,
  id: string,
  recipients: readonly string[] | null,
): Promise<{ recipients: readonly string[] | null; drillRecipient: string | null }> {
  const drill = recipients === null ? null : await drillRecipient(ctx, store, id)
  return { recipients: recipients === null || drill === null ? recipients : [...recipients, drill], drillRecipient: drill }
}

/**
 * The identity of the drill of backup `id`.
 * @throws {CaretakerError} `backup_identity` when there is none, or ENCRYPTION_KEY is not the one it was sealed with
 */
export async function openDrillIdentity(ctx: Needs, store: ObjectStore, id: string): Promise<string> {
  const known = await readSealed(store, id)
  if (known === null || ctx.env.ENCRYPTION_KEY === undefined)
    throw new CaretakerError(
      'backup_identity',
      `Backup ${id} has no identity for a drill: it was made without one, or its drill is over. Give the identity file with --identity.`,
    )
  return unseal(ctx.env.ENCRYPTION_KEY, id, known.sealed)
}

/** Whether the server can still drill backup `id` by itself. */
export async function hasDrillIdentity(store: ObjectStore, id: string): Promise<boolean> {
  return (await store.head(keyOf(id))) !== null
}

/** Destroys the drill identities of those backups: nobody will need them. */
export async function destroyDrillIdentities(store: ObjectStore, ids: readonly string[]): Promise<void> {
  const doomed = new Set(ids.map(keyOf))
  const keys: string[] = []
  for await (const object of store.list(drillsPrefix)) if (doomed.has(object.key)) keys.push(object.key)
  for (const key of keys) await store.delete(key)
}

function keyOf(id: string): string {
  return `${drillsPrefix}${id}/identity.json`
}

async function readSealed(store: ObjectStore, id: string): Promise<SealedIdentity | null> {
  const stream = await store.get(keyOf(id))
  if (stream === null) return null
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  try {
    return sealedSchema.parse(JSON.parse(Buffer.concat(chunks).toString('utf8')))
  } catch (cause) {
    throw new CaretakerError('backup_identity', `${keyOf(id)} is damaged. Give the identity file with --identity.`, { cause })
  }
}

const cipher = 'aes-256-gcm'

function sealingKey(encryptionKey: string): Buffer {
  return Buffer.from(hkdfSync('sha256', Buffer.from(encryptionKey, 'hex'), '', 'caretaker:drill:v1', 32))
}

function seal(encryptionKey: string, id: string, identity: string): string {
  const nonce = randomBytes(12)
  const sealed = createCipheriv(cipher, sealingKey(encryptionKey), nonce).setAAD(Buffer.from(id))
  return Buffer.concat([nonce, sealed.update(identity, 'utf8'), sealed.final(), sealed.getAuthTag()]).toString('base64')
}

function unseal(encryptionKey: string, id: string, sealed: string): string {
  const bytes = Buffer.from(sealed, 'base64')
  try {
    const opened = createDecipheriv(cipher, sealingKey(encryptionKey), bytes.subarray(0, 12))
      .setAAD(Buffer.from(id))
      .setAuthTag(bytes.subarray(-16))
    return Buffer.concat([opened.update(bytes.subarray(12, -16)), opened.final()]).toString('utf8')
  } catch (cause) {
    throw new CaretakerError(
      'backup_identity',
      `The drill identity of backup ${id} was sealed with another ENCRYPTION_KEY. Give the identity file with --identity.`,
      { cause },
    )
  }
}
