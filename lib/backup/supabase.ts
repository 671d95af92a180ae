import type { Queryable } from '../platform/db.ts'
import type { LeftOut } from './catalogue.ts'
import { rowsSchema } from './restore/journal.ts'
import type { Statement } from './sql/split-statements.ts'

/*
 * In a Supabase project some schemas belong to the platform: it makes them, its roles own them, and their migrations run by
 * themselves. The app's share of them are rows (users, buckets, files) and its own triggers and policies.
 */

/** Schemas of the platform. A fresh project has them before anything is restored. */
export const platformSchemas = [
  'auth',
  'storage',
  'realtime',
  '_realtime',
  'extensions',
  'graphql',
  'graphql_public',
  'pgbouncer',
  'vault',
  'pgsodium',
  'pgsodium_masks',
  'supabase_functions',
  '_analytics',
  '_supavisor',
] as const

export function isPlatformSchema(schema: string): boolean {
  return (platformSchemas as readonly string[]).includes(schema)
}

/** What a project holds before a restore, as pg_dump writes it. */
export interface PlatformObjects {
  statements: ReadonlySet<string>
  /** By `entryOf`. */
  entries: ReadonlySet<string>
}

/** Names an object as pg_dump's comment does. */
export function entryOf(statement: Pick<Statement, 'type' | 'schema' | 'name'>): string {
  return [statement.type, statement.schema, statement.name].join('|')
}

/** Tables of the platform whose rows mean nothing in another project, or must not live twice. */
const leftOutRows: Readonly<Record<string, string>> = {
  'auth.schema_migrations': 'The auth server keeps its own state of migrations.',
  'auth.sessions': 'Sessions are not restored: everybody signs in again.',
  'auth.refresh_tokens': 'Tokens of sessions, which are not restored.',
  'auth.mfa_amr_claims': 'Claims of sessions, which are not restored.',
  'auth.mfa_challenges': 'They are valid for minutes.',
  'auth.flow_state': 'Sign-ins under way; valid for minutes.',
  'auth.saml_relay_states': 'Sign-ins under way; valid for minutes.',
  'auth.one_time_tokens': 'Links in e-mails; they are asked for anew.',
  'storage.migrations': 'The storage server keeps its own state of migrations.',
  'storage.s3_multipart_uploads': 'Uploads under way.',
  'storage.s3_multipart_uploads_parts': 'Uploads under way.',
  'realtime.schema_migrations': 'The realtime server keeps its own state of migrations.',
  'realtime.subscription': 'Connections of the moment.',
  'supabase_functions.migrations': 'The platform keeps its own state of migrations.',
}

/** Where the policy names no buckets. */
export const filesLeftOut: LeftOut = {
  what: 'files in Storage buckets',
  why: 'Their rows in storage.objects are here; the files are kept by the Storage server. Name the buckets in backup.buckets.',
}

/** What of a database is read, and how. */
export interface Scope {
  /** Schemas to leave out whole: those of the policy and those of the platform that this role may not read. */
  excludeSchemas: readonly string[]
  /** `schema.table` whose rows are left out. */
  excludeRows: readonly string[]
  /** Schemas whose tables may exist, with rows or without, where the backup is restored. */
  sharedSchemas: readonly string[]
  leftOut: LeftOut[]
}

/** True where the platform's auth schema is there and owned by its role. */
export async function isSupabase(db: Queryable): Promise<boolean> {
  const [found] = await db.query(
    `select from pg_catalog.pg_namespace n join pg_catalog.pg_roles r on r.oid = n.nspowner where n.nspname = 'auth' and r.rolname = 'supabase_auth_admin'`,
  )
  return found !== undefined
}

/** What to read of the database: all of it, but for what the policy excludes and what is the platform's alone. */
export async function sourceScope(db: Queryable, policy: { excludeSchemas: readonly string[] }): Promise<Scope> {
  // What rows are being brought back by is not the database's own.
  const always = [...policy.excludeSchemas, rowsSchema]
  if (!(await isSupabase(db))) return { excludeSchemas: always, excludeRows: [], sharedSchemas: [], leftOut: [] }
  const closed = await db.query<{ name: string }>(
    `select n.nspname as name from pg_catalog.pg_namespace n
     where n.nspname = any ($1::text[]) and n.nspname <> all ($2::text[]) and (not has_schema_privilege(n.oid, 'usage') or exists (
       select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'S', 'v', 'm') and not case when c.relkind = 'S'
         then has_sequence_privilege(c.oid, 'select') else has_table_privilege(c.oid, 'select') end))
     order by 1`,
    [platformSchemas, policy.excludeSchemas],
  )
  const present = await db.query<{ name: string }>(
    `select named.name from unnest($1::text[]) with ordinality as named(name, n) where to_regclass(named.name) is not null order by named.n`,
    [Object.keys(leftOutRows)],
  )
  return {
    excludeSchemas: [...always, ...closed.map((schema) => schema.name)],
    excludeRows: Object.keys(leftOutRows),
    sharedSchemas: platformSchemas,
    leftOut: [
      ...closed.map((schema) => ({ what: `schema ${schema.name}`, why: 'It belongs to Supabase, and this role may not read all of it.' })),
      ...present.map(({ name }) => ({ what: `rows of ${name}`, why: leftOutRows[name] ?? '' })),
      filesLeftOut,
    ],
  }
}
