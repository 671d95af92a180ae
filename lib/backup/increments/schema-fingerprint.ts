import { createHash } from 'node:crypto'
import type { Session } from '../../platform/db.ts'
import type { Scope } from '../supabase.ts'

/**
 * One hash of everything in the schema that a backup carries. It changes with any definition, and also when a table is
 * replaced by another of the same name or a column is rewritten: its rows then have a past that no increment tells.
 */
export async function schemaFingerprint(session: Session, scope: Pick<Scope, 'excludeSchemas'>): Promise<string> {
  const rows = await session.query<{ line: string }>(fingerprintLines, [scope.excludeSchemas])
  const hash = createHash('sha256')
  for (const { line } of rows) hash.update(line).update('\n')
  return hash.digest('hex')
}

const fingerprintLines = `
  with spaces as (
    select oid, nspname from pg_catalog.pg_namespace
    where nspname not like 'pg\\_%' and nspname <> 'information_schema' and nspname <> all ($1::text[])
  ), members as (
    select classid, objid from pg_catalog.pg_depend where deptype = 'e'
  ), relations as (
    select c.* from pg_catalog.pg_class c join spaces s on s.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and not exists (select from members where classid = 'pg_class'::regclass and objid = c.oid)
  )
  select line from (
    select format('schema %I', nspname) as line from spaces
    union all
    select format('relation %s %s %s %s %s %s', oid, oid::regclass, relkind, relpersistence, relreplident, pg_get_expr(relpartbound, oid)) from relations
    union all
    select format('column %s %s %I %s %s %s %s %s %s', a.attrelid, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        a.attgenerated, a.attidentity, a.xmin, pg_get_expr(d.adbin, d.adrelid))
      from pg_catalog.pg_attribute a join relations r on r.oid = a.attrelid and r.relkind in ('r', 'p', 'f')
      left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attnum > 0 and not a.attisdropped
    union all
    select format('view %s %s', oid, pg_get_viewdef(oid)) from relations where relkind in ('v', 'm')
    union all
    select format('constraint %s %s %s', oid, coalesce(nullif(conrelid, 0), contypid), pg_get_constraintdef(oid)) from pg_catalog.pg_constraint
      where conrelid in (select oid from relations) or (contypid <> 0 and connamespace in (select oid from spaces))
    union all
    -- Without its oid: REINDEX CONCURRENTLY puts another index in its place.
    select format('index %s %s %s', indrelid, indisvalid, pg_get_indexdef(indexrelid)) from pg_catalog.pg_index where indrelid in (select oid from relations)
    union all
    select format('trigger %s %s %s', oid, tgenabled, pg_get_triggerdef(oid)) from pg_catalog.pg_trigger
      where not tgisinternal and tgrelid in (select oid from relations)
    union all
    select format('rule %s %s %s', oid, ev_enabled, pg_get_ruledef(oid)) from pg_catalog.pg_rewrite
      where rulename <> '_RETURN' and ev_class in (select oid from relations)
    union all
    select format('policy %s %s %s %s %s %s', polrelid, polname, polcmd, polroles, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
      from pg_catalog.pg_policy where polrelid in (select oid from relations)
    union all
    select format('sequence %s %s %s %s %s %s %s', seqrelid, format_type(seqtypid, null), seqstart, seqincrement, seqmax, seqmin, seqcycle)
      from pg_catalog.pg_sequence where seqrelid in (select oid from relations)
    union all
    select format('type %s %s %s %s %s', t.oid, t.oid::regtype, t.typtype, format_type(t.typbasetype, t.typtypmod),
        (select string_agg(quote_literal(e.enumlabel), ',' order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid))
      from pg_catalog.pg_type t where t.typnamespace in (select oid from spaces) and t.typtype in ('d', 'e', 'r')
        and not exists (select from members where classid = 'pg_type'::regclass and objid = t.oid)
    union all
    select format('function %s %s', p.oid, case when p.prokind = 'a' then p.oid::regprocedure::text else pg_get_functiondef(p.oid) end)
      from pg_catalog.pg_proc p where p.pronamespace in (select oid from spaces)
        and not exists (select from members where classid = 'pg_proc'::regclass and objid = p.oid)
    union all
    select format('extension %I %s', extname, extversion) from pg_catalog.pg_extension
  ) lines order by line collate "C"`
