import type { Session } from '../../platform/db.ts'
import { parentsFirst } from '../target.ts'

/**
 * Makes materialised views that hold rows anew, each after those that it reads, by whatever views. Their order of making would not do: one
 * that groups by a key is made after the keys, and so after views that read it.
 * @returns a sentence for each that could not be
 */
export async function refreshViews(session: Session): Promise<string[]> {
  const views = await session.query<{ name: string; reads: string[] }>(
    `with recursive reading (view, relation) as (
       select r.ev_class, d.refobjid from pg_catalog.pg_rewrite r
       join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
     ), uses (view, relation) as (
       select * from reading union select u.view, r.relation from uses u join reading r on r.view = u.relation
     )
     select c.oid::regclass::text as name, coalesce((
         select array_agg(distinct m.oid::regclass::text) from uses u join pg_catalog.pg_class m on m.oid = u.relation
         where u.view = c.oid and m.relkind = 'm' and m.oid <> c.oid), '{}') as reads
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'm' and c.relispopulated and n.nspname not like 'pg\\_%' order by c.oid`,
  )
  // Views are read here. It is the dump that must not (see pinSession).
  await session.query(`select set_config(name, '', false) from pg_catalog.pg_settings where name = 'restrict_nonsystem_relation_kind'`)
  const problems: string[] = []
  const order = parentsFirst(
    views.map((view) => view.name),
    views.flatMap(({ name, reads }) => reads.map((parent) => ({ child: name, parent }))),
  )
  for (const name of order) {
    try {
      await session.execute(`refresh materialized view ${name}`)
    } catch (error) {
      problems.push(`Materialised view ${name} is as the full backup has it: ${error instanceof Error ? error.message : 'unknown'}.`)
    }
  }
  return problems
}
