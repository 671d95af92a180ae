import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import type { Context } from '../platform/context.ts'
import type { Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import {
  listExtensions,
  listLeftOut,
  listRoles,
  listSettings,
  type SourceExtension,
  type SourceRole,
  type SourceTable,
} from './catalogue.ts'
import { dumpFailure, schemaFailure } from './dump-failure.ts'
import { databaseInstance } from './instance.ts'
import { countLargeObjects, largeObjectSql } from './large-objects.ts'
import type { Manifest, ManifestObject } from './manifest.ts'
import { type Sealing, writeObject } from './object-stream.ts'
import { type PageRange, splitTable } from './part-sql.ts'
import type { BackupPolicy } from './policy.ts'
import { rolesSql } from './roles.ts'
import { dumpSchema, type SchemaOptions } from './schema-sql.ts'
import { settingsSql } from './settings.ts'
import { takeSnapshot } from './snapshot.ts'

/**
 * A dump that has begun: what is the same for everybody who takes part in it. Plain JSON, so that another process can
 * go on with it.
 */
export interface OpenDump {
  id: string
  createdAt: string
  snapshot: Manifest['snapshot']
  serverVersion: { number: number; text: string }
  database: { name: string; instance: string | null; encoding: string }
  excludeSchemas: readonly string[]
  restrictKey: string
  extensions: readonly SourceExtension[]
  roles: readonly SourceRole[]
  leftOut: Manifest['leftOut']
  tables: readonly SourceTable[]
  parts: readonly Part[]
  largeObjects: number
  /** Stored already, in the order of a restore: what comes before the rows, and what comes after. */
  before: readonly ManifestObject[]
  after: readonly ManifestObject[]
}

/** The share of one COPY: a table or a range of its pages, or all large objects. */
export interface Part {
  number: number
  /** Index in `tables`; null for the large objects. */
  table: number | null
  range: PageRange | null
  name: string
}

/** A part that is stored. */
export interface WrittenPart {
  object: ManifestObject
  rows: number
}

/** Sorts by time; the random part keeps two that start in one second apart. */
export function newBackupId(now: Date): string {
  return `${now.toISOString().replace(/[-:]|\.\d+/g, '')}-${randomBytes(4).toString('hex')}`
}

/** A dump of which rows can be read, while its schema is still on its way into the store. */
export interface OpeningDump {
  dump: Omit<OpenDump, 'before' | 'after'>
  schema: Promise<Pick<OpenDump, 'before' | 'after'>>
}

export interface DumpLimits {
  /** Table and TOAST bytes one object covers. Default 128 MiB; less where an invocation is short. */
  partBytes?: number
  /** How long the lock of a table may be waited for, ms. Default 30 s. */
  lockTimeoutMs?: number
}

/** The one that keeps the snapshot, the one that reads the schema, and those that read rows. */
export interface DumpSessions {
  keeper: Session
  schemaReader: Session
  workers: readonly Session[]
}

/** How many of them do not read rows. */
export const otherSessions = 2

export function dumpSessions([keeper, schemaReader, ...workers]: readonly Session[]): DumpSessions {
  if (keeper === undefined || schemaReader === undefined) throw new CaretakerError('internal', 'A dump needs sessions beside its workers.')
  return { keeper, schemaReader, workers }
}

/**
 * Takes the snapshot on all sessions, shares the rows out into parts, and begins to store the schema, which has a session of its
 * own. Whoever calls waits for `schema`, also after a failure.
 */
export async function openDump(
  ctx: Context,
  policy: BackupPolicy,
  sealing: Sealing,
  id: string,
  { keeper, schemaReader, workers }: DumpSessions,
  limits: DumpLimits = {},
): Promise<OpeningDump> {
  const snapshot = await takeSnapshot(keeper, [schemaReader, ...workers], policy, limits.lockTimeoutMs)
  const { scope } = snapshot
  const [reader] = workers
  if (reader === undefined) throw new CaretakerError('internal', 'A backup needs a connection that reads.')
  const restrictKey = randomBytes(24).toString('hex')
  const extensions = await listExtensions(reader)
  // An extension cannot be made where its schema is left out.
  const homeless = extensions.filter((extension) => scope.excludeSchemas.includes(extension.schema)).map((extension) => extension.name)
  const roles = await listRoles(reader)
  const settings = await listSettings(
    reader,
    roles.map((role) => role.name),
  )
  const leftOut = await listLeftOut(reader, policy.excludeSchemas, scope)
  const [database] = await reader.query<{ name: string; encoding: string }>(
    `select current_database() as name, pg_encoding_to_char(encoding) as encoding from pg_catalog.pg_database where datname = current_database()`,
  )
  const largeObjects = await countLargeObjects(reader)
  const owners = await largeObjectSql(reader, largeObjects)
  const dump = {
    id,
    createdAt: snapshot.takenAt.toISOString(),
    snapshot: { id: snapshot.id, visible: snapshot.visible, lsn: snapshot.lsn },
    serverVersion: snapshot.version,
    database: { name: database?.name ?? '', instance: await databaseInstance(reader), encoding: database?.encoding ?? '' },
    excludeSchemas: scope.excludeSchemas,
    restrictKey,
    extensions: extensions.filter((extension) => !homeless.includes(extension.name)),
    roles,
    leftOut,
    tables: snapshot.tables,
    parts: planParts(snapshot.tables, largeObjects, limits.partBytes),
    largeObjects,
  }
  const options = { restrictKey, excludeSchemas: scope.excludeSchemas, excludeExtensions: homeless }
  const around = { roles: rolesSql(roles, settings), owners, settings: settingsSql(settings) }
  return { dump, schema: storeSchema(ctx, sealing, schemaReader, options, around) }
}

async function storeSchema(
  ctx: Context,
  sealing: Sealing,
  session: Session,
  options: SchemaOptions,
  { roles, owners, settings }: { roles: string; owners: string; settings: string },
): Promise<Pick<OpenDump, 'before' | 'after'>> {
  const { preData, postData } = await dumpSchema(session, options, ctx.signal).catch((error: unknown) => {
    throw sealing.signal.aborted ? error : schemaFailure(error)
  })
  const text = (name: string, kind: ManifestObject['kind'], content: string) =>
    writeObject(sealing, name, kind, Readable.from([Buffer.from(content)])).catch((error: unknown) => {
      throw sealing.signal.aborted ? error : dumpFailure(error, `The schema (${name})`)
    })
  return {
    before: [await text('roles.sql', 'roles', roles), await text('pre-data.sql', 'pre-data', preData)],
    after: [
      ...(owners === '' ? [] : [await text('large-object-owners.sql', 'large-object-owners', owners)]),
      await text('post-data.sql', 'post-data', postData),
      ...(settings === '' ? [] : [await text('settings.sql', 'settings', settings)]),
    ],
  }
}

function planParts(tables: readonly SourceTable[], largeObjects: number, partBytes: number | undefined): Part[] {
  const parts = tables.flatMap((table, index) => splitTable(table, partBytes).map((range) => ({ table: index, range })))
  const numbered = parts.map(
    (part, index): Part => ({ ...part, number: index + 1, name: `data/${String(index + 1).padStart(6, '0')}.copy` }),
  )
  if (largeObjects > 0) numbered.push({ number: numbered.length + 1, table: null, range: null, name: 'large-objects.copy' })
  return numbered
}
