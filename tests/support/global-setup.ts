import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { openDatabase } from '../../lib/platform/db.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { startPostgres } from '../../local/postgres.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** The superuser's URL of the run's server, with `%s` where the database name goes. */
    postgresUrl: string
  }
}

/** One real PostgreSQL a run, without fsync: it is thrown away. `template_caretaker` holds the migrated schema. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const directory = await mkdtemp(join(tmpdir(), 'caretaker-test-'))
  const server = await startPostgres({ directory, settings: { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' } })
  const admin = openDatabase({ sessionUrl: server.url() })
  await admin.execute('create database template_caretaker')
  await admin.close()
  const template = openDatabase({ sessionUrl: server.url('template_caretaker') })
  await applyMigrations(template)
  await template.close()
  project.provide('postgresUrl', server.url('%s'))
  return async () => {
    await server.stop()
    await rm(directory, { recursive: true, force: true })
  }
}
