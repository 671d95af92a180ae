import { PassThrough, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { readObjectInto } from './object-stream.ts'
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
    if (!script.write(chunk)) await new Promise((drained) => script.once('drain', drained))
  }
  const all = (async () => {
    await write(
      Buffer.from(
        `-- Backup ${id} of "${manifest.database.name.replace(/[\r\n]/g, ' ')}", PostgreSQL ${manifest.database.serverVersion}, as it was at ${manifest.createdAt}.\n`,
      ),
    )
    for (const object of loadOrder(manifest)) {
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
