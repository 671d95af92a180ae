import { identifier, qualified, type Session } from '../../platform/db.ts'
import { nameOf } from '../table-name.ts'

export interface TargetColumn {
  name: string
  /** As a cast names it, without a length. */
  type: string
  /** Written by PostgreSQL alone. */
  generated: boolean
  /** `generated always as identity`: given on insert, never on update. */
  always: boolean
  /** `operator(pg_catalog.=)` of the key's index; null where the column is not in the key. */
  equals: string | null
}

/** A table of the target, and how its rows are found. */
export interface TargetTable {
  /** `schema.table`, for messages. */
  label: string
  sql: string
  columns: ReadonlyMap<string, TargetColumn>
  /** Columns that name a row; empty where the whole row has to. */
  key: readonly TargetColumn[]
}

/** The ordinary tables of the target, by `schema.table`. */
export async function readTargetTables(session: Session): Promise<Map<string, TargetTable>> {
  const rows = await session.query<{ schema: string; name: string; columns: TargetColumn[] | null }>(
    `with key as (
       -- The replica identity: that index, or the primary key (also of a table that logs whole rows).
       select distinct on (i.indrelid) i.indrelid, i.indkey, i.indclass, i.indnkeyatts
       from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indrelid
       where i.indisvalid and ((c.relreplident = 'i' and i.indisreplident) or (c.relreplident in ('d', 'f') and i.indisprimary))
     ), key_column as (
       select key.indrelid, a.attnum, format('operator(%I.%s)', on_.nspname, o.oprname) as equals
       from key
       cross join lateral unnest(key.indkey::int2[], key.indclass::oid[]) with ordinality a (attnum, opclass, position)
       join pg_catalog.pg_opclass oc on oc.oid = a.opclass
       join pg_catalog.pg_amop am on am.amopfamily = oc.opcfamily and am.amoplefttype = oc.opcintype and am.amoprighttype = oc.opcintype and am.amopstrategy = 3
       join pg_catalog.pg_operator o on o.oid = am.amopopr
       join pg_catalog.pg_namespace on_ on on_.oid = o.oprnamespace
       where a.position <= key.indnkeyatts
     )
     select n.nspname as schema, c.relname as name,
       (select json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, -1), 'generated', a.attgenerated <> '',
            'always', a.attidentity = 'a', 'equals', k.equals) order by a.attnum)
        from pg_catalog.pg_attribute a left join key_column k on k.indrelid = c.oid and k.attnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r' and c.relpersistence in ('p', 'u') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'`,
  )
  return new Map(
    rows.map((row) => {
      const label = nameOf(row)
      const columns = row.columns ?? []
      const key = columns.filter((column) => column.equals !== null)
      return [label, { label, sql: qualified(row.schema, row.name), columns: new Map(columns.map((column) => [column.name, column])), key }]
    }),
  )
}

/** `($1::type, $2::type), ($3, $4)`: the first row says the types of the others. */
function valuesList(types: readonly string[] | null, width: number, rows: number): string {
  const lines: string[] = []
  for (let row = 0; row < rows; row++) {
    const cells: string[] = []
    for (let column = 0; column < width; column++) {
      const cast = types !== null && row === 0 ? `::${types[column]}` : ''
      cells.push(`$${row * width + column + 1}${cast}`)
    }
    lines.push(`(${cells.join(',')})`)
  }
  return lines.join(',')
}

export function insertSql(table: TargetTable, columns: readonly TargetColumn[], rows: number): string {
  if (columns.length === 0) return `insert into ${table.sql} default values`
  const list = columns.map((column) => identifier(column.name)).join(', ')
  return `insert into ${table.sql} (${list}) overriding system value values ${valuesList(null, columns.length, rows)}`
}

/** Parameters of a row: its key, then what is set. */
export function updateSql(table: TargetTable, set: readonly TargetColumn[], rows: number): string {
  const names = [...table.key.map((_, index) => `k${index}`), ...set.map((_, index) => `s${index}`)]
  const types = [...table.key, ...set].map((column) => column.type)
  const assign = set.map((column, index) => `${identifier(column.name)} = v.s${index}`).join(', ')
  return `update only ${table.sql} t set ${assign} from (values ${valuesList(types, names.length, rows)}) v (${names.join(', ')}) where ${match(table)}`
}

export function deleteSql(table: TargetTable, rows: number): string {
  const names = table.key.map((_, index) => `k${index}`)
  const types = table.key.map((column) => column.type)
  return `delete from only ${table.sql} t using (values ${valuesList(types, names.length, rows)}) v (${names.join(', ')}) where ${match(table)}`
}

function match(table: TargetTable): string {
  return table.key.map((column, index) => `t.${identifier(column.name)} ${column.equals ?? '='} v.k${index}`).join(' and ')
}

/** One row that is equal in every column, compared as text: not every type has an equality. `from` is the first parameter's number. */
function wholeRow(table: TargetTable, columns: readonly TargetColumn[], from: number): string {
  const equal = columns.map(
    (column, index) => `t.${identifier(column.name)}::text is not distinct from ($${from + index}::${column.type})::text`,
  )
  return `ctid = (select t.ctid from only ${table.sql} t${equal.length === 0 ? '' : ` where ${equal.join(' and ')}`} limit 1)`
}

/** Parameters: the old row, then what is set. */
export function updateWholeRowSql(table: TargetTable, old: readonly TargetColumn[], set: readonly TargetColumn[]): string {
  const assign = set.map((column, index) => `${identifier(column.name)} = $${old.length + index + 1}`).join(', ')
  return `update only ${table.sql} set ${assign} where ${wholeRow(table, old, 1)}`
}

export function deleteWholeRowSql(table: TargetTable, old: readonly TargetColumn[]): string {
  return `delete from only ${table.sql} where ${wholeRow(table, old, 1)}`
}
