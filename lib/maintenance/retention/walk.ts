import { identifier, type Queryable } from '../../platform/db.ts'
import { nodesOf, planOf } from '../explain.ts'
import type { Column, Relation } from '../relations.ts'
import { literal } from './anonymise.ts'

/**
 * How a table is walked. `pages`: physically, a window of pages a batch, so that a batch reads a bounded part of the
 * table even where nothing matches. `index`: along an index that the planner prefers for the condition, so that a few
 * old rows in a big table are found without reading it. Neither comes back to where it has been, which is what makes
 * batches slow when an old snapshot keeps their dead rows around.
 */
export type Cursor =
  | { walk: 'pages'; next: number; pages: number; rowsPerPage: number }
  | { walk: 'index'; keys: { name: string; type: string }[]; from: string[] | null }

/** One physical table, and the rows of it that a rule is about. */
export interface Walked {
  /** The table of the rule: the alias its condition knows it under. */
  table: Relation
  columns: ReadonlyMap<string, Column>
  leaf: Relation
  /** In parentheses. */
  condition: string
}

/** The part of the table that one batch takes, and where the next one begins. */
export interface Window {
  /** The condition that holds for the window's rows, beside the rule's own. */
  bounds: string
  next: Cursor
  end: boolean
  /** At most this many of its rows, and then the walk stays where it is; undefined for all of them. */
  limit: number | undefined
}

/** What follows in an index: the key of the row that is `size` rows ahead; null when there are fewer. */
export type Edge = readonly string[] | null

/** Types whose values may stand in a checkpoint: they order, they survive being text, and they name no person. */
const keyTypes = new Set(['int2', 'int4', 'int8', 'timestamp', 'timestamptz', 'date', 'uuid', 'bool', 'oid'])

/** Along the index the planner takes for the condition, where its leading columns can carry a cursor; by pages otherwise. */
export async function beginWalk(db: Queryable, walked: Walked): Promise<Cursor> {
  const { leaf, table, condition } = walked
  const plan = await planOf(db, `select 1 from only ${leaf.sql} as ${identifier(table.name)} where ${condition}`)
  const scans = [...nodesOf(plan)].filter((node) => node['Index Name'] !== undefined)
  const [scan] = scans
  if (scans.length === 1 && scan?.['Index Name'] !== undefined) {
    const keys = await indexKeys(db, walked, scan['Index Name'], String(scan['Index Cond'] ?? ''))
    if (keys.length > 0) return { walk: 'index', keys, from: null }
  }
  const [row] = await db.query<{ pages: number; rowsPerPage: number }>(
    `select ceil(pg_relation_size(c.oid)::float8 / current_setting('block_size')::float8) as pages,
            case when c.reltuples > 0 and c.relpages > 0 then greatest(c.reltuples / c.relpages, 1) else 150 end::float8 as "rowsPerPage"
     from pg_class c where c.oid = $1::oid`,
    [leaf.oid],
  )
  return { walk: 'pages', next: 0, pages: row?.pages ?? 0, rowsPerPage: row?.rowsPerPage ?? 150 }
}

/**
 * The leading columns of a btree index that can carry a cursor: of a type that orders, and never null among the rows
 * that match, because a null falls out of the comparison of keys. The first one may be nullable where `cond`, the
 * index condition, compares it: no comparison is true of a null.
 */
async function indexKeys(db: Queryable, walked: Walked, index: string, cond: string): Promise<{ name: string; type: string }[]> {
  const rows = await db.query<{ name: string | null; notNull: boolean }>(
    `select a.attname as name, coalesce(a.attnotnull, false) as "notNull"
     from pg_index i
     join pg_class c on c.oid = i.indexrelid
     join pg_am m on m.oid = c.relam
     cross join generate_series(0, i.indnkeyatts - 1) as k(n)
     left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[k.n]
     where i.indrelid = $1::oid and c.relname = $2::text and m.amname = 'btree' and i.indisvalid
     order by k.n`,
    [walked.leaf.oid, index],
  )
  const keys: { name: string; type: string }[] = []
  for (const { name, notNull } of rows) {
    const column = name === null ? undefined : walked.columns.get(name)
    if (column === undefined || !keyTypes.has(column.baseType)) break
    const compared = keys.length === 0 && cond.includes(column.name) && !cond.includes('IS NULL')
    if (!notNull && !compared) break
    keys.push({ name: column.name, type: column.type })
    if (!notNull) break
  }
  return keys
}

/** Asks, for a walk along an index, for the key `size` rows ahead; undefined for a walk by pages, which needs to ask nothing. */
export function edgeQuery(walked: Walked, cursor: Cursor, size: number): string | undefined {
  if (cursor.walk === 'pages') return undefined
  const columns = keyColumns(walked, cursor)
  const from = cursor.from === null ? '' : `${compare(columns, '>=', cursor, cursor.from)} and `
  const names = columns.map((_, index) => `k${index}`)
  // The text is made of one key, not of each that is passed over: that would cost more than reading them.
  return `select array[${names.map((name) => `${name}::text`).join(', ')}] as edge from (
      select ${columns.map((column, index) => `${column} as ${names[index]}`).join(', ')} from only ${walked.leaf.sql} as ${identifier(walked.table.name)}
      where ${from}${walked.condition} order by ${columns.join(', ')} offset ${Math.trunc(size)} limit 1) ahead`
}

/** The next window of about `size` rows; never more than `most`, where that is finite. */
export function windowAt(walked: Walked, cursor: Cursor, edge: Edge, size: number, most: number): Window {
  const limit = Number.isFinite(most) ? Math.trunc(most) : undefined
  if (cursor.walk === 'pages') {
    const to = cursor.next + Math.max(1, Math.floor(size / cursor.rowsPerPage))
    const bounds = `ctid >= '(${Math.trunc(cursor.next)},0)'::tid and ctid < '(${Math.trunc(to)},0)'::tid`
    return { bounds, next: { ...cursor, next: to }, end: to >= cursor.pages, limit }
  }
  const columns = keyColumns(walked, cursor)
  const from = cursor.from === null ? [] : [compare(columns, '>=', cursor, cursor.from)]
  if (edge === null) return { bounds: [...from, 'true'].join(' and '), next: cursor, end: true, limit }
  if (cursor.from !== null && edge.every((value, index) => value === cursor.from?.[index]))
    // More rows than a batch may hold with one and the same key: some of them, and the walk stays.
    return { bounds: compare(columns, '=', cursor, edge), next: cursor, end: false, limit: Math.min(Math.trunc(size), most) }
  // Rows before the edge were at most `size` when it was asked for.
  return { bounds: [...from, compare(columns, '<', cursor, edge)].join(' and '), next: { ...cursor, from: [...edge] }, end: false, limit }
}

function keyColumns(walked: Walked, cursor: Cursor & { walk: 'index' }): string[] {
  return cursor.keys.map(({ name }) => `${identifier(walked.table.name)}.${identifier(name)}`)
}

function compare(columns: readonly string[], operator: string, cursor: Cursor & { walk: 'index' }, values: readonly string[]): string {
  const row = cursor.keys.map(({ type }, index) => `${literal(values[index] ?? '')}::${type}`)
  return columns.length === 1 ? `${columns[0]} ${operator} ${row[0]}` : `(${columns.join(', ')}) ${operator} (${row.join(', ')})`
}
