import type { Queryable } from '../../platform/db.ts'

export interface Column {
  name: string
  /** As `format_type` prints it: usable in a cast. */
  type: string
  notNull: boolean
  generated: boolean
  hasDefault: boolean
}

export interface Table {
  schema: string
  name: string
  columns: readonly Column[]
  /** Empty where there is none. */
  primaryKey: readonly string[]
  /** Column sets that no two rows share: the primary key, and whole, immediate unique indexes. */
  uniqueKeys: readonly (readonly string[])[]
  /** Has partitions or inheriting tables: a row's place is only unique together with its table. */
  partitioned: boolean
  /** Has triggers or rules of its own on DELETE, which may keep a row. */
  interferes: boolean
}

export type OnDelete = 'cascade' | 'set null' | 'set default' | 'restrict' | 'no action'

export interface ForeignKey {
  name: string
  /** `schema.table` of the row that references. */
  table: string
  columns: readonly string[]
  /** `schema.table` of the row that is referenced. */
  references: string
  referencedColumns: readonly string[]
  /** `operator(schema.=)` a column, referenced side on the left: the comparison the constraint itself makes. */
  operators: readonly string[]
  onDelete: OnDelete
  /** The columns `ON DELETE SET NULL (…)` names; empty means all. */
  setColumns: readonly string[]
  matchFull: boolean
}

/** What of a database's catalogue the subject map is made from. Keys are `schema.table`. */
export interface Catalogue {
  tables: ReadonlyMap<string, Table>
  foreignKeys: readonly ForeignKey[]
}

/** Caretaker's own schemas hold no subject by foreign key; what they hold is emptied by the request's own end. */
const ownSchemas = ['caretaker', 'pgboss', 'supabase_migrations', 'information_schema']

const tablesSql = `
  select n.nspname::text as schema, c.relname::text as name, (c.relkind = 'p' or c.relhassubclass) as partitioned,
    c.relhasrules or exists (select from pg_catalog.pg_trigger g where g.tgrelid = c.oid and not g.tgisinternal and g.tgtype & 8 <> 0) as interferes,
    (select coalesce(json_agg(json_build_object(
        'name', a.attname::text, 'type', format_type(a.atttypid, a.atttypmod),
        'notNull', a.attnotnull, 'generated', a.attgenerated <> '' or a.attidentity = 'a',
        'hasDefault', a.atthasdef and a.attgenerated = '') order by a.attnum), '[]')
     from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
    (select coalesce(json_agg(json_build_object(
        'primary', i.indisprimary,
        'columns', (select json_agg(a.attname::text order by k.ord)
                    from unnest(i.indkey::int2[]) with ordinality as k(attnum, ord)
                    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                    where k.ord <= i.indnkeyatts))), '[]')
     from pg_catalog.pg_index i
     where i.indrelid = c.oid and i.indisunique and i.indimmediate and i.indpred is null and i.indexprs is null) as keys
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and not c.relispartition and n.nspname not like 'pg\\_%' and n.nspname <> all($1::text[])
  order by 1, 2`

// A constraint on a partition that was inherited has a parent; one that was made on a partition alone is read as its root's.
// confdelsetcols is of PostgreSQL 15: read through jsonb so that 14 answers null.
const foreignKeysSql = `
  select con.conname::text as name,
    fn.nspname::text || '.' || fc.relname::text as "table",
    pn.nspname::text || '.' || pc.relname::text as "references",
    (select json_agg(a.attname::text order by k.ord) from unnest(con.conkey) with ordinality as k(n, ord)
      join pg_catalog.pg_attribute a on a.attrelid = con.conrelid and a.attnum = k.n) as columns,
    (select json_agg(a.attname::text order by k.ord) from unnest(con.confkey) with ordinality as k(n, ord)
      join pg_catalog.pg_attribute a on a.attrelid = con.confrelid and a.attnum = k.n) as "referencedColumns",
    (select json_agg(format('operator(%I.%s)', opn.nspname, op.oprname) order by k.ord)
      from unnest(con.conpfeqop) with ordinality as k(o, ord)
      join pg_catalog.pg_operator op on op.oid = k.o join pg_catalog.pg_namespace opn on opn.oid = op.oprnamespace) as operators,
    case con.confdeltype when 'c' then 'cascade' when 'n' then 'set null' when 'd' then 'set default' when 'r' then 'restrict'
      else 'no action' end as "onDelete",
    (select coalesce(json_agg(a.attname::text), '[]') from jsonb_array_elements_text(
        case jsonb_typeof(to_jsonb(con) -> 'confdelsetcols') when 'array' then to_jsonb(con) -> 'confdelsetcols' else '[]'::jsonb end) as k(n)
      join pg_catalog.pg_attribute a on a.attrelid = con.conrelid and a.attnum = k.n::int) as "setColumns",
    con.confmatchtype = 'f' as "matchFull"
  from pg_catalog.pg_constraint con
  join pg_catalog.pg_class fc on fc.oid = coalesce(pg_partition_root(con.conrelid), con.conrelid)
  join pg_catalog.pg_namespace fn on fn.oid = fc.relnamespace
  join pg_catalog.pg_class pc on pc.oid = coalesce(pg_partition_root(con.confrelid), con.confrelid)
  join pg_catalog.pg_namespace pn on pn.oid = pc.relnamespace
  where con.contype = 'f' and con.conparentid = 0
    and fn.nspname not like 'pg\\_%' and fn.nspname <> all($1::text[])
  order by 2, 1`

interface TableRow extends Record<string, unknown> {
  schema: string
  name: string
  partitioned: boolean
  interferes: boolean
  columns: Column[]
  keys: { primary: boolean; columns: string[] }[]
}

/** Reads tables, their unique keys and all foreign keys once, in two queries. Partitions appear as their root. */
export async function readCatalogue(db: Queryable): Promise<Catalogue> {
  const rows = await db.query<TableRow>(tablesSql, [ownSchemas])
  const foreignKeys = await db.query<ForeignKey & Record<string, unknown>>(foreignKeysSql, [ownSchemas])
  const tables = new Map<string, Table>()
  for (const { schema, name, partitioned, interferes, columns, keys } of rows) {
    tables.set(`${schema}.${name}`, {
      schema,
      name,
      columns,
      partitioned,
      interferes,
      primaryKey: keys.find((key) => key.primary)?.columns ?? [],
      uniqueKeys: keys.map((key) => key.columns),
    })
  }
  return { tables, foreignKeys: foreignKeys.filter((fk) => tables.has(fk.table) && tables.has(fk.references)) }
}
