import { identifier, qualified, type Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { copyObjectIn } from './copy-in.ts'
import { tableFraming } from './framing.ts'
import { codeOf, hashCuts, type Loading, nameOf, partObject, type RestoredTable, reasonOf } from './load-tables.ts'
import type { Manifest, ManifestTable } from './manifest.ts'
import { Digest } from './meter.ts'
import { copyIn, copyOut } from './part-sql.ts'

/**
 * The tables of a backup that `names` mean: `table` (in public), `schema.table`, or a partitioned table for all of its rows.
 * @throws {CaretakerError} `not_found` naming the first that the backup does not have
 */
export function selectTables(manifest: Manifest, names: readonly string[]): ManifestTable[] {
  return names.map((name) => {
    const wanted = name.includes('.') ? name : `public.${name}`
    const found = manifest.tables.find((table) => `${table.schema}.${table.name}` === wanted)
    if (found === undefined)
      throw new CaretakerError(
        'not_found',
        `The backup has no rows of a table "${wanted}". It has ${manifest.tables.map((table) => `${table.schema}.${table.name}`).join(', ')}.`,
      )
    return found
  })
}

/**
 * Brings the rows of one table back into a database that has the table, empty. They go into a temporary table first, are
 * compared there, and then move over in the same transaction, which runs `noting`, too; triggers of the app do not fire for them.
 * @throws {CaretakerError} `restore_target_not_empty`, `not_found`, `restore_mismatch`
 */
export async function loadIntoExisting(
  loading: Loading,
  session: Session,
  table: ManifestTable,
  noting: readonly string[],
): Promise<RestoredTable> {
  const name = nameOf(table)
  const target = qualified(table.schema, table.name)
  await requireEmpty(session, name, target)
  let doneBytes = 0
  try {
    return await moveIn(loading, session, table, noting, (bytes) => {
      doneBytes += bytes
      loading.onProgress?.({ phase: 'load', what: name, doneBytes, totalBytes: table.bytes })
    })
  } catch (error) {
    throw new CaretakerError(
      codeOf(error),
      `Table ${name} could not be restored, and is as it was; it failed after ${doneBytes} of ${table.bytes} bytes: ${reasonOf(error)}`,
      { cause: error },
    )
  }
}

async function moveIn(
  loading: Loading,
  session: Session,
  table: ManifestTable,
  noting: readonly string[],
  onBytes: (bytes: number) => void,
): Promise<RestoredTable> {
  const name = nameOf(table)
  const target = qualified(table.schema, table.name)
  const staged = { ...table, schema: 'pg_temp', name: 'caretaker_staged' }
  await session.execute('begin')
  await session.execute(
    `create temporary table caretaker_staged on commit drop as select ${table.columns.map(identifier).join(', ')} from only ${target} with no data`,
  )
  const framing = tableFraming(table)
  for (const part of table.parts) {
    const object = partObject(loading.manifest, part.key)
    const digest = new Digest()
    await copyObjectIn(loading.opening, object, session, copyIn(staged, { freeze: true }), framing, (piece) => {
      digest.update(piece)
      onBytes(piece.length)
    })
    if (digest.measured().sha256 !== object.contentSha256)
      throw new CaretakerError('backup_corrupt', `${object.key} does not hold what its manifest says.`)
  }
  const objects = table.parts.map((part) => partObject(loading.manifest, part.key))
  const found = await hashCuts(
    session,
    copyOut(staged, null),
    objects.map((object) => object.contentBytes),
  )
  if (!objects.every((object, index) => found[index] === object.contentSha256))
    throw new CaretakerError('restore_mismatch', `${name}: what was restored does not equal what was backed up.`)
  const triggers = await session.query<{ name: string; enabled: string }>(
    `select tgname as name, tgenabled::text as enabled from pg_catalog.pg_trigger where tgrelid = $1::regclass and not tgisinternal and tgenabled in ('O', 'A')`,
    [target],
  )
  for (const trigger of triggers) await session.execute(`alter table ${target} disable trigger ${identifier(trigger.name)}`)
  const list = table.columns.map(identifier).join(', ')
  const moved = await session.execute(
    `insert into ${target} (${list}) overriding system value select ${list} from pg_temp.caretaker_staged`,
  )
  // Deferred checks are made now: a table with checks outstanding cannot be altered.
  await session.execute('set constraints all immediate')
  for (const trigger of triggers)
    await session.execute(`alter table ${target} enable ${trigger.enabled === 'A' ? 'always ' : ''}trigger ${identifier(trigger.name)}`)
  if (moved !== table.rows)
    throw new CaretakerError('restore_mismatch', `${name}: ${moved} rows were restored; the backup holds ${table.rows}.`)
  await raiseSequences(loading.manifest, session, table, target)
  for (const sql of noting) await session.execute(sql)
  await session.execute('commit')
  return { table: name, rows: moved, verified: true }
}

async function requireEmpty(session: Session, name: string, target: string): Promise<void> {
  const [there] = await session.query<{ exists: boolean }>('select to_regclass($1) is not null as exists', [target])
  if (there?.exists !== true)
    throw new CaretakerError(
      'not_found',
      `The target has no table ${name}. --only brings rows back into tables that are there; make it, or restore everything into an empty database.`,
    )
  const [row] = await session.query(`select from ${target} limit 1`)
  if (row !== undefined)
    throw new CaretakerError(
      'restore_target_not_empty',
      `${name} has rows in the target. --only brings rows back into empty tables: rename or truncate it first.`,
    )
}

/** Sequences of the table's columns go on from where the backup's were, unless they are further already. */
async function raiseSequences(manifest: Manifest, session: Session, table: ManifestTable, target: string): Promise<void> {
  for (const column of table.columns) {
    const [owned] = await session.query<{ name: string | null }>('select pg_get_serial_sequence($1, $2) as name', [target, column])
    if (owned?.name === null || owned === undefined) continue
    const [is] = await session.query<{ schema: string; name: string }>(
      `select n.nspname as schema, c.relname as name from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = $1::regclass`,
      [owned.name],
    )
    const saved = manifest.sequences.find((sequence) => sequence.schema === is?.schema && sequence.name === is.name)
    if (saved === undefined) continue
    await session.query(`select setval($1::regclass, greatest($2::int8, last_value), is_called or $3::bool) from ${owned.name}`, [
      owned.name,
      saved.lastValue,
      saved.isCalled,
    ])
  }
}
