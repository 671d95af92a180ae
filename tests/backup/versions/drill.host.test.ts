import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { backupDatabase, drillBackup, listBackups } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { startVersion, type VersionedServer } from './servers.ts'

// PostgreSQL 17, as the other tests have it.
const source = useTestDatabase({ template: 'template0' })
let older: VersionedServer
let newer: VersionedServer
let folder: string
let ctx: Context

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-drill-versions-'))
  older = await startVersion(15)
  newer = await startVersion(18)
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Drill' }, backup: { encryption: 'none' } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
  })
  await source.db.execute('create table t (id int primary key); insert into t values (1)')
  await backupDatabase(ctx)
})
afterAll(async () => {
  await older.stop()
  await newer.stop()
  await rm(folder, { recursive: true, force: true })
})

test('a scratch database of an older version is named as such, untouched, and nothing is held against the backup', async () => {
  const scratch = await older.database('scratch')
  await expect(drillBackup(ctx, { scratchUrl: scratch.url })).rejects.toMatchObject({
    code: 'invalid_input',
    detail: expect.stringMatching(/The scratch database is PostgreSQL 15\.\d+.*, the backup is of 17\..*or a newer one/),
  })
  expect((await listBackups(ctx))[0]?.proven).toBeUndefined()
  expect(await scratch.db.query(`select shobj_description(oid, 'pg_database') as mark from pg_database where datname = 'scratch'`)).toEqual(
    [{ mark: null }],
  )
})

test('one of a newer version proves the rows; schemas that two versions print differently are not compared', async () => {
  const scratch = await newer.database('scratch')
  expect(await drillBackup(ctx, { scratchUrl: scratch.url })).toMatchObject({ proven: true, schemaEqual: null, rows: 1 })
  expect(await scratch.db.query(`select from pg_class where relname = 't'`)).toEqual([])
})
