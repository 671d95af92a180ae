import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BackupReport, backupDatabase, type RestoreReport, restoreBackup } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { type Database, openDatabase } from '../../../lib/platform/db.ts'
import { testContext } from '../../support/context.ts'
import { asProjectRole, makeProject } from '../project.ts'
import { acrossVersions, contentsOf, schemaOf } from '../state.ts'
import { makeZoo } from '../zoo.ts'
import { startVersion, type VersionedServer } from './servers.ts'

type Major = 15 | 17 | 18
const majors: readonly Major[] = [15, 17, 18]
/** From the oldest to the newest, each to itself, and the ways up. */
const ways: readonly [Major, Major][] = [
  [15, 15],
  [15, 17],
  [15, 18],
  [17, 17],
  [17, 18],
  [18, 18],
]
const servers = new Map<Major, VersionedServer>()
let folder: string
let made = 0

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-versions-'))
  for (const major of majors) servers.set(major, await startVersion(major))
})
afterAll(async () => {
  for (const server of servers.values()) await server.stop()
  await rm(folder, { recursive: true, force: true })
})

function database(major: Major) {
  const server = servers.get(major)
  if (server === undefined) throw new Error(`PostgreSQL ${major} was not started`)
  return server.database(`versions_${++made}`)
}

function contextOf(db: Database) {
  const ctx = testContext(db, {
    config: defineConfig({ app: { name: 'Versions' }, backup: { encryption: 'none' } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
  })
  return ctx
}

async function carry(db: Database, targetUrl: string): Promise<{ report: BackupReport; restored: RestoreReport }> {
  const ctx = contextOf(db)
  const report = await backupDatabase(ctx, { partBytes: 200_000 })
  return { report, restored: await restoreBackup(ctx, { id: report.id, targetUrl }) }
}

const sql = (name: string) => readFile(new URL(name, import.meta.url), 'utf8')

describe.each(ways)('from PostgreSQL %i to %i', (from, to) => {
  const schema = async (url: string) => (from < 16 && to >= 16 ? acrossVersions(await schemaOf(url)) : schemaOf(url))

  test('one of every kind of object', async () => {
    const source = await database(from)
    await makeZoo(source.db)
    if (from === 18) await source.db.execute(await sql('./zoo-18.sql'))
    const target = await database(to)
    const { report, restored } = await carry(source.db, target.url)
    expect(restored).toMatchObject({ rows: report.rows, skipped: [] })
    expect(await schema(target.url)).toBe(await schema(source.url))
    expect(await contentsOf(target.db)).toEqual(await contentsOf(source.db))
    expect(await source.db.query('show server_version_num')).toEqual([
      { server_version_num: expect.stringMatching(new RegExp(`^${from}`)) },
    ])
  })

  test('a sample database', async () => {
    const source = await database(from)
    await source.db.execute(await sql('../sample.sql'))
    const target = await database(to)
    const { report, restored } = await carry(source.db, target.url)
    expect(restored).toMatchObject({ rows: report.rows, skipped: [] })
    expect(await schema(target.url)).toBe(await schema(source.url))
    expect(await contentsOf(target.db)).toEqual(await contentsOf(source.db))
  })

  test("a Supabase project, by the project's role", async () => {
    const source = await database(from)
    await makeProject(source.db, source.name)
    const role = openDatabase({ sessionUrl: asProjectRole(source.url), maxConnections: 4 })
    const target = await database(to)
    await makeProject(target.db, target.name)
    try {
      await role.execute(await sql('../supabase-app.sql'))
      const { report, restored } = await carry(role, asProjectRole(target.url))
      expect(restored.rows).toBe(report.rows)
      // A definition that two versions print differently is left as the target's platform made it.
      const own = (one: { reason: string }) => one.reason !== 'the target has them in a version of its own'
      expect(from === to ? restored.skipped : restored.skipped.filter(own)).toEqual([])
      expect(await schema(target.url)).toBe(await schema(source.url))
      // The platform's own rows are no part of a backup.
      const platform = [
        'auth.sessions',
        'auth.refresh_tokens',
        'auth.refresh_tokens_id_seq',
        'auth.schema_migrations',
        'storage.migrations',
      ]
      const rows = async (db: Database) =>
        Object.fromEntries(Object.entries(await contentsOf(db)).filter(([name]) => !platform.includes(name)))
      expect(await rows(target.db)).toEqual(await rows(source.db))
    } finally {
      await role.close()
    }
  })
})
