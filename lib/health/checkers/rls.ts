import { type Checker, healthy, unhealthy } from '../checker.ts'

const namesShown = 20

/**
 * Every table in a schema that Supabase's API exposes has row level security on. Which schemas those are is PostgREST's
 * own setting on its role (`pgrst.db_schemas`), `public` where there is none. On a Supabase database only tables that
 * `anon` or `authenticated` may touch count; where those roles are missing, all do.
 */
export const rls: Checker = async (ctx, _check, signal) => {
  const open = await ctx.db.probe<{ name: string }>(
    `with setting as (
       select substring(one from '^pgrst\\.db_schemas=(.*)$') as list
       from pg_db_role_setting s join pg_roles r on r.oid = s.setrole, unnest(s.setconfig) as one
       where r.rolname = 'authenticator' and one like 'pgrst.db\\_schemas=%'
         and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
       order by s.setdatabase desc limit 1
     ), exposed as (
       select trim(both ' "' from name) as name from unnest(string_to_array(coalesce((select list from setting), 'public'), ',')) as name
     ), callers as (
       select oid from pg_roles where rolname in ('anon', 'authenticated')
     )
     select format('%s.%s', n.nspname, c.relname) as name
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p') and not c.relrowsecurity and n.nspname in (select name from exposed)
       and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
       and (not exists (select from callers)
         or exists (select from callers where has_table_privilege(callers.oid, c.oid, 'select, insert, update, delete, truncate')))
     order by 1`,
    [],
    signal,
  )
  if (open.length === 0) return healthy({ tables: 0 })
  return unhealthy('rls_off', { tables: open.length, names: open.slice(0, namesShown).map((row) => row.name) })
}
