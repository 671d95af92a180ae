import type { Context } from '../../platform/context.ts'
import { identifier, type Queryable, qualified } from '../../platform/db.ts'
import { countOrEstimate } from '../count.ts'
import { labelOf, type Relation } from '../relations.ts'
import { reading } from '../session-settings.ts'

/** A foreign key of another table that points at one whose rows go. */
export interface Reference {
  constraint: string
  child: Relation
  columns: readonly string[]
  /** The columns it names in the table whose rows go. */
  references: readonly string[]
  onDelete: 'no action' | 'restrict' | 'cascade' | 'set null' | 'set default'
  /** An index finds the rows that refer to a given one. */
  indexed: boolean
  /** About how many rows the child has. */
  childRows: number
}

interface Row extends Record<string, unknown> {
  constraint: string
  oid: number
  kind: string
  schema: string
  table: string
  rule: string
  columns: string[]
  references: string[]
  indexed: boolean
  rows: number
}

const rules: Record<string, Reference['onDelete']> = { a: 'no action', r: 'restrict', c: 'cascade', n: 'set null', d: 'set default' }

/** An index whose leading columns are those of `columns`, in any order, and that knows every row. */
const indexOn = (relation: string, columns: string) => `exists (
  select from pg_index i
  where i.indrelid = ${relation} and i.indisvalid and i.indpred is null and i.indnkeyatts >= cardinality(${columns})
    and (select array_agg(i.indkey[g] order by i.indkey[g]) from generate_series(0, cardinality(${columns}) - 1) as g)
      = (select array_agg(num order by num) from unnest(${columns}) as num))`

/** Foreign keys of other tables that point at the table. Each deleted row makes PostgreSQL look for its children by them. */
export async function loadReferences(db: Queryable, oid: number): Promise<Reference[]> {
  const rows = await db.query<Row>(
    `select k.conname as constraint, c.oid::int8::float8 as oid, c.relkind::text as kind, n.nspname as schema, c.relname as table, k.confdeltype::text as rule,
            (select array_agg(a.attname::text order by p.n) from unnest(k.conkey) with ordinality as p(num, n)
             join pg_attribute a on a.attrelid = k.conrelid and a.attnum = p.num) as columns,
            (select array_agg(a.attname::text order by p.n) from unnest(k.confkey) with ordinality as p(num, n)
             join pg_attribute a on a.attrelid = k.confrelid and a.attnum = p.num) as references,
            ${indexOn('k.conrelid', 'k.conkey')} as indexed,
            case when c.relkind = 'p' then (select coalesce(sum(greatest(l.reltuples, 0)), 0) from pg_partition_tree(c.oid) t join pg_class l on l.oid = t.relid where t.isleaf)
                 else greatest(c.reltuples, 0) end::float8 as rows
     from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
     where k.contype = 'f' and k.confrelid = $1::oid and k.conparentid = 0
     order by n.nspname, c.relname, k.conname`,
    [oid],
  )
  return rows.map((row) => ({
    constraint: row.constraint,
    child: {
      oid: row.oid,
      schema: row.schema,
      name: row.table,
      kind: row.kind,
      label: labelOf(row.schema, row.table),
      sql: qualified(row.schema, row.table),
    },
    columns: row.columns,
    references: row.references,
    onDelete: rules[row.rule] ?? 'no action',
    indexed: row.indexed,
    childRows: row.rows,
  }))
}

/** True when an index finds rows of the table by these columns. */
export async function hasIndexOn(db: Queryable, oid: number, columns: readonly string[]): Promise<boolean> {
  const [row] = await db.query<{ indexed: boolean }>(
    `select ${indexOn('$1::oid', 'w.nums')} as indexed
     from (select array_agg(attnum) as nums from pg_attribute where attrelid = $1::oid and attname = any($2::text[])) as w`,
    [oid, columns],
  )
  return row?.indexed === true
}

/** The statement that makes the missing index. CONCURRENTLY cannot be had on a partitioned table. */
export function createIndex(table: Relation, columns: readonly string[]): string {
  return `create index ${table.kind === 'p' ? '' : 'concurrently '}on ${table.sql} (${columns.map(identifier).join(', ')})`
}

/** A table some of whose rows go, as the condition that they satisfy. */
export interface Going {
  table: Relation
  condition: string
}

/**
 * What else happens when the rows of `going` are deleted, as sentences with counts: rows that go along through foreign
 * keys, rows that lose their reference, and rows that would keep theirs from going. Foreign keys that `known` knows are
 * left out: the rule takes their rows along itself. `stays` is what other rows must satisfy beside, with a leading `and`.
 */
export async function consequences(
  ctx: Pick<Context, 'db'>,
  going: Going,
  options: { known: (reference: Reference) => boolean; stays: (table: Relation) => string },
  seen = new Set<string>(),
): Promise<{ warnings: string[]; cascading: Going[] }> {
  const warnings: string[] = []
  const cascading: Going[] = []
  for (const reference of await reading(ctx, (tx) => loadReferences(tx, going.table.oid))) {
    const { child, constraint, columns, references, onDelete } = reference
    // Cascades may go round in a circle.
    const key = `${child.oid} ${constraint}`
    if (seen.has(key)) continue
    seen.add(key)
    if (!reference.indexed)
      warnings.push(
        `${child.label} (about ${Math.round(reference.childRows)} rows) refers to it by ${constraint} without an index: every deleted row scans it. ${createIndex(child, columns)}`,
      )
    if (options.known(reference)) continue
    if (child.oid === going.table.oid) {
      warnings.push(`rows of ${child.label} refer to one another (${constraint}): one that stays keeps those it refers to`)
      continue
    }
    const alias = identifier(child.name)
    const parent = identifier(going.table.name)
    const join = columns.map((column, index) => `${parent}.${identifier(references[index] ?? '')} = ${alias}.${identifier(column)}`)
    const condition = `exists (select from ${going.table.sql} as ${parent} where ${join.join(' and ')} and ${going.condition})${options.stays(child)}`
    const { count, estimated } = await countOrEstimate(ctx, `${child.sql} as ${alias}`, condition)
    if (onDelete === 'cascade') cascading.push({ table: child, condition: `(${condition})` })
    if (count > 0) warnings.push(`rows of ${child.label} ${fate(onDelete, child, `${constraint}; ${estimated ? '~' : ''}${count} now`)}`)
  }
  for (const next of [...cascading]) {
    const below = await consequences(ctx, next, options, seen)
    warnings.push(...below.warnings)
    cascading.push(...below.cascading)
  }
  return { warnings, cascading }
}

function fate(onDelete: Reference['onDelete'], child: Relation, which: string): string {
  if (onDelete === 'cascade') return `that refer to it (${which}) are deleted as well, beside the count`
  if (onDelete === 'set null' || onDelete === 'set default') return `that refer to it (${which}) lose the reference`
  return `still refer to it (${which}): the run would stop there. Take them along with children: [{ table: '${child.label}' }], or give the foreign key an "on delete"`
}
