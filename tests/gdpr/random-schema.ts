import type { Database } from '../../lib/platform/db.ts'
import fc from '../support/fast-check.ts'

export interface RandomReference {
  to: number
  onDelete: 'cascade' | 'set null' | 'set default' | 'restrict' | 'no action'
  mandatory: boolean
  unique: boolean
  deferrable: boolean
  /** What each row references: an index into the parent's rows, or null. */
  values: (number | null)[]
}

export interface RandomTable {
  /** A key of two columns: (tenant, id). */
  composite: boolean
  /** In a schema of its own. */
  elsewhere: boolean
  /** Soft link: each row holds the id of a person as text, or null. */
  link: (number | null)[] | null
  references: RandomReference[]
}

export interface RandomSchema {
  tables: RandomTable[]
}

export const rowsPerTable = 5
const rowIndex = fc.integer({ min: 0, max: rowsPerTable - 1 })

/** Tables that reference each other in any way, in circles too. Table 0 is the subject's. */
export const randomSchema: fc.Arbitrary<RandomSchema> = fc.integer({ min: 2, max: 7 }).chain((n) => {
  const reference: fc.Arbitrary<RandomReference> = fc
    .record({
      to: fc.integer({ min: 0, max: n - 1 }),
      onDelete: fc.constantFrom<RandomReference['onDelete']>('cascade', 'set null', 'set default', 'restrict', 'no action'),
      mandatory: fc.boolean(),
      unique: fc.integer({ min: 0, max: 7 }).map((x) => x === 0),
      deferrable: fc.boolean(),
      values: fc.array(fc.option(rowIndex, { freq: 3 }), { minLength: rowsPerTable, maxLength: rowsPerTable }),
    })
    .map((made) => ({
      ...made,
      // A unique reference holds each parent once; a mandatory one holds no null.
      values: made.unique
        ? made.values.map((value, row) => (value === null && !made.mandatory ? null : row))
        : made.mandatory
          ? made.values.map((value) => value ?? 0)
          : made.values,
    }))
  const table: fc.Arbitrary<RandomTable> = fc.record({
    composite: fc.boolean(),
    elsewhere: fc.boolean(),
    link: fc.option(fc.array(fc.option(rowIndex, { freq: 2 }), { minLength: rowsPerTable, maxLength: rowsPerTable }), { freq: 4 }),
    references: fc.array(reference, { maxLength: 3 }),
  })
  return fc.array(table, { minLength: n, maxLength: n }).map((tables) => ({
    tables: tables.map((one, at) =>
      at === 0
        ? { ...one, composite: false, link: null, references: one.references.map((ref) => ({ ...ref, unique: false, mandatory: false })) }
        : one,
    ),
  }))
})

export function tableName(schema: RandomSchema, at: number): string {
  return `${schema.tables[at]?.elsewhere === true ? 'rb' : 'ra'}.t${at}`
}

export function columnsOf(schema: RandomSchema, ref: RandomReference, at: number): string[] {
  return schema.tables[ref.to]?.composite === true ? [`r${at}_tenant`, `r${at}`] : [`r${at}`]
}

/** Builds tables, rows, then keys: circles leave no other order. */
export async function createRandomSchema(db: Database, schema: RandomSchema): Promise<void> {
  const sql = ['drop schema if exists ra cascade', 'drop schema if exists rb cascade', 'create schema ra', 'create schema rb']
  for (const [at, table] of schema.tables.entries()) {
    const references = table.references.flatMap((ref, n) =>
      columnsOf(schema, ref, n).map((column) => `${column} int${ref.mandatory ? ' not null' : ''}`),
    )
    const columns = [
      ...(table.composite ? ['tenant int'] : []),
      'id int',
      'about text',
      ...references,
      `primary key (${table.composite ? 'tenant, id' : 'id'})`,
    ]
    sql.push(`create table ${tableName(schema, at)} (${columns.join(', ')})`)
    const rows = Array.from({ length: rowsPerTable }, (_, row) => {
      const held = table.references.flatMap((ref) => {
        const value = ref.values[row] ?? null
        return schema.tables[ref.to]?.composite === true ? [value === null ? 'null' : '7', value ?? 'null'] : [value ?? 'null']
      })
      const link = table.link?.[row]
      return `(${[...(table.composite ? ['7'] : []), row, link === undefined || link === null ? 'null' : `'${link}'`, ...held].join(', ')})`
    })
    sql.push(`insert into ${tableName(schema, at)} values ${rows.join(', ')}`)
  }
  for (const [at, table] of schema.tables.entries())
    for (const [n, ref] of table.references.entries()) {
      const columns = columnsOf(schema, ref, n).join(', ')
      if (ref.unique) sql.push(`alter table ${tableName(schema, at)} add unique (${columns})`)
      sql.push(
        `alter table ${tableName(schema, at)} add constraint f${at}_${n} foreign key (${columns}) references ${tableName(schema, ref.to)} on delete ${ref.onDelete}${ref.deferrable ? ' deferrable initially deferred' : ''}`,
      )
    }
  await db.execute(sql.join('; '))
}

/** Rows as `table:row`. */
export type Rows = Set<string>

/**
 * The subject's rows by the documented rules, worked out in memory, row by row: the opposite of how the erasure does it.
 * A row is the subject's when it references a row of theirs, except that another person's row never is (the subject's table,
 * or a table with one row a person), and that a row which names another person, and can do without the reference, is not.
 */
export function subjectRows(schema: RandomSchema, subject: number): Rows {
  const people = peopleTables(schema)
  const mine: Rows = new Set([`0:${subject}`])
  for (let before = -1; before !== mine.size; ) {
    before = mine.size
    for (const [at, table] of schema.tables.entries()) {
      if (at === 0) continue
      for (let row = 0; row < rowsPerTable; row++) {
        if (table.link?.[row] === subject) mine.add(`${at}:${row}`)
        for (const [n, ref] of table.references.entries()) {
          const value = ref.values[row]
          if (value === null || value === undefined || !mine.has(`${ref.to}:${value}`)) continue
          if (people.has(at) && !isOwn(schema, people, at, n)) continue
          const direct = people.has(ref.to)
          const canDoWithout = ref.onDelete !== 'cascade' && !ref.mandatory
          const namesAnybody = table.references.some((other, m) => m !== n && people.has(other.to) && other.values[row] !== null)
          if (!direct && !people.has(at) && canDoWithout && namesAnybody) continue
          mine.add(`${at}:${row}`)
        }
      }
    }
  }
  return mine
}

function peopleTables(schema: RandomSchema): Set<number> {
  const people = new Set([0])
  for (let before = 0; before !== people.size; ) {
    before = people.size
    for (const [at, table] of schema.tables.entries())
      for (const ref of table.references) if (at !== ref.to && ref.mandatory && ref.unique && people.has(ref.to)) people.add(at)
  }
  return people
}

function isOwn(schema: RandomSchema, people: ReadonlySet<number>, at: number, n: number): boolean {
  const ref = schema.tables[at]?.references[n]
  return ref !== undefined && at !== ref.to && ref.mandatory && ref.unique && people.has(ref.to)
}
