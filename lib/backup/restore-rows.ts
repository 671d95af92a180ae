import type { Context } from '../platform/context.ts'
import type { Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { loadIntoExisting, requireEmpty } from './load-into-existing.ts'
import { codeOf, type Loading, type RestoredTable, reasonOf } from './load-tables.ts'
import type { Manifest } from './manifest.ts'
import { type Bound, dropRestore, findRestore, Journal, resuming, rowsSchema } from './restore/journal.ts'
import { requireSame } from './restore/require-same.ts'
import { textOf } from './restore/restore-all.ts'
import type { Restored, RestoreInput } from './restore-backup.ts'
import { selectTables } from './select-tables.ts'
import { nameOf } from './table-name.ts'
import { foreignKeyOrder } from './target.ts'
import { checkObjects } from './verify-backup.ts'

/**
 * Brings rows of some tables back into a database that is in use. Each table is restored in one transaction, which notes it: what is there is
 * not touched by a run that goes on.
 */
export async function restoreRows(ctx: Context, input: RestoreInput, loading: Loading, names: readonly string[]): Promise<Restored> {
  const { main, manifest, opening, onProgress } = loading
  // A wrong identity shows before the whole backup is read.
  const only = selectTables(manifest, names, await textOf(opening, manifest, 'pre-data'))
  const bound = { only: only.map(nameOf).sort() }
  const found = await findRestore(main, rowsSchema)
  // Each table is whole or not there: what another run has brought back is in nobody's way.
  if (found !== null && input.resume === true) requireSame(found, manifest, bound, true)
  const journalled = found !== null && input.resume === true ? await Journal.resume(main, rowsSchema) : null
  const waiting = only.filter((table) => journalled?.isDone(`rows:${nameOf(table)}`) !== true)
  for (const table of waiting) await requireEmpty(main, table)
  const keys = new Set(waiting.flatMap((table) => table.parts.map((part) => part.key)))
  await checkObjects(
    opening,
    manifest.objects.filter((object) => keys.has(object.key)),
    onProgress,
  )
  if (input.resume !== true) await dropRestore(main)
  const journal = journalled ?? (await beginRows(main, manifest, bound))
  const [target] = await main.query<{ name: string }>('select current_database() as name')
  const tables: RestoredTable[] = []
  const byName = new Map(only.map((table) => [nameOf(table), table]))
  try {
    // Parents first: the foreign keys are there.
    for (const name of await foreignKeyOrder(main, [...byName.keys()])) {
      const table = byName.get(name)
      if (table === undefined) continue
      const step = `rows:${name}`
      if (journal?.isDone(step) !== true) {
        const note = journal?.noting(step)
        await loadIntoExisting(loading, main, table, note === undefined ? [] : [note.sql])
        note?.done()
      }
      tables.push({ table: name, rows: table.rows, verified: true })
    }
    await input.beforeOpening?.()
  } catch (error) {
    // With nothing to go on with, nothing is left behind.
    if (tables.length > 0 || ctx.signal.aborted) throw partly(ctx, error, tables, { manifest, bound, noted: journal !== null })
    await dropRestore(main).catch(() => undefined)
    throw error
  }
  await journal?.finish(main)
  return {
    target: target?.name ?? '',
    tables,
    bytes: only.reduce((sum, table) => sum + table.bytes, 0),
    sequences: 0,
    largeObjects: 0,
    skipped: [],
    groups: [],
    notEarly: null,
    notes: [],
    runs: journal?.runs ?? 1,
    startedAt: journal?.startedAt ?? null,
    subscriptions: [],
  }
}

/** null where the role may not make a schema: then nothing is noted, and nothing can be resumed. */
async function beginRows(session: Session, manifest: Manifest, bound: Bound): Promise<Journal | null> {
  try {
    return await Journal.begin(session, manifest, { bound })
  } catch (error) {
    if (sqlState(error) !== '42501') throw error
    return null
  }
}

/** Each table is restored whole or not at all: which are is what one has to know. */
function partly(
  ctx: Context,
  error: unknown,
  done: readonly RestoredTable[],
  { manifest, bound, noted }: { manifest: Manifest; bound: { only: string[] }; noted: boolean },
): CaretakerError {
  const cause = ctx.signal.aborted ? ctx.signal.reason : error
  const names = done.map((table) => table.table)
  const left = bound.only.filter((name) => !names.includes(name))
  const next = noted
    ? `\`${resuming(manifest.id, bound)}\`. What is noted of it is in the schema ${rowsSchema} of the target`
    : left.map((name) => `--only ${name}`).join(' ')
  return new CaretakerError(
    codeOf(cause),
    `${reasonOf(cause)} ${names.length === 0 ? 'No table is restored' : `Restored: ${names.join(', ')}`}. Go on with ${next}.`,
    { cause: error },
  )
}
