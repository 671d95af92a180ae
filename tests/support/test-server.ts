import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDatabase } from '../../lib/platform/db.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { startPostgres } from '../../local/postgres.ts'

export interface TestServer {
  /** The superuser's URL, with `%s` where the database name goes. */
  url: string
  stop(): Promise<void>
}

/**
 * Thrown away, so nothing has to reach the disk. And nobody vacuums in between: what a test finds in statistics and locks, the test has made.
 * Its zone is Supabase's, wherever the machine is.
 */
const settings = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', autovacuum_naptime: '2000000', timezone: 'UTC' }

/** A real PostgreSQL. `template_caretaker` holds the migrated schema. */
export async function startTestServer(): Promise<TestServer> {
  const directory = await mkdtemp(join(tmpdir(), 'caretaker-test-'))
  const server = await startPostgres({ directory, settings })
  const admin = openDatabase({ sessionUrl: server.url() })
  await admin.execute('create database template_caretaker')
  await admin.close()
  const template = openDatabase({ sessionUrl: server.url('template_caretaker') })
  await applyMigrations(template)
  await template.close()
  return {
    url: server.url('%s'),
    async stop() {
      await server.stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
