import { execFile } from 'node:child_process'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { type Database, openDatabase } from '../../../lib/platform/db.ts'
import { startPostgres } from '../../../local/postgres.ts'

export interface VersionedServer {
  /** A new, empty database; dropped with the server. */
  database(name: string): Promise<{ db: Database; url: string; name: string }>
  stop(): Promise<void>
}

/** Starts a PostgreSQL of another major version, which `npm install --prefix .ci --ignore-scripts` brings. */
export async function startVersion(major: 15 | 17 | 18): Promise<VersionedServer> {
  const directory = await mkdtemp(join(tmpdir(), `caretaker-postgres-${major}-`))
  const native = major === 17 ? {} : { native: await nativeOf(major) }
  const server = await startPostgres({ directory, ...native, settings: { fsync: 'off', synchronous_commit: 'off' } })
  const open: Database[] = []
  return {
    async database(name) {
      const admin = openDatabase({ sessionUrl: server.url(), maxConnections: 1 })
      await admin.execute(`create database ${name} template template0`)
      await admin.close()
      const db = openDatabase({ sessionUrl: server.url(name), maxConnections: 3 })
      open.push(db)
      return { db, url: server.url(name), name }
    },
    async stop() {
      for (const db of open) await db.close()
      await server.stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

async function nativeOf(major: number): Promise<string> {
  const home = resolve(import.meta.dirname, `../../../.ci/node_modules/postgres-${major}`)
  if ((await stat(home).catch(() => null)) === null)
    throw new Error(`PostgreSQL ${major} is not installed (Linux on x64 only): npm install --prefix .ci --ignore-scripts`)
  // The package's own install script, which makes links between its libraries, was not run.
  await promisify(execFile)(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: home })
  return join(home, 'native')
}
