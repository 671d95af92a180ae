import { Readable } from 'node:stream'
import type { Context } from '../platform/context.ts'
import { qualified, type Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { caretakerVersion } from '../platform/version.ts'
import { listSequences } from './catalogue.ts'
import { dumpFailure } from './dump-failure.ts'
import { closeFileJournal, storeFiles } from './files/index.ts'
import { type Manifest, type ManifestObject, type ManifestPart, writeManifest } from './manifest.ts'
import { type Sealing, writeDocument, writeObject } from './object-stream.ts'
import type { OpenDump, WrittenPart } from './open-dump.ts'
import { restoreNotes, restoreScript } from './restore-by-hand.ts'
import { sequencesSql } from './sequences.ts'
import { pinSigner, signerOf } from './signing/index.ts'

/**
 * Ends a dump of which every part is stored: sequences, notes, and last the manifest that makes it a backup.
 * Sequences are not MVCC: read after the rows, so that none of them is behind a key that was dumped.
 */
export async function sealDump(
  ctx: Context,
  sealing: Sealing,
  dump: OpenDump,
  written: ReadonlyMap<number, WrittenPart>,
  reader: Session,
): Promise<Manifest> {
  const stored = (number: number): WrittenPart => {
    const part = written.get(number)
    if (part === undefined) throw new CaretakerError('internal', `Part ${number} of backup ${dump.id} was not written.`)
    return part
  }
  const partOf = ({ object, rows }: WrittenPart): ManifestPart => ({ key: object.key, rows })
  const data: ManifestObject[] = []
  const partsOf = Map.groupBy(dump.parts, (part) => part.table)
  const tables = dump.tables.map((table, index) => {
    const own = (partsOf.get(index) ?? []).map((part) => stored(part.number))
    data.push(...own.map((part) => part.object))
    return {
      schema: table.schema,
      name: table.name,
      columns: table.columns,
      generated: table.generated,
      condition: table.condition,
      shared: table.shared,
      rows: own.reduce((sum, part) => sum + part.rows, 0),
      bytes: own.reduce((sum, part) => sum + part.object.contentBytes, 0),
      parts: own.map(partOf),
    }
  })
  const largeObjects = (partsOf.get(null) ?? []).map((part) => stored(part.number))
  const sequences = await readSequences(reader, dump.excludeSchemas)
  const states = await writeObject(sealing, 'sequences.sql', 'sequences', Readable.from([Buffer.from(sequencesSql(sequences))]))
  const files = await storeFiles(ctx, reader, { id: dump.id, sealing, leftOut: dump.leftOut })
  const signer = signerOf(ctx.env)
  const manifest: Manifest = {
    format: 'caretaker-backup/1',
    id: dump.id,
    app: ctx.config.app.name,
    caretakerVersion: caretakerVersion,
    signer: signer?.publicKey ?? null,
    createdAt: dump.createdAt,
    finishedAt: ctx.clock.now().toISOString(),
    database: { ...dump.database, serverVersion: dump.serverVersion.text, serverVersionNumber: dump.serverVersion.number },
    snapshot: dump.snapshot,
    encryption: encryptionOf(sealing),
    compression: 'zstd',
    restrictKey: dump.restrictKey,
    objects: [
      ...dump.before,
      ...data,
      ...largeObjects.map((part) => part.object),
      ...dump.after.filter((object) => object.kind === 'large-object-owners'),
      states,
      ...dump.after.filter((object) => object.kind !== 'large-object-owners'),
      ...files.objects,
    ],
    tables,
    sequences,
    largeObjects: { count: dump.largeObjects, parts: largeObjects.map(partOf) },
    extensions: [...dump.extensions],
    roles: [...dump.roles],
    ...files.files,
    leftOut: files.leftOut,
  }
  manifest.objects.push(
    await writeDocument(sealing, 'RESTORE.md', restoreNotes(manifest)),
    await writeDocument(sealing, 'restore.sh', restoreScript(manifest)),
  )
  // Before the backup shows: whoever looks at it must know the key.
  if (signer !== null) await pinSigner(ctx, signer.publicKey)
  await writeManifest(sealing.store, manifest, signer, sealing.signal)
  await closeFileJournal(sealing.store, dump.id)
  return manifest
}

function encryptionOf(sealing: Sealing): Manifest['encryption'] {
  if (sealing.recipients === null) return { kind: 'none' }
  const drill = sealing.drillRecipient ?? null
  const recipients = sealing.recipients.filter((recipient) => recipient !== drill)
  return { kind: 'age', recipients, ...(drill === null ? {} : { drillRecipient: drill }) }
}

async function readSequences(session: Session, excludeSchemas: readonly string[]): Promise<Manifest['sequences']> {
  const states: Manifest['sequences'] = []
  for (const { schema, name } of await listSequences(session, excludeSchemas)) {
    const [state] = await session
      .query<{ lastValue: string; isCalled: boolean }>(
        `select last_value::text as "lastValue", is_called as "isCalled" from ${qualified(schema, name)}`,
      )
      .catch((error: unknown) => {
        throw dumpFailure(error, `Sequence ${schema}.${name}`)
      })
    if (state !== undefined) states.push({ schema, name, ...state })
  }
  return states
}
