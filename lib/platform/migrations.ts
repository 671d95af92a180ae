import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Database } from './db.ts'
import { CaretakerError } from './errors.ts'

const directory = fileURLToPath(new URL('../../supabase/migrations/', import.meta.url))

export interface Migration {
  version: string
  name: string
  sql: string
}

/** The migrations in `supabase/migrations/`, oldest first. */
export async function listMigrations(): Promise<Migration[]> {
  const files = (await readdir(directory)).filter((file) => file.endsWith('.sql')).sort()
  return Promise.all(
    files.map(async (file) => {
      const match = /^(\d{14})_(\w+)\.sql$/.exec(file)
      if (match === null) throw new CaretakerError('internal', `supabase/migrations/${file}: expected YYYYMMDDHHMMSS_name.sql`)
      return { version: match[1] as string, name: match[2] as string, sql: await readFile(`${directory}${file}`, 'utf8') }
    }),
  )
}

/** Set by scripts/bundle-functions.ts: the hosts' bundles carry the versions, and none of the files. */
declare const CARETAKER_MIGRATIONS: readonly string[] | undefined

/** The versions of this release, oldest first. */
export async function migrationVersions(): Promise<readonly string[]> {
  if (typeof CARETAKER_MIGRATIONS !== 'undefined') return CARETAKER_MIGRATIONS
  return (await listMigrations()).map(({ version }) => version)
}

/**
 * Applies what is pending, each file in one transaction, and records it where the Supabase CLI does
 * (`supabase_migrations.schema_migrations`), so that either tool sees what the other has done.
 * @returns the versions applied now
 */
export async function applyMigrations(db: Database): Promise<string[]> {
  const all = await listMigrations()
  const applied: string[] = []
  await db.transaction(async (tx) => {
    // Two deploys at once: the second waits here and then finds nothing to do.
    await tx.query(`select pg_advisory_xact_lock(hashtextextended('caretaker:migrations', 0))`)
    await tx.execute('create schema if not exists supabase_migrations')
    await tx.execute(
      'create table if not exists supabase_migrations.schema_migrations (version text primary key, statements text[], name text)',
    )
    const done = new Set(
      (await tx.query<{ version: string }>('select version from supabase_migrations.schema_migrations')).map((row) => row.version),
    )
    for (const migration of all) {
      if (done.has(migration.version)) continue
      await tx.execute(migration.sql)
      await tx.execute('insert into supabase_migrations.schema_migrations (version, name, statements) values ($1, $2, $3)', [
        migration.version,
        migration.name,
        [migration.sql],
      ])
      applied.push(migration.version)
    }
  })
  return applied
}
