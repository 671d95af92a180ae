import { identifier, qualified, type Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { copyObjectIn } from './copy-in.ts'
import { tableFraming } from './framing.ts'
import { codeOf, hashCuts, type Loading, partObject, type RestoredTable, reasonOf } from './load-tables.ts'
import type { Manifest, ManifestTable } from './manifest.ts'
import { Digest } from './meter.ts'
import { copyIn, copyOut } from './part-sql.ts'
import { adviceOnRows } from './restore/advice.ts'
import { shellWord } from './shell-word.ts'
import { nameOf } from './table-name.ts'

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
  await requireEmpty(session, table)
  let doneBytes = 0
  try {
    return await moveIn(loading, session, table, noting, (bytes) => {
      doneBytes += bytes
      loading.onProgress?.({ phase: 'load', what: name, doneBytes, totalBytes: table.bytes })
    })
  } catch (error) {
    throw new CaretakerError(
      codeOf(error),
      `Table ${name} could not be restored, and is as it was; it failed after ${doneBytes} of ${table.bytes} bytes: ${reasonOf(error)}${adviceOnRows(error)}`,
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
  // Rules would do something else, or more: what they did is in the backup.
  const rules = await session.query<{ name: string; enabled: string }>(
    `select rulename as name, ev_enabled::text as enabled from pg_catalog.pg_rewrite where ev_class = $1::regclass and ev_type = '3' and ev_enabled in ('O', 'A')`,
    [target],
  )
  const still = [...triggers.map((one) => ({ ...one, kind: 'trigger' })), ...rules.map((one) => ({ ...one, kind: 'rule' }))]
  for (const { kind, name } of still) await session.execute(`alter table ${target} disable ${kind} ${identifier(name)}`)
  const list = table.columns.map(identifier).join(', ')
  const moved = await session.execute(
    `insert into ${target} (${list}) overriding system value select ${list} from pg_temp.caretaker_staged`,
  )
  // Deferred checks are made now: a table with checks outstanding cannot be altered.
  await session.execute('set constraints all immediate')
  for (const { kind, name, enabled } of still)
    await session.execute(`alter table ${target} enable ${enabled === 'A' ? 'always ' : ''}${kind} ${identifier(name)}`)
  if (moved !== table.rows)
    throw new CaretakerError('restore_mismatch', `${name}: ${moved} rows were restored; the backup holds ${table.rows}.`)
  await raiseSequences(loading.manifest, session, table, target)
  for (const sql of noting) await session.execute(sql)
  await session.execute('commit')
  return { table: name, rows: moved, verified: true }
}

/** @throws {CaretakerError} `not_found`, `restore_target_not_empty`: rows can only be brought back into a table that is there, empty */
export async function requireEmpty(session: Session, { schema, name: table }: ManifestTable): Promise<void> {
  const name = nameOf({ schema, name: table })
  const target = qualified(schema, table)
  const [there] = await session.query<{ exists: boolean }>('select to_regclass($1) is not null as exists', [target])
  if (there?.exists !== true)
    throw new CaretakerError(
      'not_found',
      `The target has no table ${name}. --only brings rows back into tables that are there. To get the table itself, restore the backup into an empty database beside it, without --only, and copy it from there (with pg_dump of the server's version or newer): pg_dump --table=${shellWord(qualified(schema, table))} EMPTY_DATABASE_URL | psql -1 -v ON_ERROR_STOP=1 TARGET_URL`,
    )
  const [row] = await session.query(`select from ${target} limit 1`)
  if (row !== undefined)
    throw new CaretakerError(
      'restore_target_not_empty',
      `${name} has rows in the target. --only brings rows back into empty tables: rename or truncate it first, or restore the backup into an empty database beside it, without --only, and take from there the rows that are missing here.`,
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
