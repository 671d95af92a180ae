import type { Queryable } from '../../platform/db.ts'
import { identifier, qualified } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { databaseRefusal } from '../database-refusal.ts'
import type { Cut } from '../map/cuts.ts'
import { type MapTable, overwrittenColumns, type SubjectMap } from '../map/subject-map.ts'
import { identityList, joined, keySets, rowsOf, sameRow, subjectSetting } from '../rows/membership.ts'

export interface PlannedTable {
  table: string
  rows: number
  action: 'delete' | 'anonymise' | 'keep' | 'storage'
  /** Columns that are emptied or overwritten in rows that stay. */
  columns?: string[]
  basis?: string
  until?: string
}

/** Rows that stay and lose their reference to a deleted row. */
export interface PlannedCut {
  table: string
  constraint: string
  columns: string[]
  references: string
  rows: number
}

export interface ErasePlan {
  tables: PlannedTable[]
  cuts: PlannedCut[]
  /** What makes the erasure impossible as the policy stands. Empty means it can run. */
  blockers: string[]
  warnings: string[]
}

/** Counts, in the caller's transaction, what erasing the subject would touch. Changes nothing. */
export async function planErasure(tx: Queryable, map: SubjectMap, subjectId: string): Promise<ErasePlan> {
  await tx.execute('set local row_security = off')
  await tx.query(`select set_config('${subjectSetting}', $1, true)`, [subjectId])
  const tables: PlannedTable[] = []
  const warnings: string[] = []
  const blockers = staticBlockers(map)
  for (const table of map.tables.values()) {
    const { prefix, source } = keySets(map, [table.key])
    const rows = await count(tx, `${prefix}select count(*)::float8 as rows from (${rowsOf(map, table, '1', source)}) as mine`)
    tables.push({ table: table.key, rows, ...describeAction(table) })
    const above = table.edges
      .map((edge) => map.tables.get(edge.parent))
      .find((parent) => parent?.erase.kind === 'keep' || parent?.erase.kind === 'anonymise')
    if (above !== undefined && rows > 0 && !table.classified && table.erase.kind === 'delete')
      warnings.push(
        `${table.key} hangs from ${above.key}, which stays; its ${rows} rows are deleted because gdpr.tables does not describe ${table.key}.`,
      )
  }
  const cuts: PlannedCut[] = []
  for (const cut of map.cuts) {
    const { prefix, sql } = cutRows(map, cut)
    const rows = await count(tx, `${prefix}select count(*)::float8 as rows from ${sql}`)
    if (rows === 0) continue
    const planned = {
      table: cut.foreignKey.table,
      constraint: cut.foreignKey.name,
      columns: [...cut.columns],
      references: cut.foreignKey.references,
      rows,
    }
    if (cut.columns.length === 0 && !overwritten(map, cut)) blockers.push(mandatory(cut, rows))
    else cuts.push(planned)
  }
  return { tables, cuts, blockers, warnings }
}

/** @throws {CaretakerError} `policy_invalid` naming every blocker */
export function refuseBlocked(plan: Pick<ErasePlan, 'blockers'>): void {
  if (plan.blockers.length === 0) return
  throw new CaretakerError(
    'policy_invalid',
    `This person cannot be erased as the policy stands:\n${plan.blockers.map((line) => `  ${line}`).join('\n')}`,
    {
      issues: plan.blockers.map((message) => ({ path: 'gdpr.tables', message })),
    },
  )
}

function describeAction({ erase }: MapTable): Omit<PlannedTable, 'table' | 'rows'> {
  if (erase.kind === 'delete' || erase.kind === 'storage') return { action: erase.kind }
  const columns = overwrittenColumns(erase)
  return erase.kind === 'anonymise' ? { action: 'anonymise', columns } : { action: 'keep', basis: erase.basis, until: erase.until, columns }
}

/** What the catalogue alone forbids, whoever the person is. */
export function staticBlockers(map: SubjectMap): string[] {
  const blockers: string[] = []
  for (const { key, table, erase, identity } of map.tables.values()) {
    if (erase.kind !== 'anonymise' && erase.kind !== 'keep') continue
    if (erase.kind === 'keep' && identity.length === 0)
      blockers.push(
        `${key} has neither a primary key nor a unique one without nulls, so the rows that are kept could not be found when their time ends; add one.`,
      )
    for (const name of erase.kind === 'keep' ? identity : [])
      if (name in erase.set)
        blockers.push(
          `${key}.${name} is part of the key by which kept rows are found when their time ends, and cannot be anonymised; give the table another key.`,
        )
    for (const [name, how] of Object.entries(erase.transform)) {
      const type = table.columns.find((known) => known.name === name)?.type ?? ''
      const fits =
        'pseudonym' in how
          ? /^(text|citext|character varying)$/.test(type) || Number(/^character varying\((\d+)\)$/.exec(type)?.[1] ?? 0) >= 32
          : typeof how.generalise === 'string'
            ? /^(date|timestamp)/.test(type)
            : 'first' in how.generalise
              ? /^(text|citext|character)/.test(type)
              : /^(smallint|integer|bigint|numeric|real|double precision)/.test(type)
      if (!fits)
        blockers.push(
          `${key}.${name} is of type ${type}, which ${'pseudonym' in how ? 'cannot hold a pseudonym: text of 32 characters' : 'cannot be generalised that way'}.`,
        )
    }
    for (const [name, value] of Object.entries(erase.set)) {
      const column = table.columns.find((known) => known.name === name)
      if (column?.generated === true)
        blockers.push(`${key}.${name} is a generated column and cannot be anonymised; anonymise what it is made from.`)
      else if (value === null && column?.notNull === true)
        blockers.push(
          `${key}.${name} is NOT NULL and cannot be emptied; give a constant: erase: { anonymise: { ${name}: '…' } }, or make the column nullable.`,
        )
      const referenced = [...map.tables.values()].some((other) =>
        other.edges.some((edge) => edge.kind === 'key' && edge.parent === key && edge.parentColumns.includes(name)),
      )
      if (referenced) blockers.push(`${key}.${name} is referenced by a foreign key and cannot be anonymised in place.`)
    }
  }
  return blockers
}

function overwritten(map: SubjectMap, cut: Cut): boolean {
  const erase = map.tables.get(cut.foreignKey.table)?.erase
  return (erase?.kind === 'anonymise' || erase?.kind === 'keep') && cut.foreignKey.columns.some((name) => name in erase.set)
}

function mandatory(cut: Cut, rows: number): string {
  const { table, columns, references, name } = cut.foreignKey
  const from = `${table}(${columns.join(', ')})`
  const nullable = `alter table ${table} alter column ${columns.at(-1)} drop not null`
  if (cut.from === 'kept')
    return `${rows} rows of ${from} are to stay but reference ${references} (${name}), whose rows are deleted, and the column is NOT NULL. Make it nullable (${nullable}), or point it at a placeholder: erase: { anonymise: { ${columns.at(-1)}: '<id of the placeholder>' } }.`
  return `${rows} rows of ${from} that are not this person's reference rows of ${references} that are deleted (${name}), and the column is NOT NULL. Keep or anonymise ${references}, or make the column nullable (${nullable}).`
}

/** The rows behind one cut, as a FROM item: they reference what is deleted, and are not deleted themselves. */
function cutRows(map: SubjectMap, cut: Cut): { prefix: string; sql: string } {
  const own = map.tables.get(cut.foreignKey.table)
  const parent = map.tables.get(cut.foreignKey.references) as MapTable
  const keys = own?.erase.kind === 'delete' ? [parent.key, own.key] : [parent.key]
  const { prefix, source } = keySets(map, keys)
  const referenced = cut.foreignKey.referencedColumns.map((name) => `t.${identifier(name)}`).join(', ')
  const going =
    own?.erase.kind === 'delete'
      ? ` and not exists (select from (${rowsOf(map, own, identityList(own), source)}) s where ${sameRow(own, 'c', 's')})`
      : ''
  const target = { parentColumns: cut.foreignKey.referencedColumns, columns: cut.foreignKey.columns, operators: cut.foreignKey.operators }
  const sql = `${qualified(cut.table.schema, cut.table.name)} c where exists (select from (${rowsOf(map, parent, referenced, source)}) k where ${joined(target, 'k', 'c')})${going}`
  return { prefix, sql }
}

async function count(tx: Queryable, sql: string): Promise<number> {
  try {
    const [row] = await tx.query<{ rows: number }>(sql)
    return row?.rows ?? 0
  } catch (error) {
    throw databaseRefusal(error, 'plan')
  }
}
