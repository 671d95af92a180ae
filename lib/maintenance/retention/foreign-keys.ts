import { identifier, type Queryable, qualified } from '../../platform/db.ts'
import { labelOf } from '../relations.ts'

/** A foreign key of another table that points at the one whose rows go. */
export interface Reference {
  constraint: string
  child: string
  childOid: number
  onDelete: 'no action' | 'restrict' | 'cascade' | 'set null' | 'set default'
  /** What it means for a purge, in sentences. */
  warnings: string[]
}

interface Row extends Record<string, unknown> {
  constraint: string
  oid: number
  schema: string
  table: string
  rule: string
  columns: string[]
  indexed: boolean
  rows: number
}

const rules: Record<string, Reference['onDelete']> = { a: 'no action', r: 'restrict', c: 'cascade', n: 'set null', d: 'set default' }

/**
 * Foreign keys that point at the table. Each deleted row makes PostgreSQL look for its children: without an index on
 * the child's columns that is a scan of the whole child a row (1,238 ms against 3.6 for a few hundred rows).
 */
export async function loadReferences(db: Queryable, oid: number): Promise<Reference[]> {
  const rows = await db.query<Row>(
    `select k.conname as constraint, c.oid::int8::float8 as oid, n.nspname as schema, c.relname as table, k.confdeltype::text as rule,
            (select array_agg(a.attname::text order by p.n) from unnest(k.conkey) with ordinality as p(num, n)
             join pg_attribute a on a.attrelid = k.conrelid and a.attnum = p.num) as columns,
            exists (
              select from pg_index i
              where i.indrelid = k.conrelid and i.indisvalid and i.indpred is null
                and (select array_agg(i.indkey[g] order by i.indkey[g]) from generate_series(0, cardinality(k.conkey) - 1) as g)
                  = (select array_agg(num order by num) from unnest(k.conkey) as num)
            ) as indexed,
            greatest(c.reltuples, 0)::float8 as rows
     from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
     where k.contype = 'f' and k.confrelid = $1::oid and k.conparentid = 0
     order by n.nspname, c.relname, k.conname`,
    [oid],
  )
  return rows.map((row) => {
    const child = labelOf(row.schema, row.table)
    const onDelete = rules[row.rule] ?? 'no action'
    const columns = row.columns.map(identifier).join(', ')
    const warnings: string[] = []
    if (!row.indexed)
      warnings.push(
        `${child} (about ${Math.round(row.rows)} rows) refers to it by ${row.constraint} without an index: every deleted row scans it. create index concurrently on ${qualified(row.schema, row.table)} (${columns})`,
      )
    if (onDelete === 'cascade') warnings.push(`rows of ${child} that refer to it (${row.constraint}) are deleted as well, beside the count`)
    if (onDelete === 'set null' || onDelete === 'set default')
      warnings.push(`rows of ${child} that refer to it (${row.constraint}) lose the reference`)
    return { constraint: row.constraint, child, childOid: row.oid, onDelete, warnings }
  })
}
