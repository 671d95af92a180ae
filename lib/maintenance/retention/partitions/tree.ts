import { type Queryable, qualified } from '../../../platform/db.ts'
import { type Column, labelOf, type Relation } from '../../relations.ts'

/** A partition, at any level, and what its bounds say of the age of its rows. */
export interface Partition {
  relation: Relation
  parent: Relation
  /** As PostgreSQL writes it: `FOR VALUES FROM ('…') TO ('…')`, or `DEFAULT`. */
  bound: string
  /** Its bounds are a range of the age column alone. */
  byAge: boolean
  /** The range, as text of the column's type; null where it is open, or not of ages. */
  from: string | null
  to: string | null
  isDefault: boolean
  /** Its parent has a default partition: DETACH CONCURRENTLY is refused. */
  besideDefault: boolean
  /** A DETACH CONCURRENTLY was interrupted: it holds rows that its parent does not show any more. */
  pending: boolean
  /** Every row of it is older than the cut-off, whatever it holds. */
  past: boolean
  /** Every row of it is younger. */
  coming: boolean
  /** The role may detach and drop it. */
  owned: boolean
  /** A view, a function or a table of its own depends on it by name. */
  dependent: string | null
}

interface Row extends Record<string, unknown> {
  oid: number
  kind: string
  schema: string
  name: string
  parentOid: number
  parentKind: string
  parentSchema: string
  parentName: string
  bound: string
  byAge: boolean
  from: string | null
  to: string | null
  besideDefault: boolean
  pending: boolean
  past: boolean
  coming: boolean
  owned: boolean
  dependent: string | null
}

/**
 * The partitions under a table, parents first, then by their ranges. `cutoff` is a value in SQL of the column's type, or
 * null where no age counts. Call it inside a pinned transaction: bounds are read in its time zone.
 */
export async function loadPartitions(db: Queryable, root: number, age: Column, cutoff: string | null): Promise<Partition[]> {
  const value = (text: string) => `(${text})::${age.baseType}`
  const rows = await db.query<Row>(
    `with recursive tree as (
       select i.inhrelid as oid, i.inhparent as parent, i.inhdetachpending as pending, 1 as level
       from pg_inherits i join pg_partitioned_table p on p.partrelid = i.inhparent where i.inhparent = $1::oid
       union all
       select i.inhrelid, i.inhparent, i.inhdetachpending, t.level + 1
       from tree t join pg_inherits i on i.inhparent = t.oid join pg_partitioned_table p on p.partrelid = i.inhparent
     ), described as (
       select t.*, c.relname as name, c.relkind::text as kind, c.relnamespace, c.relowner, pg_get_expr(c.relpartbound, c.oid) as bound,
              k.partstrat = 'r' and k.partnatts = 1 and a.attname is not null as "byAge", k.partdefid <> 0 as "besideDefault"
       from tree t join pg_class c on c.oid = t.oid join pg_partitioned_table k on k.partrelid = t.parent
       left join pg_attribute a on a.attrelid = t.parent and a.attnum = k.partattrs[0] and a.attname = $2
     ), ranged as (
       select d.*, case when "byAge" then substring(bound from $$FROM \\('([^']*)'\\) TO$$) end as "from",
              case when "byAge" then substring(bound from $$TO \\('([^']*)'\\)$$) end as "to"
       from described d
     )
     select r.oid::int8::float8 as oid, r.kind, n.nspname as schema, r.name, r.bound, r."byAge", r."from", r."to", r."besideDefault", r.pending,
            p.oid::int8::float8 as "parentOid", p.relkind::text as "parentKind", pn.nspname as "parentSchema", p.relname as "parentName",
            coalesce(${cutoff === null ? 'false' : `${value('r."to"')} <= ${cutoff}`}, false) as past,
            coalesce(${cutoff === null ? 'false' : `${value('r."from"')} >= ${cutoff}`}, false) as coming,
            pg_has_role(r.relowner, 'usage') and pg_has_role(p.relowner, 'usage') as owned,
            (select min(coalesce(v.ev_class::regclass::text, f.proname)) from pg_depend d
             left join pg_rewrite v on d.classid = 'pg_rewrite'::regclass and v.oid = d.objid
             left join pg_proc f on d.classid = 'pg_proc'::regclass and f.oid = d.objid
             where d.refclassid = 'pg_class'::regclass and d.refobjid in (select relid from pg_partition_tree(r.oid))
               and d.classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass)) as dependent
     from ranged r join pg_namespace n on n.oid = r.relnamespace
     join pg_class p on p.oid = r.parent join pg_namespace pn on pn.oid = p.relnamespace
     order by r.level, ${value('r."from"')} nulls first, n.nspname, r.name`,
    [root, age.name],
  )
  return rows.map((row) => ({
    relation: relation(row.oid, row.kind, row.schema, row.name),
    parent: relation(row.parentOid, row.parentKind, row.parentSchema, row.parentName),
    bound: row.bound,
    byAge: row.byAge,
    from: row.from,
    to: row.to,
    isDefault: row.bound === 'DEFAULT',
    besideDefault: row.besideDefault,
    pending: row.pending,
    past: row.past,
    coming: row.coming,
    owned: row.owned,
    dependent: row.dependent,
  }))
}

function relation(oid: number, kind: string, schema: string, name: string): Relation {
  return { oid, schema, name, kind, label: labelOf(schema, name), sql: qualified(schema, name) }
}

/** The uppermost partitions that are past their date as a whole; what is under them goes with them. */
export function wholePast(partitions: readonly Partition[]): Partition[] {
  const taken = new Set<number>()
  const whole: Partition[] = []
  for (const partition of partitions) {
    if (taken.has(partition.parent.oid)) taken.add(partition.relation.oid)
    else if (partition.past && !partition.pending) {
      taken.add(partition.relation.oid)
      whole.push(partition)
    }
  }
  return whole
}

/** Partitions, and those under them, that hold nothing a rule could take: all of it is younger, or nobody sees it any more. */
export function untouched(partitions: readonly Partition[]): Set<number> {
  const found = new Set<number>()
  for (const { relation: own, parent, coming, pending } of partitions) if (coming || pending || found.has(parent.oid)) found.add(own.oid)
  return found
}

/** Why coming partitions cannot be made for the table; undefined when they can. */
export async function partitionKeyProblem(db: Queryable, table: Relation, column: string): Promise<string | undefined> {
  if (table.kind !== 'p')
    return `found ${table.label}, which is not partitioned; expected a table that is partitioned by range of "${column}"`
  const [row] = await db.query<{ key: string; fits: boolean }>(
    `select pg_get_partkeydef(p.partrelid) as key,
            p.partstrat = 'r' and p.partnatts = 1 and exists (
              select from pg_attribute a where a.attrelid = p.partrelid and a.attnum = p.partattrs[0] and a.attname = $2) as fits
     from pg_partitioned_table p where p.partrelid = $1::oid`,
    [table.oid, column],
  )
  return row?.fits === true ? undefined : `found ${table.label} partitioned by ${row?.key ?? 'something else'}, expected RANGE (${column})`
}
