import type { Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { runPgDump } from './pg-dump/run-pg-dump.ts'
import { pattern } from './schema-sql.ts'
import { splitStatements } from './sql/split-statements.ts'
import { entryOf, isSupabase, type PlatformObjects, platformSchemas, sourceScope } from './supabase.ts'
import { nameOf } from './table-name.ts'

export interface Target {
  name: string
  /** In a Supabase project, what it holds before the restore; null elsewhere. */
  platform: PlatformObjects | null
  /** What is in it that a restore could meet; null where it is empty. */
  occupiedBy: string | null
}

export interface TargetOptions {
  /** A secret. */
  url: string
  ca: string | undefined
  signal: AbortSignal
  /** What the first run of a restore noted (`platformNote`): by now the target holds half a backup. null in the first run. */
  known: Readonly<Record<string, unknown>> | null
}

/** What the target is, and whether it is empty: of an app's tables, and in a Supabase project of users, buckets and files. */
export async function inspectTarget(session: Session, options: TargetOptions): Promise<Target> {
  const supabase = await isSupabase(session)
  const [found] = await session.query<{ count: number; example: string; name: string }>(
    `select count(*)::float8 as count, min(n.nspname || '.' || c.relname) as example, current_database() as name
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' and n.nspname <> all ($1::text[])
       and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')`,
    [supabase ? platformSchemas : []],
  )
  if (found === undefined) throw new CaretakerError('internal', 'An aggregate gave no row.')
  const relations = found.count > 0 ? `${found.count} tables, views or sequences, such as ${found.example}` : null
  if (!supabase) return { name: found.name, platform: null, occupiedBy: relations }
  if (options.known !== null) return { name: found.name, platform: platformFrom(options.known), occupiedBy: relations }
  return { name: found.name, platform: await readPlatform(session, options), occupiedBy: relations ?? (await inhabited(session)) }
}

/** What a project held before, as JSON. */
export function platformNote({ platform }: Target): Record<string, unknown> | null {
  return platform === null ? null : { statements: [...platform.statements], entries: [...platform.entries] }
}

function platformFrom(note: Readonly<Record<string, unknown>>): PlatformObjects {
  const { statements, entries } = (note.platform ?? {}) as { statements?: string[]; entries?: string[] }
  return { statements: new Set(statements), entries: new Set(entries) }
}

/** The first table of a project that people would miss. */
async function inhabited(session: Session): Promise<string | null> {
  for (const table of ['auth.users', 'storage.buckets', 'storage.objects']) {
    const [there] = await session.query<{ exists: boolean }>('select to_regclass($1) is not null as exists', [table])
    if (there?.exists !== true) continue
    const [row] = await session.query(`select from ${table} limit 1`)
    if (row !== undefined) return `rows in ${table}`
  }
  return null
}

async function readPlatform(session: Session, options: TargetOptions): Promise<PlatformObjects> {
  const { excludeSchemas } = await sourceScope(session, { excludeSchemas: [] })
  const restrictKey = 'platform'
  const [sql = ''] = await runPgDump({
    databaseUrl: options.url,
    ca: options.ca,
    signal: options.signal,
    runs: [
      [
        '--schema-only',
        '--encoding=UTF8',
        `--restrict-key=${restrictKey}`,
        ...excludeSchemas.map((schema) => `--exclude-schema=${pattern(schema)}`),
      ],
    ],
  })
  const statements = splitStatements(sql, restrictKey).filter((statement) => statement.type !== undefined)
  return { statements: new Set(statements.map((statement) => statement.sql)), entries: new Set(statements.map(entryOf)) }
}

/** The order in which tables that keep their foreign keys can be filled: parents first. Each as `nameOf` has it. */
export async function foreignKeyOrder(session: Session, tables: readonly string[]): Promise<string[]> {
  const edges = await session.query<{ child: [string, string]; parent: [string, string] }>(
    `select distinct array[cn.nspname, cc.relname]::text[] as child, array[pn.nspname, pc.relname]::text[] as parent
     from pg_catalog.pg_constraint k
     join pg_catalog.pg_class cc on cc.oid = k.conrelid join pg_catalog.pg_namespace cn on cn.oid = cc.relnamespace
     join pg_catalog.pg_class pc on pc.oid = k.confrelid join pg_catalog.pg_namespace pn on pn.oid = pc.relnamespace
     where k.contype = 'f' and k.conrelid <> k.confrelid`,
  )
  const name = ([schema, table]: [string, string]) => nameOf({ schema, name: table })
  return parentsFirst(
    tables,
    edges.map(({ child, parent }) => ({ child: name(child), parent: name(parent) })),
  )
}

/** `tables` in an order in which parents come first, as far as they do not refer to each other in a circle. */
export function parentsFirst(tables: readonly string[], edges: readonly { child: string; parent: string }[]): string[] {
  const parents = new Map<string, string[]>()
  for (const { child, parent } of edges) parents.set(child, [...(parents.get(child) ?? []), parent])
  const among = new Set(tables)
  const ordered: string[] = []
  const visited = new Set<string>()
  const visit = (table: string) => {
    if (visited.has(table)) return
    visited.add(table)
    for (const parent of parents.get(table) ?? []) if (among.has(parent)) visit(parent)
    ordered.push(table)
  }
  for (const table of tables) visit(table)
  return ordered
}
