import { runPgDump } from '../../lib/backup/pg-dump/run-pg-dump.ts'
import { type Database, qualified } from '../../lib/platform/db.ts'

/**
 * The schema as pg_dump writes it, without what speaks of the server instead of the schema: its version, and a setting that
 * only newer ones have.
 */
export async function schemaOf(databaseUrl: string): Promise<string> {
  const signal = new AbortController().signal
  const [sql = ''] = await runPgDump({ databaseUrl, runs: [['--schema-only', '--restrict-key=same']], signal })
  return sql
    .split('\n')
    .filter((line) => !line.startsWith('-- Dumped from database version') && line !== 'SET transaction_timeout = 0;')
    .join('\n')
}

/**
 * What PostgreSQL 15 and later ones print differently, made equal: a table's name before each column of a view that reads one
 * table alone (until 15), and all privileges on a table (until 16 there is no MAINTAIN among them).
 */
export function acrossVersions(schema: string): string {
  return schema
    .replace(/^CREATE (?:MATERIALIZED )?VIEW [^;]+;/gm, (view) => view.replace(/\b[a-z_]+\.(?=[a-z_])/g, ''))
    .replaceAll('SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE', 'ALL')
}

/** A hash of the rows of every table, and of filled materialised views, whatever their order; the state of every sequence; every large object. */
export async function contentsOf(db: Database): Promise<Record<string, unknown>> {
  // Columns by name: those of a child that were added to its parent later come elsewhere after a restore, as with pg_dump.
  const found = await db.query<{ schema: string; name: string; kind: string; columns: string }>(
    `select n.nspname as schema, c.relname as name, c.relkind::text as kind,
       coalesce((select string_agg(quote_ident(attname), ', ' order by attname) from pg_catalog.pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped), '') as columns from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where (c.relkind in ('r', 'S') or c.relkind = 'm' and c.relispopulated) and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' order by 1, 2`,
  )
  const contents: Record<string, unknown> = {}
  for (const { schema, name, kind, columns } of found) {
    const of = qualified(schema, name)
    const [state] =
      kind === 'S'
        ? await db.query(`select last_value::text, is_called from ${of}`)
        : await db.query(`select count(*)::int as rows, sum(hashtextextended(row(${columns})::text, 1))::text as hash from only ${of}`)
    contents[`${schema}.${name}`] = state
  }
  contents['large objects'] = await db.query(
    `select oid::text, md5(lo_get(oid)), pg_get_userbyid(lomowner) as owner, lomacl::text, obj_description(oid, 'pg_largeobject') from pg_largeobject_metadata order by oid`,
  )
  return contents
}
