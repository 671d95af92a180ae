import { nearest } from '../config/index.ts'
import { type Queryable, qualified } from '../platform/db.ts'
import { errorAt, type Issue } from './issue.ts'

/** A table, materialised view or index of the live catalogue. */
export interface Relation {
  oid: number
  schema: string
  name: string
  /** `pg_class.relkind`: r table, p partitioned table, m materialised view, v view, f foreign table, i index, I partitioned index. */
  kind: string
  /** As the policy would write it: without the schema when that is `public`. */
  label: string
  /** Quoted for SQL. */
  sql: string
}

export interface Column {
  name: string
  /** As PostgreSQL writes it, with modifiers: `numeric(10,2)`. */
  type: string
  typeOid: number
  /** The name of the type under any domain: `timestamptz`. */
  baseType: string
  notNull: boolean
  generated: boolean
  identity: 'always' | 'by default' | null
  hasDefault: boolean
}

/** `table` or `schema.table`; `public` where no schema is named. */
export function splitName(name: string): { schema: string; name: string } {
  const dot = name.indexOf('.')
  return dot < 0 ? { schema: 'public', name } : { schema: name.slice(0, dot), name: name.slice(dot + 1) }
}

export function labelOf(schema: string, name: string): string {
  return schema === 'public' ? name : `${schema}.${name}`
}

const kinds: Record<string, string> = {
  r: 'a table',
  p: 'a partitioned table',
  m: 'a materialised view',
  v: 'a view',
  f: 'a foreign table',
  i: 'an index',
  I: 'a partitioned index',
  S: 'a sequence',
  c: 'a type',
}

const wanted = {
  table: { kinds: ['r', 'p'], text: 'a table' },
  maintained: { kinds: ['r', 'p', 'm'], text: 'a table or materialised view' },
  index: { kinds: ['i', 'I'], text: 'an index' },
  matview: { kinds: ['m'], text: 'a materialised view' },
  any: { kinds: ['r', 'p', 'm', 'v', 'f'], text: 'a table' },
} as const

export type Wanted = keyof typeof wanted

/** The relation of that name and kind, or an issue at `path` that names the nearest one. */
export async function findRelation(db: Queryable, name: string, want: Wanted, path: string): Promise<Relation | Issue> {
  const at = splitName(name)
  const { kinds: accepted, text } = wanted[want]
  const [row] = await db.query<{ oid: number; kind: string }>(
    `select c.oid::int8::float8 as oid, c.relkind::text as kind
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1::text and c.relname = $2::text`,
    [at.schema, at.name],
  )
  if (row !== undefined && (accepted as readonly string[]).includes(row.kind)) {
    return { oid: row.oid, ...at, kind: row.kind, label: labelOf(at.schema, at.name), sql: qualified(at.schema, at.name) }
  }
  if (row !== undefined) return errorAt(path, `found "${name}", which is ${kinds[row.kind] ?? 'something else'}; expected ${text}`)
  const others = await db.query<{ schema: string; name: string }>(
    `select n.nspname as schema, c.relname as name
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind::text = any($1::text[]) and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
     order by n.nspname <> $2::text, n.nspname, c.relname limit 5000`,
    [accepted, at.schema],
  )
  const elsewhere = others.find((other) => other.name === at.name)
  const near =
    elsewhere === undefined
      ? nearest(
          labelOf(at.schema, at.name),
          others.map((other) => labelOf(other.schema, other.name)),
        )
      : labelOf(elsewhere.schema, elsewhere.name)
  return errorAt(path, `found "${name}", expected ${text} that exists${near === undefined ? '' : `; did you mean "${near}"?`}`)
}

export function isIssue(value: Relation | Issue): value is Issue {
  return 'severity' in value
}

/** The columns of a relation in their order, by name. */
export async function loadColumns(db: Queryable, oid: number): Promise<Map<string, Column>> {
  const rows = await db.query<Omit<Column, 'identity'> & { identity: string }>(
    `select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, a.atttypid::int8::float8 as "typeOid",
            coalesce(b.typname, t.typname) as "baseType", a.attnotnull as "notNull", a.attgenerated <> '' as generated,
            a.attidentity as identity, a.atthasdef or t.typdefault is not null as "hasDefault"
     from pg_attribute a
     join pg_type t on t.oid = a.atttypid
     left join pg_type b on b.oid = t.typbasetype
     where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped
     order by a.attnum`,
    [oid],
  )
  return new Map(
    rows.map((row) => [row.name, { ...row, identity: row.identity === 'a' ? 'always' : row.identity === 'd' ? 'by default' : null }]),
  )
}

/** An issue for a column that is not there, naming the nearest one that is; undefined when it is there. */
export function missingColumn(columns: ReadonlyMap<string, Column>, column: string, relation: Relation, path: string): Issue | undefined {
  if (columns.has(column)) return undefined
  const near = nearest(column, columns.keys())
  return errorAt(path, `found "${column}", expected a column of ${relation.label}${near === undefined ? '' : `; did you mean "${near}"?`}`)
}

/** The physical tables under `oid`: itself, or the leaves of its partitions and whatever inherits from it. */
export async function loadLeaves(db: Queryable, oid: number): Promise<Relation[]> {
  const rows = await db.query<{ oid: number; schema: string; name: string; kind: string }>(
    `with recursive tree as (
       select $1::oid as oid
       union
       select i.inhrelid from pg_inherits i join tree on tree.oid = i.inhparent where not i.inhdetachpending
     )
     select c.oid::int8::float8 as oid, n.nspname as schema, c.relname as name, c.relkind::text as kind
     from tree join pg_class c on c.oid = tree.oid join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'f')
     order by n.nspname, c.relname`,
    [oid],
  )
  return rows.map((row) => ({ ...row, label: labelOf(row.schema, row.name), sql: qualified(row.schema, row.name) }))
}
