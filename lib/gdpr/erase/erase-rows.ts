import { identifier, qualified, type Transaction } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { withoutPerson } from '../map/links.ts'
import type { MapTable, SubjectMap, Transform } from '../map/subject-map.ts'
import {
  circleOf,
  circleSource,
  circleSql,
  isSubject,
  joined,
  keyList,
  oid,
  relation,
  rowsOf,
  type Source,
  sameAs,
  sameRow,
  subjectSetting,
  tid,
} from '../rows/membership.ts'

export interface ErasedRows {
  deleted: Record<string, number>
  anonymised: Record<string, number>
  kept: Record<string, { rows: number; basis: string; until: string }>
  /** References emptied in rows that stay, by `table.constraint`. */
  cut: Record<string, number>
}

/** True when no row was found. */
export function isNothing({ deleted, anonymised, kept, cut }: ErasedRows): boolean {
  return ![
    ...Object.values(deleted),
    ...Object.values(anonymised),
    ...Object.values(cut),
    ...Object.values(kept).map(({ rows }) => rows),
  ].some((rows) => rows > 0)
}

export interface EraseRowsOptions {
  /** Tables whose rows Supabase Auth deletes by its own API, after this. */
  leaveTo: ReadonlySet<string>
  /** Where kept rows are remembered until their time ends; undefined where Caretaker is not installed. */
  requestId: string | undefined
  now: Date
  /** What pseudonyms are made with: 64 hexadecimal digits, derived from ENCRYPTION_KEY. */
  pseudonymKey: string
  /** Called before each table. */
  onTable: (table: string, done: number, of: number) => void
}

/**
 * Erases one person's rows, set-based, inside the caller's transaction (READ COMMITTED).
 *
 * 1. Keys: parents first, each set of key columns goes to a temporary table. Where a row that comes in meanwhile would not be
 *    stopped by its constraint, the rows it could reference are locked first: the insert waits, and then fails.
 * 2. What stays: kept rows are noted, columns overwritten, references to what is deleted emptied. After this no
 *    ON DELETE action can reach a row that stays.
 * 3. Deletions: children first. Tables that reference each other in a circle go in one statement, because constraints are
 *    checked at its end: no key has to be nullable or deferrable for it.
 *
 * @throws {CaretakerError} `conflict` when rows came up that a trigger or a concurrent change put in the way
 */
export async function eraseRows(tx: Transaction, map: SubjectMap, subjectId: string, options: EraseRowsOptions): Promise<ErasedRows> {
  const erased: ErasedRows = { deleted: {}, anonymised: {}, kept: {}, cut: {} }
  const order = [...map.tables.keys()]
  const source: Source = (key) => `pg_temp."caretaker:${order.indexOf(key)}"`
  // Policies must not hide rows from an erasure: an error is better than a residue.
  await tx.execute('set local row_security = off')
  await tx.query(`select set_config('${subjectSetting}', $1, true)`, [subjectId])

  const sets = new Map<string, number>()
  for (const group of map.groups) {
    const circle = circleOf(map, group[0] as string)
    if (circle !== undefined)
      await tx.execute(
        `create temporary table ${unqualified(circleSource(circle, source))} on commit drop as ${walked(map, circle, source)} select * from ${walk}`,
      )
    for (const key of group) {
      const table = map.tables.get(key) as MapTable
      if (needsSet(map, table)) sets.set(key, await createSet(tx, map, table, source))
    }
    if (circle?.some((key) => map.tables.get(key)?.lock) === true) await requireSettled(tx, map, circle, source)
  }

  let done = 0
  for (const table of map.tables.values()) {
    if (table.erase.kind !== 'keep' && table.erase.kind !== 'anonymise') continue
    options.onTable(table.key, done++, order.length)
    const rows = await overwrite(tx, table, source, options)
    if (table.erase.kind === 'anonymise') erased.anonymised[table.key] = rows
    else erased.kept[table.key] = { rows, basis: table.erase.basis, until: await endOf(tx, options.now, table.erase.until) }
  }
  for (const cut of map.cuts) {
    const rows = await emptyReference(tx, map, cut, source)
    if (rows > 0) erased.cut[`${cut.foreignKey.table}.${cut.foreignKey.name}`] = rows
  }
  for (const group of map.deletions) {
    const here = group.filter((key) => !options.leaveTo.has(key))
    for (const key of here) options.onTable(key, done++, order.length)
    Object.assign(erased.deleted, await deleteGroup(tx, map, here, source))
    for (const key of here) {
      // Fewer than were found: the app's own triggers may have deleted some first, or may have refused.
      if (!sets.has(key) || sets.get(key) === erased.deleted[key]) continue
      const table = map.tables.get(key) as MapTable
      const [left] = await tx.query<{ n: number }>(
        `select count(*)::int as n from ${relation(table)} t where exists (select from ${source(key)} k where ${sameRow(table, 't', 'k')})`,
      )
      if ((left?.n ?? 0) > 0)
        throw new CaretakerError(
          'conflict',
          `${left?.n} rows of ${key} could not be deleted: a trigger or rule of the table keeps them. Nothing was changed.`,
        )
    }
  }
  return erased
}

const walk = '"caretaker:walk"'

function walked(map: SubjectMap, circle: readonly string[], source: Source): string {
  return `with recursive ${walk}(n, ${oid}, ${tid}) as (${circleSql(map, circle, source, walk)})`
}

/** A temporary table is created without a schema, and read with one so that nothing else can be meant. */
function unqualified(name: string): string {
  return name.replace('pg_temp.', '')
}

/** A leaf is deleted by its parents' keys alone; everything else is noted first. */
function needsSet(map: SubjectMap, table: MapTable): boolean {
  if (table.key === map.root || table.erase.kind === 'keep' || table.erase.kind === 'anonymise') return true
  if (table.table.interferes || circleOf(map, table.key) !== undefined) return true
  if (map.deletions.some((group) => group.length > 1 && group.includes(table.key))) return true
  if (map.cuts.some((cut) => cut.foreignKey.references === table.key || cut.foreignKey.table === table.key)) return true
  return [...map.tables.values()].some((other) => other.edges.some((edge) => edge.parent === table.key))
}

async function createSet(tx: Transaction, map: SubjectMap, table: MapTable, source: Source): Promise<number> {
  const lock = table.lock ? ' for update of t' : ''
  const rows = await tx.execute(
    `create temporary table ${unqualified(source(table.key))} on commit drop as ${rowsOf(map, table, keyList(map, table, true), source)}${lock}`,
  )
  // Without statistics a set of a hundred thousand keys is planned like one of ten.
  await tx.execute(`analyze ${source(table.key)}`)
  return rows
}

/** A row that entered the circle while its rows were being locked is found by asking again. */
async function requireSettled(tx: Transaction, map: SubjectMap, circle: readonly string[], source: Source): Promise<void> {
  const [late] = await tx.query<{ found: boolean }>(
    `${walked(map, circle, source)} select exists (select * from ${walk} except select * from ${circleSource(circle, source)}) as found`,
  )
  if (late?.found === true) throw new ChangedMeanwhile()
}

/** Rows changed between finding and locking them; the transaction is tried again. */
export class ChangedMeanwhile extends Error {
  override readonly name = 'ChangedMeanwhile'
}

async function overwrite(tx: Transaction, table: MapTable, source: Source, options: EraseRowsOptions): Promise<number> {
  const { erase } = table
  if (erase.kind !== 'keep' && erase.kind !== 'anonymise') return 0
  if (erase.kind === 'keep' && options.requestId !== undefined && table.identity.length > 0) {
    const key = table.identity.map((name) => `'${name.replaceAll("'", "''")}', k.${identifier(name)}`).join(', ')
    await tx.execute(
      `insert into caretaker.gdpr_kept (request_id, table_name, row_key, basis, until)
       select $1::uuid, $2::text, jsonb_build_object(${key}), $3::text, $4::timestamptz + $5::interval from ${source(table.key)} k
       on conflict (table_name, row_key) do nothing`,
      [options.requestId, table.key, erase.basis, options.now, erase.until],
    )
  }
  const columns = Object.entries(erase.set)
  const values: (string | null)[] = columns.map(([, value]) => (value === null ? null : String(value)))
  if (columns.length === 0 && erase.unlink.length === 0 && Object.keys(erase.transform).length === 0) {
    const [row] = await tx.query<{ n: number }>(`select count(*)::float8 as n from ${source(table.key)}`)
    return row?.n ?? 0
  }
  const type = (name: string) => table.table.columns.find((column) => column.name === name)?.type ?? 'text'
  const assignments = columns.map(([name], n) => `${identifier(name)} = $${n + 1}::text::${type(name)}`)
  for (const [name, how] of Object.entries(erase.transform)) {
    const own = `t.${identifier(name)}`
    if ('pseudonym' in how) {
      values.push(options.pseudonymKey)
      // A keyed hash of fixed-length key and value, cut to half, from which no longer one can be made.
      assignments.push(
        `${identifier(name)} = left(encode(sha256(convert_to($${values.length}::text || ${own}::text, 'UTF8')), 'hex'), 32)::${type(name)}`,
      )
    } else assignments.push(`${identifier(name)} = ${generalised(own, type(name), how.generalise)}`)
  }
  for (const edge of erase.unlink) {
    const column = table.table.columns.find(({ name }) => name === edge.columns[0])
    if (column === undefined) continue
    const [parent = ''] = edge.parentColumns
    const value = withoutPerson(edge.place ?? { in: 'scalar' }, column, 't', source(edge.parent), `k.${identifier(parent)}`, sameAs(edge))
    assignments.push(`${identifier(column.name)} = ${value}`)
  }
  return tx.execute(
    `update ${relation(table)} t set ${assignments.join(', ')} from ${source(table.key)} k where ${sameRow(table, 't', 'k')}`,
    values,
  )
}

/** Less precise, of the same type. */
function generalised(column: string, type: string, how: Extract<Transform, { generalise: unknown }>['generalise']): string {
  if (typeof how === 'string') return `date_trunc('${how}', ${column})::${type}`
  if ('first' in how) return `left(${column}::text, ${Math.trunc(how.first)})::${type}`
  return `(floor(${column}::numeric / ${how.step}) * ${how.step})::${type}`
}

async function emptyReference(tx: Transaction, map: SubjectMap, cut: SubjectMap['cuts'][number], source: Source): Promise<number> {
  const { foreignKey: fk, columns, table } = cut
  const own = map.tables.get(fk.table)
  const target = { parentColumns: fk.referencedColumns, columns: fk.columns, operators: fk.operators }
  const going = own?.erase.kind === 'delete' ? ` and not exists (select from ${source(own.key)} s where ${sameRow(own, 't', 's')})` : ''
  const where = `exists (select from ${source(fk.references)} k where ${joined(target, 'k', 't')})${going}`
  const from = qualified(table.schema, table.name)
  if (columns.length > 0)
    return tx.execute(`update ${from} t set ${columns.map((name) => `${identifier(name)} = ${cut.to}`).join(', ')} where ${where}`)
  // ON DELETE CASCADE would silently take these rows: they are somebody else's, or to be kept.
  const held = await tx.query(`select from ${from} t where ${where} limit 1`)
  if (held.length > 0)
    throw new CaretakerError(
      'policy_invalid',
      `${fk.table}(${fk.columns.join(', ')}) holds a mandatory reference (${fk.name}) to rows of ${fk.references} that are to be deleted. A dry run says what can be done. Nothing was changed.`,
    )
  return 0
}

async function deleteGroup(tx: Transaction, map: SubjectMap, group: readonly string[], source: Source): Promise<Record<string, number>> {
  const statements = group.map((key) => {
    const table = map.tables.get(key) as MapTable
    if (needsSet(map, table)) return `delete from ${relation(table)} t using ${source(key)} k where ${sameRow(table, 't', 'k')}`
    const [edge, ...others] = table.edges
    if (table.key === map.root || edge === undefined)
      return `delete from ${relation(table)} t where ${table.key === map.root ? isSubject(map) : 'false'}`
    if (others.length === 0)
      return `delete from ${relation(table)} t where exists (select from ${source(edge.parent)} k where ${joined(edge, 'k', 't')})`
    return `delete from ${relation(table)} t using (${rowsOf(map, table, `t.tableoid as ${oid}, t.ctid as ${tid}`, source)}) k where ${sameRow({ ...table, identity: [] }, 't', 'k')}`
  })
  const [first] = group
  if (first === undefined) return {}
  if (group.length === 1) return { [first]: await tx.execute(statements[0] as string) }
  const parts = statements.map((sql, n) => `d${n} as (${sql} returning 1)`)
  const counts = group.map((_key, n) => `(select count(*) from d${n})::float8 as c${n}`)
  const [row] = await tx.query<Record<string, number>>(`with ${parts.join(', ')} select ${counts.join(', ')}`)
  return Object.fromEntries(group.map((key, n) => [key, row?.[`c${n}`] ?? 0]))
}

/** "10 years" from now, by PostgreSQL's calendar. */
async function endOf(tx: Transaction, now: Date, duration: string): Promise<string> {
  const [row] = await tx.query<{ until: Date }>('select $1::timestamptz + $2::interval as until', [now, duration])
  return (row?.until ?? now).toISOString().slice(0, 10)
}
