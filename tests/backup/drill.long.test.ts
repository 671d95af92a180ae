import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { drillRecipient } from '../../lib/backup/drill/identity.ts'
import { backupDatabase, backupVerifyJob, drillBackup, listBackups, pruneBackups } from '../../lib/backup/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../support/database.ts'
import { makeZoo } from './zoo.ts'

describe('a drill', () => {
  const source = useTestDatabase({ template: 'template0' })
  let scratch: TestDatabase
  let folder: string
  let ctx: Context
  let identity: string
  let recipient: string

  beforeAll(async () => {
    scratch = await createTestDatabase({ template: 'template0' })
    folder = await mkdtemp(join(tmpdir(), 'caretaker-drill-'))
    identity = await generateX25519Identity()
    recipient = await identityToRecipient(identity)
    const base = testContext(source.db)
    ctx = {
      ...base,
      env: { ...base.env, DRILL_DATABASE_URL: scratch.url },
      config: defineConfig({
        app: { name: 'Drill' },
        backup: {
          recipients: [recipient],
          drill: {
            assertions: {
              'parents are there': 'select count(*) = 2000 from zoo.parents',
              'asked with the search path of the database': 'select count(*) = 2000 from parents',
            },
          },
        },
      }),
      objects: () => openObjectStore(`file://${folder}`, base.env),
    }
    await makeZoo(source.db)
    await source.db.execute(
      `alter database ${source.name} set search_path = zoo, public; alter database ${source.name} set statement_timeout = '1h'`,
    )
  })
  afterAll(async () => {
    await scratch.drop()
    await rm(folder, { recursive: true, force: true })
  })

  const codeOf = async (attempt: Promise<unknown>) =>
    attempt.then(
      () => 'done',
      (error: unknown) => (error as { code?: string }).code,
    )
  const relations = (database: TestDatabase) =>
    database.db.query(
      "select relname from pg_class c join pg_namespace n on n.oid = relnamespace where nspname in ('zoo', 'public') and relkind = 'r'",
    )

  test('proves the newest backup without a person, says what would be lost, and leaves nothing behind', async () => {
    const backup = await backupDatabase(ctx)
    const report = await drillBackup(ctx)
    expect(report).toMatchObject({
      id: backup.id,
      proven: true,
      schemaEqual: true,
      rows: backup.rows,
      assertions: [
        { name: 'parents are there', holds: true },
        { name: 'asked with the search path of the database', holds: true },
      ],
    })
    expect(report.rpoMs).toBeGreaterThan(0)
    expect(report.rtoMs).toBeGreaterThan(0)
    expect(await relations(scratch)).toEqual([])
    expect((await listBackups(ctx))[0]).toMatchObject({ id: backup.id, proven: { proven: true, at: report.at } })
  })

  test('the identity is gone after it: only a person can drill that backup again', async () => {
    const [proven] = await listBackups(ctx)
    expect(await codeOf(drillBackup(ctx, { id: proven?.id }))).toBe('backup_identity')
    expect(await drillBackup(ctx, { id: proven?.id, identity })).toMatchObject({ proven: true })
  })

  test('the weekly job says that there is no newer backup, instead of failing over the identity that is gone', async () => {
    const [proven] = await listBackups(ctx)
    expect(await backupVerifyJob(ctx, {} as JobRun)).toMatchObject({
      status: 'done',
      result: { id: proven?.id, proven: true, newerBackup: false, provenAt: proven?.proven?.at },
    })
    const { id } = await backupDatabase(ctx)
    expect(await backupVerifyJob(ctx, {} as JobRun)).toMatchObject({ status: 'done', result: { id, proven: true, schemaEqual: true } })
  })

  test('an assertion that does not hold is a drill that fails, and the identity stays for the next', async () => {
    const strict = {
      ...ctx,
      config: defineConfig({
        app: { name: 'Drill' },
        backup: {
          recipients: [recipient],
          drill: { assertions: { 'no parents': 'select count(*) = 0 from zoo.parents', broken: 'select nothing' } },
        },
      }),
    }
    await backupDatabase(strict)
    const report = await drillBackup(strict)
    expect(report).toMatchObject({
      proven: false,
      assertions: [
        { name: 'no parents', holds: false },
        { name: 'broken', holds: false },
      ],
    })
    expect((await listBackups(ctx))[0]).toMatchObject({ proven: { proven: false } })
    expect(await drillBackup(ctx)).toMatchObject({ proven: true })
  })

  test('never runs over the live database, nor over one that is somebody’s', async () => {
    await backupDatabase(ctx)
    const alias = source.url.replace('127.0.0.1', 'localhost')
    expect(await codeOf(drillBackup(ctx, { scratchUrl: alias }))).toBe('invalid_input')
    const other = await createTestDatabase({ template: 'template0' })
    try {
      await other.db.execute('create table precious (a int); insert into precious values (1)')
      expect(await codeOf(drillBackup(ctx, { scratchUrl: other.url }))).toBe('restore_target_not_empty')
      expect(await other.db.query('select a from precious')).toEqual([{ a: 1 }])
    } finally {
      await other.drop()
    }
    expect(await relations(source)).not.toEqual([])
  })

  test('what a killed drill has left is emptied by the next', async () => {
    await scratch.db.execute('create schema auth; create table auth.users (a int)')
    expect(await drillBackup(ctx)).toMatchObject({ proven: true })
    expect(await scratch.db.query("select from pg_namespace where nspname = 'auth'")).toEqual([])
  })

  test('the server gets no identity where the policy forbids it, or its key is another', async () => {
    const forbidden = { ...ctx, config: defineConfig({ app: { name: 'Drill' }, backup: { recipients: [recipient], drill: false } }) }
    const { id } = await backupDatabase(forbidden)
    expect(await codeOf(drillBackup(ctx, { id }))).toBe('backup_identity')
    const next = await backupDatabase(ctx)
    const rotated = { ...ctx, env: { ...ctx.env, ENCRYPTION_KEY: 'ab'.repeat(32) } }
    expect(await codeOf(drillBackup(rotated, { id: next.id }))).toBe('backup_untrusted')
    expect(await codeOf(drillBackup(rotated, { id: next.id, trustUnsigned: true }))).toBe('backup_identity')
  })

  test('a recipient that somebody put beside the sealed identity is not encrypted to', async () => {
    const store = await ctx.objects()
    const stranger = await identityToRecipient(await generateX25519Identity())
    const own = await drillRecipient(ctx, store, 'swap')
    const stored = JSON.parse(Buffer.concat((await (await store.get('drills/swap/identity.json'))?.toArray()) ?? []).toString()) as object
    await store.put('drills/swap/identity.json', Buffer.from(JSON.stringify({ ...stored, recipient: stranger })))
    expect(await drillRecipient(ctx, store, 'swap')).toBe(own)
    await store.delete('drills/swap/identity.json')
  })

  test('only the newest backup keeps its drill identity, and a deleted one keeps nothing', async () => {
    const first = await backupDatabase(ctx)
    const second = await backupDatabase(ctx)
    await pruneBackups(ctx)
    expect(await codeOf(drillBackup(ctx, { id: first.id }))).toBe('backup_identity')
    const one = { ...ctx, config: defineConfig({ app: { name: 'Drill' }, backup: { recipients: [recipient], keep: { daily: 1 } } }) }
    await pruneBackups(one)
    const store = await ctx.objects()
    const ids = new Set<string>()
    for await (const object of store.list('drills/')) ids.add(object.key.split('/')[1] ?? '')
    expect([...ids]).toEqual([second.id])
  })
})
