import { once } from 'node:events'
import { PassThrough, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { readObjectInto, readObjectText } from './object-stream.ts'
import type { OnProgress } from './progress.ts'
import { loadOrder } from './restore-by-hand.ts'
import { type BackupChoice, selectBackup } from './select-backup.ts'
import { checkObjects, openBackup } from './verify-backup.ts'

export interface ExportInput extends BackupChoice {
  /** Where the script goes; ended when all of it is written. */
  to: Writable
  onProgress?: OnProgress
}

export interface ExportReport {
  id: string
  tables: number
  rows: number
  bytes: number
}

/**
 * Writes a backup as one SQL script that `psql -v ON_ERROR_STOP=1 -f` loads into an empty database. Not encrypted.
 * @throws {CaretakerError} `backup_corrupt` and `backup_untrusted` before the first byte is written, `backup_identity`, `object_missing`
 */
export async function exportBackup(ctx: Context, input: ExportInput): Promise<ExportReport> {
  const store = await ctx.objects()
  const manifest = await selectBackup(ctx, store, input)
  const { id } = manifest
  const opening = openBackup(ctx, store, manifest, input.identity)
  if (opening.encrypted && opening.identities.length === 0)
    throw new CaretakerError('backup_identity', `Backup ${id} is encrypted; give the identity file with --identity.`)
  await checkObjects(opening, manifest.objects, input.onProgress)
  // Every object is a script already: one after the other they are one.
  const script = new PassThrough()
  const written = pipeline(script, input.to)
  let bytes = 0
  const write = async (chunk: Buffer) => {
    bytes += chunk.length
    // Where it goes may fail while this waits; then nothing is drained any more.
    if (!script.write(chunk)) await Promise.race([once(script, 'drain'), written])
  }
  const all = (async () => {
    await write(
      Buffer.from(
        `-- Backup ${id} of "${manifest.database.name.replace(/[\r\n]/g, ' ')}", PostgreSQL ${manifest.database.serverVersion}, as it was at ${manifest.createdAt}.\n`,
      ),
    )
    for (const object of loadOrder(manifest)) {
      if (object.kind === 'pre-data' || object.kind === 'post-data')
        await write(Buffer.from(forAnyServer(await readObjectText(opening, object))))
      else
        await readObjectInto(opening, object, [
          async (from) => {
            for await (const chunk of from) await write(chunk)
          },
        ])
      await write(Buffer.from('\n'))
    }
    await write(Buffer.from('analyze;\n'))
    script.end()
  })()
  all.catch((error: Error) => script.destroy(error))
  const [wrote, read] = await Promise.allSettled([written, all])
  if (read.status === 'rejected') throw read.reason
  if (wrote.status === 'rejected') throw wrote.reason
  return { id, tables: manifest.tables.length, rows: manifest.tables.reduce((sum, table) => sum + table.rows, 0), bytes }
}

/** Servers before PostgreSQL 17 do not know that setting, and psql is to stop at errors. */
function forAnyServer(schema: string): string {
  return schema.replace(
    /^SET transaction_timeout = 0;$/m,
    `SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout';`,
  )
}
