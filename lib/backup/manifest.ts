import { createHash } from 'node:crypto'
import * as z from 'zod/mini'
import { CaretakerError } from '../platform/errors.ts'
import type { ObjectStore } from '../platform/objects.ts'
import type { Signer } from './signing/index.ts'
import { signerOfArmoured } from './signing/ssh-signature.ts'

/*
 * A backup is the objects under `backups/ID/`, and it exists when its manifest does: that is written last. SHA256SUMS,
 * written before, covers the manifest and every object the manifest names, in the format of `sha256sum -c`. SHA256SUMS.sig is
 * the writer's signature of it, in the format of `ssh-keygen -Y verify`. See docs/decisions/0020.
 */

const count = z.number().check(z.nonnegative())
const sha256 = z.string().check(z.regex(/^[0-9a-f]{64}$/))

const objectSchema = z.strictObject({
  /** Relative to the backup's folder. */
  key: z.string().check(z.regex(/^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/)),
  kind: z.enum([
    'roles',
    'pre-data',
    'data',
    'large-objects',
    'large-object-owners',
    'sequences',
    'post-data',
    'settings',
    'file-index',
    'file',
    'document',
  ]),
  /** As stored: compressed and encrypted. */
  bytes: count,
  sha256,
  /** Of what came from the database: for data the rows as COPY writes them, without what frames them for psql. */
  contentBytes: count,
  contentSha256: sha256,
})

/** One data object: its bytes and hashes are with the objects. */
const partSchema = z.strictObject({ key: z.string(), rows: count })

const tableSchema = z.strictObject({
  schema: z.string(),
  name: z.string(),
  columns: z.array(z.string()),
  /** Columns that PostgreSQL computes; absent in what older releases wrote. */
  generated: z.optional(z.array(z.string())),
  /** Which rows of an extension's configuration table are the user's; null for any other table. */
  condition: z.nullable(z.string()),
  /** Dumped in sorted order, because it may be restored beside rows of others. */
  shared: z.boolean(),
  rows: count,
  bytes: count,
  /** In the order of their pages. */
  parts: z.array(partSchema),
})

/** The files of Storage buckets. Their contents are objects below `files/`, shared with other backups. */
const filesSchema = z.strictObject({
  buckets: z.array(z.string()),
  count,
  /** Of the contents, as Storage gives them. */
  bytes: count,
  /** Of the objects that hold them; the new ones among them were stored for this backup. */
  storedBytes: count,
  newCount: count,
  newStoredBytes: count,
  /** Listed by the database, and not in Storage. */
  missing: count,
  /** Overwritten between the snapshot and their download. */
  changed: count,
  /** The object with names, buckets and all that is needed to put them back, sealed. */
  index: z.string(),
  /** The object that says which stored objects they are; it names no file. */
  references: z.string(),
})

const membershipSchema = z.strictObject({
  role: z.string(),
  admin: z.boolean(),
  /** null where the server does not tell them apart (before PostgreSQL 16). */
  inherit: z.nullable(z.boolean()),
  set: z.nullable(z.boolean()),
})

const roleSchema = z.strictObject({
  name: z.string(),
  superuser: z.boolean(),
  inherit: z.boolean(),
  createRole: z.boolean(),
  createDatabase: z.boolean(),
  login: z.boolean(),
  replication: z.boolean(),
  bypassRls: z.boolean(),
  connectionLimit: z.number(),
  memberOf: z.array(z.string()),
  /** How it is a member of those; absent in what older releases wrote. */
  memberships: z.optional(z.array(membershipSchema)),
})

export const manifestSchema = z.strictObject({
  format: z.literal('caretaker-backup/1'),
  id: z.string().check(z.regex(/^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$/)),
  app: z.string(),
  caretakerVersion: z.string(),
  /** The public key of whoever wrote it; null, or absent in what older releases wrote, where it is not signed. */
  signer: z.optional(z.nullable(z.string())),
  /** When the snapshot was taken: the state the backup holds. */
  createdAt: z.iso.datetime(),
  finishedAt: z.iso.datetime(),
  database: z.strictObject({
    name: z.string(),
    /** Tells databases of one name apart (see instance.ts). null where it may not be asked for, absent in what older releases wrote. */
    instance: z.optional(z.nullable(z.string())),
    serverVersion: z.string(),
    serverVersionNumber: count,
    encoding: z.string(),
  }),
  snapshot: z.strictObject({ id: z.string(), visible: z.string(), lsn: z.string() }),
  encryption: z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('age'),
      recipients: z.array(z.string()),
      /** Whose identity the server keeps until this backup's drill is over. */
      drillRecipient: z.optional(z.string()),
    }),
    z.strictObject({ kind: z.literal('none') }),
  ]),
  compression: z.literal('zstd'),
  restrictKey: z.string(),
  objects: z.array(objectSchema),
  tables: z.array(tableSchema),
  sequences: z.array(z.strictObject({ schema: z.string(), name: z.string(), lastValue: z.string(), isCalled: z.boolean() })),
  largeObjects: z.strictObject({ count, parts: z.array(partSchema) }),
  extensions: z.array(z.strictObject({ name: z.string(), version: z.string(), schema: z.string() })),
  roles: z.array(roleSchema),
  /** Absent where the policy names no buckets, or their files could not be asked for: `leftOut` says which. */
  files: z.optional(filesSchema),
  /** What is not in the backup, on purpose, and why. */
  leftOut: z.array(z.strictObject({ what: z.string(), why: z.string() })),
})

export type Manifest = z.output<typeof manifestSchema>
export type ManifestObject = z.output<typeof objectSchema>
export type ManifestTable = z.output<typeof tableSchema>
export type ManifestFiles = z.output<typeof filesSchema>
export type ManifestPart = z.output<typeof partSchema>

export const backupsPrefix = 'backups/'

export function backupFolder(id: string): string {
  return `${backupsPrefix}${id}/`
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function sums(objects: readonly ManifestObject[], manifest: Uint8Array): string {
  const lines = [...objects.map((object) => `${object.sha256}  ${object.key}`), `${digest(manifest)}  manifest.json`]
  return `${lines.join('\n')}\n`
}

const signatureNamespace = 'caretaker-backup'

/** Seals and shows the backup: SHA256SUMS first, then its signature, the manifest last. */
export async function writeManifest(store: ObjectStore, manifest: Manifest, signer: Signer | null, signal: AbortSignal): Promise<void> {
  const bytes = Buffer.from(`${JSON.stringify(manifestSchema.parse(manifest), null, 1)}\n`)
  const sealed = Buffer.from(sums(manifest.objects, bytes))
  const folder = backupFolder(manifest.id)
  const text = { contentType: 'text/plain', signal }
  await store.put(`${folder}SHA256SUMS`, sealed, text)
  if (signer !== null) await store.put(`${folder}SHA256SUMS.sig`, Buffer.from(signer.signFile(signatureNamespace, sealed)), text)
  await store.put(`${folder}manifest.json`, bytes, { contentType: 'application/json', ifAbsent: true, signal })
}

/** A manifest, and the public key it was signed with; null for one that is not signed. */
export interface SignedManifest {
  manifest: Manifest
  signer: string | null
}

/**
 * The manifest of `id`, held against its sums and their signature: a changed bit in any of them is found here. Whether the signer is
 * one to believe is for the caller to ask.
 * @throws {CaretakerError} `object_missing` when there is no such backup, `backup_corrupt` when it is not as written
 */
export async function readManifest(store: ObjectStore, id: string): Promise<SignedManifest> {
  const folder = backupFolder(id)
  const [bytes, sealed, signature] = await Promise.all(
    ['manifest.json', 'SHA256SUMS', 'SHA256SUMS.sig'].map((name) => readObject(store, `${folder}${name}`)),
  )
  if (bytes === null || bytes === undefined) throw new CaretakerError('object_missing', `There is no backup ${id} in ${store.url}.`)
  if (sealed === null || sealed === undefined)
    throw new CaretakerError('backup_corrupt', `Backup ${id} has lost its SHA256SUMS: nothing in it can be trusted.`)
  const parsed = manifestSchema.safeParse(parseJson(bytes))
  if (!parsed.success || parsed.data.id !== id)
    throw new CaretakerError('backup_corrupt', `The manifest of backup ${id} was changed, or is of a version this release does not know.`)
  if (!sealed.equals(Buffer.from(sums(parsed.data.objects, bytes))))
    throw new CaretakerError('backup_corrupt', `The manifest of backup ${id} and its SHA256SUMS do not agree: one of them was changed.`)
  const signer =
    signature === null || signature === undefined ? null : signerOfArmoured(signature.toString('latin1'), signatureNamespace, sealed)
  if (signer === undefined || signer !== (parsed.data.signer ?? null))
    throw new CaretakerError(
      'backup_corrupt',
      `The signature of backup ${id} is missing, or not one of its SHA256SUMS: one of them was changed.`,
    )
  return { manifest: parsed.data, signer }
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
}

async function readObject(store: ObjectStore, key: string): Promise<Buffer | null> {
  const stream = await store.get(key)
  if (stream === null) return null
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** Ids of the backups whose manifest is there, oldest first. */
export async function listBackupIds(store: ObjectStore): Promise<string[]> {
  const ids: string[] = []
  for await (const object of store.list(backupsPrefix)) {
    const match = /^backups\/([^/]+)\/manifest\.json$/.exec(object.key)
    if (match?.[1] !== undefined) ids.push(match[1])
  }
  return ids.sort()
}
