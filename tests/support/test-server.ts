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

/** A real PostgreSQL, without fsync: it is thrown away. `template_caretaker` holds the migrated schema. */
export async function startTestServer(): Promise<TestServer> {
  const directory = await mkdtemp(join(tmpdir(), 'caretaker-test-'))
  const server = await startPostgres({ directory, settings: { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' } })
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
