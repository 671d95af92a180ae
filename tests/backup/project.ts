import { readFile } from 'node:fs/promises'
import type { Database } from '../../lib/platform/db.ts'

const roles = {
  anon: 'nologin',
  authenticated: 'nologin',
  service_role: 'nologin bypassrls',
  supabase_admin: 'nologin superuser',
  supabase_auth_admin: 'nologin noinherit',
  supabase_storage_admin: 'nologin noinherit',
  // As in a project: makes roles, bypasses row level security, is no superuser, and may make policies on storage.
  sb_postgres: 'login createrole bypassrls',
}

/** Makes of `db`, which is empty and called `name`, what a fresh Supabase project is. */
export async function makeProject(db: Database, name: string): Promise<void> {
  for (const [role, attributes] of Object.entries(roles))
    await db.execute(`do $$ begin create role ${role} ${attributes}; exception when duplicate_object or unique_violation then null; end $$`)
  await db.execute('grant anon, authenticated, service_role, supabase_storage_admin to sb_postgres')
  await db.execute(`alter database ${name} owner to sb_postgres`)
  await db.execute(await readFile(new URL('./supabase-project.sql', import.meta.url), 'utf8'))
}

/** The same address for the role that people use in a project. */
export function asProjectRole(databaseUrl: string): string {
  const url = new URL(databaseUrl)
  url.username = 'sb_postgres'
  return url.toString()
}
