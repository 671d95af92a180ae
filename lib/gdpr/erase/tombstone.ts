import type { Context } from '../../platform/context.ts'
import type { Queryable } from '../../platform/db.ts'
import { identifier, qualified } from '../../platform/db.ts'
import { CaretakerError, hasCode } from '../../platform/errors.ts'
import { subjectTag } from '../../platform/log.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import type { SubjectMap } from '../map/subject-map.ts'
import { keyIdOf } from './receipt.ts'

/**
 * What is left of an erased person outside the database, so that a restore can erase them again: a keyed hash of the id.
 * Whoever holds ENCRYPTION_KEY and the restored table can find the row by hashing every id; nobody else learns anything.
 */
export interface Tombstone {
  format: 'caretaker.gdpr.tombstone/1'
  subject: string
  /** Keyed hashes of what else named the person (the e-mail address): whoever asks again by that is told that it is done. */
  names?: readonly string[]
  table: string
  column: string
  erasedAt: string
  keyId: string
}

const folder = 'gdpr/tombstones/'

/** The object store, or undefined where none is configured. */
export async function objectsIfConfigured(ctx: Pick<Context, 'objects'>): Promise<ObjectStore | undefined> {
  try {
    return await ctx.objects()
  } catch (error) {
    if (hasCode(error, 'not_configured')) return undefined
    throw error
  }
}

/** Writes the tombstone; writing it again is the same object. @returns its key */
export async function journalTombstone(objects: ObjectStore, name: string, tombstone: Tombstone): Promise<string> {
  const key = `${folder}${tombstone.erasedAt.slice(0, 10)}/${name}.json`
  await objects.put(key, Buffer.from(JSON.stringify(tombstone)), { contentType: 'application/json' })
  return key
}

/** @param tags keyed hashes: of the id, then of what else names the person */
export function tombstoneOf(map: SubjectMap, encryptionKey: string, tags: readonly string[], erasedAt: Date): Tombstone {
  const [subject, ...names] = tags
  if (subject === undefined) throw new CaretakerError('internal', 'A tombstone was asked for without the hash of an id.')
  return {
    format: 'caretaker.gdpr.tombstone/1',
    subject,
    ...(names.length === 0 ? {} : { names }),
    table: map.root,
    column: map.rootColumn.name,
    erasedAt: erasedAt.toISOString(),
    keyId: keyIdOf(Buffer.from(encryptionKey, 'hex')),
  }
}

/** Every tombstone in the store. @throws {CaretakerError} `object_store_failed` for one that cannot be read: none is skipped */
export async function readTombstones(objects: ObjectStore): Promise<Tombstone[]> {
  const tombstones: Tombstone[] = []
  for await (const { key } of objects.list(folder)) {
    const body = await objects.get(key)
    if (body === null) continue
    const chunks: Buffer[] = []
    for await (const chunk of body) chunks.push(Buffer.from(chunk as Uint8Array))
    try {
      tombstones.push(JSON.parse(Buffer.concat(chunks).toString('utf8')) as Tombstone)
    } catch (cause) {
      throw new CaretakerError('object_store_failed', `${key} is not a readable tombstone.`, { cause })
    }
  }
  return tombstones
}

/** The ids in the (restored) subject table that a tombstone says are erased, each with its tombstone. */
export async function findErased(
  db: Queryable,
  map: SubjectMap,
  encryptionKey: string,
  tombstones: readonly Tombstone[],
): Promise<{ id: string; tombstone: Tombstone }[]> {
  const keyId = keyIdOf(Buffer.from(encryptionKey, 'hex'))
  const foreign = tombstones.filter((tombstone) => tombstone.keyId !== keyId).length
  if (foreign > 0)
    throw new CaretakerError(
      'not_configured',
      `${foreign} tombstones were written under another ENCRYPTION_KEY; restore with that key, or these people stay in the data.`,
    )
  const erased = new Map(tombstones.filter(({ table }) => table === map.root).map((tombstone) => [tombstone.subject, tombstone]))
  const root = map.tables.get(map.root)?.table
  if (root === undefined || erased.size === 0) return []
  const column = identifier(map.rootColumn.name)
  const found: { id: string; tombstone: Tombstone }[] = []
  for (let after: string | null = null; ; ) {
    const page: { id: string }[] = await db.query<{ id: string }>(
      `select t.${column}::text as id from ${qualified(root.schema, root.name)} t
       where $1::text is null or t.${column} > $1::text::${map.rootColumn.type} order by t.${column} limit 5000`,
      [after],
    )
    for (const { id } of page) {
      const tombstone = erased.get(subjectTag(encryptionKey, id))
      if (tombstone !== undefined) found.push({ id, tombstone })
    }
    if (page.length < 5000) return found
    after = page.at(-1)?.id ?? null
  }
}
