import type { Session } from '../../platform/db.ts'
import { restoreSchema } from './journal.ts'

/** A table of the target, once the schema is there. */
export interface TargetTable {
  /** As `qualified` writes it. */
  key: string
  schema: string
  name: string
  partitioned: boolean
  /** A partition of another. */
  partition: boolean
  /** Row security holds for its owner, too. */
  forced: boolean
}

export interface TargetTables {
  tables: TargetTable[]
  /** Child and parent by inheritance or partitioning. */
  families: [string, string][]
  /** Foreign keys that are there already: the platform's. */
  foreignKeys: { child: string; parent: string }[]
  /** Views and materialised views, with the tables that they read, by whatever way. */
  views: { view: string; reads: string[] }[]
}

const key = (schema: string, name: string) => `'"' || replace(${schema}, '"', '""') || '"."' || replace(${name}, '"', '""') || '"'`

const own = (alias: string) => `${alias}.nspname not like 'pg\\_%' and ${alias}.nspname not in ('information_schema', '${restoreSchema}')`

export async function readTargetTables(session: Session): Promise<TargetTables> {
  const tables = await session.query<TargetTable & Record<string, unknown>>(
    `select ${key('n.nspname', 'c.relname')} as key, n.nspname as schema, c.relname as name, c.relkind = 'p' as partitioned, c.relispartition as partition,
       c.relforcerowsecurity as forced
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') and ${own('n')} order by 2, 3`,
  )
  const families = await session.query<{ child: string; parent: string }>(
    `select ${key('cn.nspname', 'c.relname')} as child, ${key('pn.nspname', 'p.relname')} as parent
     from pg_catalog.pg_inherits i
     join pg_catalog.pg_class c on c.oid = i.inhrelid join pg_catalog.pg_namespace cn on cn.oid = c.relnamespace
     join pg_catalog.pg_class p on p.oid = i.inhparent join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
     where c.relkind in ('r', 'p') and ${own('cn')}`,
  )
  const foreignKeys = await session.query<{ child: string; parent: string }>(
    `select distinct ${key('cn.nspname', 'c.relname')} as child, ${key('pn.nspname', 'p.relname')} as parent
     from pg_catalog.pg_constraint k
     join pg_catalog.pg_class c on c.oid = k.conrelid join pg_catalog.pg_namespace cn on cn.oid = c.relnamespace
     join pg_catalog.pg_class p on p.oid = k.confrelid join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
     where k.contype = 'f' and k.conrelid <> k.confrelid`,
  )
  const views = await session.query<{ view: string; reads: string[] }>(
    `with recursive uses (view, relation) as (
       select r.ev_class, d.refobjid from pg_catalog.pg_rewrite r
       join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
       union select u.view, d.refobjid from uses u join pg_catalog.pg_rewrite r on r.ev_class = u.relation
       join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
     )
     select ${key('n.nspname', 'c.relname')} as view,
       coalesce((select array_agg(distinct ${key('tn.nspname', 't.relname')}) from uses u join pg_catalog.pg_class t on t.oid = u.relation
         join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace where u.view = c.oid and t.relkind in ('r', 'p', 'm')), '{}') as reads
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('v', 'm') and ${own('n')}`,
  )
  return { tables, families: families.map(({ child, parent }) => [child, parent]), foreignKeys, views }
}
