import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  backupDatabase,
  backupVerifyJob,
  listBackups,
  listConfigVersions,
  lossNow,
  pruneBackups,
  restoreAt,
  restoreBackup,
  showConfigVersion,
  verifyBackup,
  versionConfig,
} from '../../lib/backup/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

let folder: string
let shop: TestDatabase
let blog: TestDatabase
let target: TestDatabase

function context(db: Context['db'] | null): Context {
  const made: Context = testContext(db ?? openDatabase({ sessionUrl: 'postgres://nobody@127.0.0.1:1/gone' }), {
    config: defineConfig({ app: { name: 'Shared' }, backup: { encryption: 'none', keep: { daily: 1 } } }),
    objects: () => openObjectStore(`file://${folder}`, made.env),
  })
  return made
}

const backups: Record<'shop' | 'blog', string[]> = { shop: [], blog: [] }

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-shared-'))
  ;[shop, blog, target] = (await Promise.all([0, 1, 2].map(() => createTestDatabase({ template: 'template0' })))) as [
    TestDatabase,
    TestDatabase,
    TestDatabase,
  ]
  await shop.db.execute('create table goods (id int primary key); insert into goods values (1), (2)')
  await blog.db.execute('create table posts (id int primary key); insert into posts values (1)')
  for (const [name, database] of [
    ['shop', shop],
    ['blog', blog],
    ['shop', shop],
    ['blog', blog],
  ] as const)
    backups[name].push((await backupDatabase(context(database.db))).id)
})
afterAll(async () => {
  for (const database of [shop, blog, target]) await database.drop()
  await rm(folder, { recursive: true, force: true })
})

describe('two databases in one store', () => {
  test('are told apart in the list, though the app has one name', async () => {
    const listed = await listBackups(context(null))
    expect(listed.map((backup) => backup.id)).toEqual([backups.blog[1], backups.shop[1], backups.blog[0], backups.shop[0]])
    expect(new Set(listed.map((backup) => backup.instance)).size).toBe(2)
    expect(listed[0]?.instance).toMatch(/^\d{15,}\/\d+$/)
  })

  test('latest is that of the database one is connected to', async () => {
    expect(await verifyBackup(context(shop.db), { id: 'latest' })).toMatchObject({ id: backups.shop[1] })
    expect(await verifyBackup(context(blog.db), { id: 'latest' })).toMatchObject({ id: backups.blog[1] })
    expect(await lossNow(context(shop.db))).toMatchObject({ coveredUntil: expect.stringMatching(/^20/), openAgainMs: null })
    expect(await lossNow(context(target.db))).toEqual({ coveredUntil: null, lostMs: null, openAgainMs: null, drilledAt: null })
  })

  test('latest of nobody in particular is refused, with the newest of each; the name of one, or its instance, says which', async () => {
    const night = context(null)
    const refusal = restoreBackup(night, { id: 'latest', targetUrl: target.url })
    await expect(refusal).rejects.toMatchObject({ code: 'invalid_input', detail: expect.stringContaining(backups.shop[1] ?? '') })
    await expect(refusal).rejects.toMatchObject({ detail: expect.stringContaining(backups.blog[1] ?? '') })
    await expect(restoreAt(night, { at: 'latest', targetUrl: target.url })).rejects.toMatchObject({ code: 'invalid_input' })
    expect(await target.db.query(`select from pg_class where relnamespace = 'public'::regnamespace`)).toEqual([])
    expect(await verifyBackup(night, { id: 'latest', database: shop.name })).toMatchObject({ id: backups.shop[1] })
    const instance = (await listBackups(night)).find((backup) => backup.database === blog.name)?.instance ?? ''
    expect(await verifyBackup(night, { id: 'latest', database: instance })).toMatchObject({ id: backups.blog[1] })
    await expect(verifyBackup(night, { id: 'latest', database: 'crm' })).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringMatching(/--database: found "crm"; .* holds backups of/),
    })
    // An id says it all.
    expect(await verifyBackup(night, { id: backups.shop[0] ?? '' })).toMatchObject({ id: backups.shop[0] })
  })

  test('a drill takes no other database for its own', async () => {
    const ctx = context(target.db)
    const drilled = backupVerifyJob({ ...ctx, env: { ...ctx.env, DRILL_DATABASE_URL: blog.url } }, {} as JobRun)
    await expect(drilled).rejects.toMatchObject({ code: 'invalid_input', detail: expect.stringContaining('holds backups of') })
  })

  test('the configuration of one is no change of the other', async () => {
    const deployment = { jobs: [] }
    const first = await versionConfig(context(shop.db), deployment)
    const second = await versionConfig(context(blog.db), deployment)
    expect([first.changed, second.changed]).toEqual([true, true])
    expect(await versionConfig(context(shop.db), deployment)).toMatchObject({ changed: false, id: first.id })
    expect(new Set((await listConfigVersions(context(null))).map((version) => version.database)).size).toBe(2)
    await expect(showConfigVersion(context(null), { id: 'latest' })).rejects.toMatchObject({ code: 'invalid_input' })
  })

  test('retention deletes those of one alone, and names the others', async () => {
    expect(await pruneBackups(context(shop.db))).toMatchObject({
      kept: [{ id: backups.shop[1] }],
      removed: [backups.shop[0]],
      others: [{ database: blog.name, backups: 2 }],
    })
    await expect(pruneBackups(context(null))).rejects.toMatchObject({ code: 'invalid_input' })
    expect(await pruneBackups(context(null), { database: blog.name })).toMatchObject({
      removed: [backups.blog[0]],
      others: [{ database: shop.name }],
    })
  })
})

test('a database that was made anew under its old name is another one', async () => {
  const admin = openDatabase({ sessionUrl: shop.url.replace(/[^/]+$/, 'postgres'), maxConnections: 1 })
  const name = `again_${shop.name}`
  const url = shop.url.replace(/[^/]+$/, name)
  const ids: string[] = []
  try {
    for (let life = 0; life < 2; life++) {
      await admin.execute(`create database ${name} template template0`)
      const db = openDatabase({ sessionUrl: url, maxConnections: 3 })
      ids.push((await backupDatabase(context(db))).id)
      // The second life's retention, which keeps one a day, does not see the first's.
      if (life === 1) expect(await pruneBackups(context(db))).toMatchObject({ kept: [{ id: ids[1] }], removed: [] })
      await db.close()
      await admin.execute(`drop database ${name} with (force)`)
    }
    expect((await listBackups(context(null))).filter((backup) => backup.database === name)).toHaveLength(2)
  } finally {
    await admin.close()
  }
})
