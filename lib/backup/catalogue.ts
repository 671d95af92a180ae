import type { Queryable } from '../platform/db.ts'
import type { Scope } from './supabase.ts'

/** A table whose rows are dumped: an ordinary table, or a leaf of a partitioned one. */
export interface SourceTable {
  oid: number
  schema: string
  name: string
  /** In order, without dropped and generated ones. */
  columns: string[]
  /** Columns that PostgreSQL computes. */
  generated: string[]
  /** Pages of the heap itself; 0 for a table that is not a heap and cannot be split by ctid. */
  pages: number
  /** With TOAST, without indexes. */
  bytes: number
  /** Set for a configuration table of an extension: which of its rows are the user's ("" for all). */
  condition: string | null
  /** Where it is restored it may exist with rows of others: those of the backup are added, and compared in sorted order. */
  shared: boolean
}

export interface SourceSequence {
  schema: string
  name: string
}

export interface SourceExtension {
  name: string
  version: string
  schema: string
}

export interface SourceRole {
  name: string
  superuser: boolean
  inherit: boolean
  createRole: boolean
  createDatabase: boolean
  login: boolean
  replication: boolean
  bypassRls: boolean
  connectionLimit: number
  memberOf: string[]
  memberships: SourceMembership[]
}

/** How a role is a member of `role`. */
export interface SourceMembership {
  role: string
  admin: boolean
  /** null where the server does not tell them apart (before PostgreSQL 16). */
  inherit: boolean | null
  set: boolean | null
}

/** What `ALTER DATABASE … SET` or `ALTER ROLE … SET` has left. The value may be a secret of the app's. */
export interface SourceSetting {
  /** null for every role. */
  role: string | null
  /** In this database alone; otherwise in all of the server. */
  inDatabase: boolean
  name: string
  value: string
}

export interface LeftOut {
  what: string
  why: string
}

/** Schemas that are PostgreSQL's own, and those the policy names. `$1` of the queries below. */
const systemSchemas = `(n.nspname like 'pg\\_%' or n.nspname = 'information_schema')`

/**
 * The tables that hold rows of the database, largest first. Members of extensions are not among them (CREATE EXTENSION
 * makes them again), but for the configuration tables that an extension declares.
 */
export async function listTables(db: Queryable, scope: Scope): Promise<SourceTable[]> {
  return db.query<SourceTable & Record<string, unknown>>(
    `select c.oid::int8::float8 as oid, n.nspname as schema, c.relname as name,
       coalesce(col.names, '{}') as columns, coalesce(col.generated, '{}') as generated,
       case when am.amname = 'heap' then pg_relation_size(c.oid) / current_setting('block_size')::int8 else 0 end::float8 as pages,
       pg_table_size(c.oid)::float8 as bytes, cfg.condition,
       cfg.condition is not null or n.nspname = any ($3::text[]) as shared
     from pg_catalog.pg_class c
     join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     left join pg_catalog.pg_am am on am.oid = c.relam
     left join lateral (
       select array_agg(a.attname::text order by a.attnum) filter (where a.attgenerated = '') as names,
         array_agg(a.attname::text order by a.attnum) filter (where a.attgenerated <> '') as generated
       from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     ) col on true
     left join lateral (
       select coalesce(e.extcondition[array_position(e.extconfig, c.oid)], '') as condition
       from pg_catalog.pg_extension e where c.oid = any (e.extconfig)
     ) cfg on true
     where c.relkind = 'r' and c.relpersistence in ('p', 'u')
       and not ${systemSchemas} and n.nspname <> all ($1::text[])
       and n.nspname || '.' || c.relname <> all ($2::text[])
       and (cfg.condition is not null or not exists (
         select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'))
     order by pg_table_size(c.oid) desc, n.nspname, c.relname`,
    [scope.excludeSchemas, scope.excludeRows, scope.sharedSchemas],
  )
}

/**
 * Tables without rows of their own in the backup that pg_dump locks all the same: the parents of partitions, and those whose rows are left
 * out. Of what the role may not read pg_dump will complain.
 */
export async function listTablesWithoutRows(db: Queryable, scope: Scope): Promise<{ schema: string; name: string }[]> {
  return db.query<{ schema: string; name: string }>(
    `select n.nspname as schema, c.relname as name
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where (c.relkind = 'p' or (c.relkind = 'r' and n.nspname || '.' || c.relname = any ($2::text[]))) and c.relpersistence in ('p', 'u')
       and not ${systemSchemas} and n.nspname <> all ($1::text[])
       and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
     order by 1, 2`,
    [scope.excludeSchemas, scope.excludeRows],
  )
}

/**
 * Sequences, those of identity columns too, but not an extension's (unless it declares them as configuration; but pg_cron's jobs
 * are made anew, with new numbers).
 */
export async function listSequences(db: Queryable, excludeSchemas: readonly string[]): Promise<SourceSequence[]> {
  return db.query<SourceSequence & Record<string, unknown>>(
    `select n.nspname as schema, c.relname as name
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'S' and c.relpersistence in ('p', 'u') and not ${systemSchemas} and n.nspname <> all ($1::text[])
       and (exists (select from pg_catalog.pg_extension e where c.oid = any (e.extconfig) and e.extname <> 'pg_cron') or not exists (
         select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'))
     order by 1, 2`,
    [excludeSchemas],
  )
}

export async function listExtensions(db: Queryable): Promise<SourceExtension[]> {
  return db.query<SourceExtension & Record<string, unknown>>(
    `select e.extname as name, e.extversion as version, n.nspname as schema
     from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace order by 1`,
  )
}

/**
 * The roles that objects of this database are owned by, granted to or speak of, those it has settings for, and those that they
 * are members of. PostgreSQL records no dependency on the role that initdb made: it is always among them. Passwords are not read.
 */
export async function listRoles(db: Queryable): Promise<SourceRole[]> {
  return db.query<SourceRole & Record<string, unknown>>(
    `with recursive here (oid) as (
       select oid from pg_catalog.pg_database where datname = current_database()
     ), needed (oid) as (
       select refobjid from pg_catalog.pg_shdepend
       where refclassid = 'pg_authid'::regclass and dbid in (0, (select oid from here))
         and (dbid <> 0 or (classid = 'pg_database'::regclass and objid = (select oid from here)))
       union select setrole from pg_catalog.pg_db_role_setting where setdatabase = (select oid from here) and setrole <> 0
       union select 10::oid
       union select m.roleid from pg_catalog.pg_auth_members m join needed on needed.oid = m.member
     ), membership as (
       -- One row a grantor; since PostgreSQL 16 with what the member may do.
       select m.member, g.rolname::text as role, bool_or(m.admin_option) as admin,
         bool_or((to_jsonb(m) ->> 'inherit_option')::bool) as inherit, bool_or((to_jsonb(m) ->> 'set_option')::bool) as set
       from pg_catalog.pg_auth_members m join pg_catalog.pg_roles g on g.oid = m.roleid group by 1, 2
     )
     select r.rolname as name, r.rolsuper as superuser, r.rolinherit as inherit, r.rolcreaterole as "createRole",
       r.rolcreatedb as "createDatabase", r.rolcanlogin as login, r.rolreplication as replication, r.rolbypassrls as "bypassRls",
       r.rolconnlimit as "connectionLimit",
       coalesce((select array_agg(m.role order by m.role) from membership m where m.member = r.oid), '{}') as "memberOf",
       coalesce((select jsonb_agg(jsonb_build_object('role', m.role, 'admin', m.admin, 'inherit', m.inherit, 'set', m.set) order by m.role)
         from membership m where m.member = r.oid), '[]') as memberships
     from pg_catalog.pg_roles r where r.oid in (select oid from needed) and r.rolname not like 'pg\\_%'
     order by 1`,
  )
}

/** Settings of this database, of roles in it, and of the roles named (in all of the server). */
export async function listSettings(db: Queryable, roles: readonly string[]): Promise<SourceSetting[]> {
  return db.query<SourceSetting & Record<string, unknown>>(
    `select r.rolname as role, s.setdatabase <> 0 as "inDatabase", split_part(config, '=', 1) as name, substr(config, strpos(config, '=') + 1) as value
     from pg_catalog.pg_db_role_setting s left join pg_catalog.pg_roles r on r.oid = s.setrole, unnest(s.setconfig) with ordinality c (config, position)
     where s.setdatabase = (select oid from pg_catalog.pg_database where datname = current_database())
       or (s.setdatabase = 0 and r.rolname = any ($1::text[]))
     order by s.setdatabase, r.rolname nulls first, c.position`,
    [roles],
  )
}

/** What a logical backup cannot or does not carry in this database, each with its reason. */
export async function listLeftOut(db: Queryable, policySchemas: readonly string[], scope: Scope): Promise<LeftOut[]> {
  const rows = await db.query<{ kind: string; name: string }>(
    `select 'schema' as kind, n.nspname as name from pg_catalog.pg_namespace n where n.nspname = any ($1::text[])
     union all
     select 'extension', e.extname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where n.nspname = any ($1::text[])
     union all
     select 'foreign', n.nspname || '.' || c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       where c.relkind = 'f' and not ${systemSchemas} and n.nspname <> all ($1::text[])
     union all
     select 'vault', e.extname from pg_catalog.pg_extension e where e.extname in ('supabase_vault', 'pgsodium')
     union all
     select distinct 'tablespace', t.spcname from pg_catalog.pg_class c join pg_catalog.pg_tablespace t on t.oid = c.reltablespace
       join pg_catalog.pg_namespace n on n.oid = c.relnamespace where t.spcname not like 'pg\\_%' and n.nspname <> all ($1::text[])
     union all
     select 'subscription', s.subname from pg_catalog.pg_subscription s
       where s.subdbid = (select oid from pg_catalog.pg_database where datname = current_database())
     order by 1, 2`,
    [policySchemas],
  )
  const left = rows.map(
    (row): LeftOut => ({
      what: `${row.kind === 'foreign' ? 'rows of foreign table' : row.kind} ${row.name}`,
      why: reasons[row.kind] ?? '',
    }),
  )
  return [
    ...left,
    ...scope.leftOut,
    { what: 'passwords of roles', why: 'A backup that holds them would be worth stealing; set them anew after a restore.' },
  ]
}

const reasons: Record<string, string> = {
  schema: 'The policy excludes it (backup.excludeSchemas).',
  extension: 'It is installed in a schema that the policy excludes.',
  foreign: 'They are on another server; the table itself is in the backup.',
  vault: 'Its root key is kept outside the database: secrets restored elsewhere cannot be decrypted. Keep a copy of what it holds.',
  tablespace:
    "It is a folder of the server's: what lies there comes back in the default tablespace of the database that it is restored into.",
  subscription: 'Its connection string holds a password and its slot is on the other server; it is made again disabled.',
}
