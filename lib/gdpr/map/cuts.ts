import type { Catalogue, ForeignKey, Table } from './catalogue.ts'
import type { MapTable } from './subject-map.ts'

/** A reference from a row that stays to a row that is deleted: emptied before the deletion, or in its way. */
export interface Cut {
  foreignKey: ForeignKey
  table: Table
  /** What the columns are set to: null, or the default that ON DELETE SET DEFAULT names as the placeholder. */
  to: 'null' | 'default'
  /** Empty where the reference is mandatory: then no row may hold it, or the erasure is refused. */
  columns: readonly string[]
  /** Rows that are the subject's but kept or anonymised; or rows of other people and other things. */
  from: 'kept' | 'others'
}

/** Every foreign key by which a row that stays can reference a row that is deleted. */
export function cutsOf(catalogue: Catalogue, tables: ReadonlyMap<string, MapTable>): Cut[] {
  const cuts: Cut[] = []
  for (const fk of catalogue.foreignKeys) {
    if (tables.get(fk.references)?.erase.kind !== 'delete') continue
    const table = catalogue.tables.get(fk.table) as Table
    const mapped = tables.get(fk.table)
    const to = fk.onDelete === 'set default' && fk.columns.every((name) => hasDefault(table, name)) ? 'default' : 'null'
    const columns = to === 'default' ? fk.columns : nullable(catalogue, table, fk)
    if (mapped !== undefined && mapped.erase.kind !== 'delete') {
      // Rows of the table that are not the subject's may reference it as well; one cut serves both.
      cuts.push({ foreignKey: fk, table, columns, to, from: 'kept' })
      continue
    }
    const edge = mapped?.edges.find((known) => known.kind === 'key' && known.name === fk.name && known.parent === fk.references)
    if (edge === undefined || edge.unlessNamed.length > 0) cuts.push({ foreignKey: fk, table, columns, to, from: 'others' })
  }
  return cuts
}

function hasDefault(table: Table, name: string): boolean {
  return table.columns.some((column) => column.name === name && column.hasDefault && !column.generated)
}

/**
 * The columns of a foreign key to set to null so that it references nothing. Of a composite key one null is enough
 * (MATCH SIMPLE): columns that belong to no other key go first, so that a shared tenant column keeps its value.
 */
function nullable(catalogue: Catalogue, table: Table, fk: ForeignKey): readonly string[] {
  const settable = fk.columns.filter((name) => table.columns.some((column) => column.name === name && !column.notNull && !column.generated))
  if (fk.matchFull) return settable.length === fk.columns.length ? settable : []
  if (fk.setColumns.length > 0 && fk.setColumns.every((name) => settable.includes(name))) return fk.setColumns
  const shared = new Set(
    catalogue.foreignKeys.filter((other) => other !== fk && other.table === fk.table).flatMap((other) => other.columns),
  )
  const own = settable.filter((name) => !shared.has(name))
  return own.length > 0 ? own : settable
}
