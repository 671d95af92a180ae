import { identifier, qualified } from '../platform/db.ts'
import type { SourceTable } from './catalogue.ts'
import { valueSettings } from './sessions.ts'

/** One COPY's share of a table: all of it, or the pages from `from` up to but without `to` (null: to the end). */
export interface PageRange {
  from: number
  to: number | null
}

/** Heap and TOAST bytes one part covers: some seconds of work, and a size that every object store takes in few requests. */
const partBytes = 128 * 1024 * 1024

/** The ranges that split `table` into parts of about equal size; null stands for the whole table. */
export function splitTable(table: Pick<SourceTable, 'pages' | 'bytes' | 'shared'>, targetBytes = partBytes): (PageRange | null)[] {
  const parts = Math.min(table.pages, Math.ceil(table.bytes / targetBytes))
  if (parts < 2 || table.shared) return [null]
  const step = Math.ceil(table.pages / parts)
  const ranges: PageRange[] = []
  for (let from = 0; from < table.pages; from += step) ranges.push({ from, to: from + step < table.pages ? from + step : null })
  return ranges
}

type Columns = Pick<SourceTable, 'schema' | 'name' | 'columns' | 'condition' | 'shared'>

/** `COPY … TO STDOUT` for a table, or a range of its pages (read by TID range scan since PostgreSQL 14). */
export function copyOut(table: Columns, range: PageRange | null): string {
  const name = qualified(table.schema, table.name)
  const list = table.columns.map(identifier).join(', ')
  // In an order of its own, not the heap's: elsewhere its rows may come to lie between others.
  if (table.shared)
    return `copy (select ${list} from only ${name} ${table.condition ?? ''} order by row(${list})::text collate "C") to stdout`
  if (range === null) return `copy ${name}${columnList(table)} to stdout`
  const to = range.to === null ? '' : ` and ctid < '(${range.to},0)'::pg_catalog.tid`
  return `copy (select ${list} from only ${name} where ctid >= '(${range.from},0)'::pg_catalog.tid${to}) to stdout`
}

/** `COPY … FROM stdin` for the same columns. */
export function copyIn(table: Columns, options: { freeze?: boolean } = {}): string {
  return `copy ${qualified(table.schema, table.name)}${columnList(table)} from stdin${options.freeze === true ? ' with (freeze)' : ''}`
}

/** Always named: the columns of an inheriting table come back in another order than they were made in. */
function columnList(table: Columns): string {
  return table.columns.length === 0 ? '' : ` (${table.columns.map(identifier).join(', ')})`
}

/** What a data object begins with, so that psql can load it as it is: the settings its text depends on, and the COPY. */
export function dataHeader(statement: string, before: readonly string[] = []): string {
  const settings = Object.entries(valueSettings).map(([name, value]) => `set ${name} = '${value}';`)
  return `${[...settings, ...before, `${statement};`].join('\n')}\n`
}

/** What ends the rows. */
export const dataTrailer = '\\.\n'
