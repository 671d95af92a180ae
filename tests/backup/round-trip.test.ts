import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backupDatabase, listBackups, restoreBackup, verifyBackup } from '../../lib/backup/index.ts'
import { runPgDump } from '../../lib/backup/pg-dump/run-pg-dump.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { hasCode } from '../../lib/platform/errors.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../support/database.ts'
import { makeZoo } from './zoo.ts'

const source = useTestDatabase({ template: 'template0' })
let folder: string
let identity: string
let ctx: Context

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-backup-'))
  identity = await generateX25519Identity()
  const recipient = await identityToRecipient(identity)
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Zoo' }, backup: { recipients: [recipient] } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
  })
  await makeZoo(source.db)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function schemaOf(url: string): Promise<string> {
  const signal = new AbortController().signal
  const [sql = ''] = await runPgDump({ databaseUrl: url, runs: [['--schema-only', '--restrict-key=same']], signal })
  return sql
}

async function withTarget<T>(work: (target: TestDatabase) => Promise<T>): Promise<T> {
  const target = await createTestDatabase({ template: 'template0' })
  try {
    return await work(target)
  } finally {
    await target.drop()
  }
}

describe('a database with one of every kind of object', () => {
  test('comes back equal: schema, rows, sequences, large objects', async () => {
    const report = await backupDatabase(ctx)
    expect(report).toMatchObject({ encrypted: true, store: expect.stringContaining('file://') })
    expect(report.rows).toBeGreaterThan(3_000)

    await withTarget(async (target) => {
      const restored = await restoreBackup(ctx, { id: report.id, identity, targetUrl: target.url })
      expect(restored.rows).toBe(report.rows)
      expect(restored.skipped).toEqual([])
      expect(restored.tables.every((table) => table.verified)).toBe(true)
      expect(await schemaOf(target.url)).toBe(await schemaOf(source.url))
      const state = 'select last_value::text, is_called from zoo.lonely union all select last_value::text, is_called from zoo.untouched'
      expect(await target.db.query(state)).toEqual(await source.db.query(state))
      const objects =
        "select oid::text, md5(lo_get(oid)), pg_get_userbyid(lomowner), lomacl::text, obj_description(oid, 'pg_largeobject') from pg_largeobject_metadata order by oid"
      expect(await target.db.query(objects)).toEqual(await source.db.query(objects))
      expect(await target.db.query('select n from zoo.counted')).toEqual([{ n: '2000' }])
      expect(await target.db.query("select relispopulated from pg_class where relname = 'never_filled'")).toEqual([
        { relispopulated: false },
      ])
    })
  })

  test('verifies with and without the identity, and is listed', async () => {
    const [newest] = await listBackups(ctx)
    expect(newest).toMatchObject({ app: 'Zoo', encrypted: true })
    expect(await verifyBackup(ctx, { id: 'latest' })).toMatchObject({ id: newest?.id, checked: 'stored' })
    expect(await verifyBackup(ctx, { id: newest?.id.slice(0, 20) ?? '', identity })).toMatchObject({ id: newest?.id, checked: 'content' })
  })

  test('is not opened by another identity, nor without one, and nothing is written', async () => {
    await withTarget(async (target) => {
      const attempt = (with_: string | undefined) =>
        restoreBackup(ctx, { id: 'latest', identity: with_, targetUrl: target.url }).catch((error: unknown) => error)
      expect(hasCode(await attempt(await generateX25519Identity()), 'backup_identity')).toBe(true)
      expect(hasCode(await attempt(undefined), 'backup_identity')).toBe(true)
      expect(await target.db.query("select 1 from pg_namespace where nspname = 'zoo'")).toEqual([])
    })
  })

  test('is not restored over what is there', async () => {
    const refused = await restoreBackup(ctx, { id: 'latest', identity, targetUrl: source.url }).catch((error: unknown) => error)
    expect(hasCode(refused, 'restore_target_not_empty')).toBe(true)
  })
})

describe('the policy', () => {
  test('without a recipient a backup is refused', async () => {
    const refused = await backupDatabase({ ...ctx, config: defineConfig({ app: { name: 'Zoo' } }) }).catch((error: unknown) => error)
    expect(hasCode(refused, 'not_configured')).toBe(true)
  })

  test('encryption "none" and schemas to leave out are choices that can be made, and the report says so', async () => {
    const small = await createTestDatabase({ template: 'template0' })
    try {
      await small.db.execute(
        'create schema scratch; create table scratch.t (a int); create table kept (a int); insert into kept values (1), (2); create extension hstore schema scratch',
      )
      const plain = {
        ...ctx,
        db: small.db,
        config: defineConfig({ app: { name: 'Zoo' }, backup: { encryption: 'none', excludeSchemas: ['scratch'] } }),
      }
      const report = await backupDatabase(plain)
      expect(report).toMatchObject({ encrypted: false, tables: 1 })
      expect(report.leftOut.map((left) => left.what)).toEqual(expect.arrayContaining(['schema scratch', 'extension hstore']))
      await withTarget(async (target) => {
        const restored = await restoreBackup(plain, { id: report.id, targetUrl: target.url })
        expect(restored.tables).toEqual([{ table: 'public.kept', rows: 2, verified: true }])
      })
    } finally {
      await small.drop()
    }
  })
})
