import { execFile, spawnSync } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { promisify } from 'node:util'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backupDatabase, exportBackup, restoreBackup } from '../../lib/backup/index.ts'
import { readManifest } from '../../lib/backup/manifest.ts'
import { runPgDump } from '../../lib/backup/pg-dump/run-pg-dump.ts'
import { textOf } from '../../lib/backup/restore/restore-all.ts'
import { openBackup } from '../../lib/backup/verify-backup.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'
import { makeZoo } from './zoo.ts'

const source = useTestDatabase({ template: 'template0' })
let folder: string
let identity: string
let ctx: Context
let id: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-choices-'))
  identity = await generateX25519Identity()
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Zoo' }, backup: { recipients: [await identityToRecipient(identity)] } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
  })
  await makeZoo(source.db)
  id = (await backupDatabase(ctx)).id
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const schema = async (url: string) =>
  (await runPgDump({ databaseUrl: url, runs: [['--schema-only', '--restrict-key=same']], signal: ctx.signal }))[0]
const codeOf = async (attempt: Promise<unknown>) =>
  attempt.then(
    () => 'done',
    (error: unknown) => (error as { code?: string }).code,
  )

describe('--clean', () => {
  test('empties the database of that name first, and of no other', async () => {
    const target = await createTestDatabase({ template: 'template0' })
    try {
      await makeZoo(target.db)
      await target.db.execute('create table public.in_the_way (a int); create table zoo.also (a int); select lo_create(99)')
      expect(await codeOf(restoreBackup(ctx, { id, identity, targetUrl: target.url }))).toBe('restore_target_not_empty')
      expect(await codeOf(restoreBackup(ctx, { id, identity, targetUrl: target.url, clean: 'another' }))).toBe('restore_target_not_empty')
      expect(await target.db.query('select count(*)::int from public.in_the_way')).toEqual([{ count: 0 }])
      const report = await restoreBackup(ctx, { id, identity, targetUrl: target.url, clean: target.name })
      expect(report.skipped).toEqual([])
      expect(await schema(target.url)).toBe(await schema(source.url))
    } finally {
      await target.drop()
    }
  })

  test('deletes nothing for a backup that is damaged or cannot be opened', async () => {
    const target = await createTestDatabase({ template: 'template0' })
    try {
      await target.db.execute('create table precious (a int)')
      const stranger = await generateX25519Identity()
      expect(await codeOf(restoreBackup(ctx, { id, identity: stranger, targetUrl: target.url, clean: target.name }))).toBe(
        'backup_identity',
      )
      expect(await target.db.query('select count(*)::int from precious')).toEqual([{ count: 0 }])
    } finally {
      await target.drop()
    }
  })
})

describe('--only', () => {
  test('brings rows back into tables that are empty, and fires no trigger for them', async () => {
    const target = await createTestDatabase({ template: 'template0' })
    try {
      await restoreBackup(ctx, { id, identity, targetUrl: target.url })
      await target.db.execute('truncate zoo.parents, zoo.children, zoo.measurements restart identity')
      // A partitioned table stands for its partitions, and for theirs.
      const only = ['"zoo"."children"', 'zoo.parents', 'zoo.measurements']
      const report = await restoreBackup(ctx, { id, identity, targetUrl: target.url, only })
      const names = report.tables.map((table) => table.table)
      expect(names.indexOf('zoo.parents')).toBeLessThan(names.indexOf('zoo.children'))
      expect(names.toSorted()).toEqual(
        ['children', 'measurements_2025', 'measurements_2026_0', 'measurements_2026_1', 'measurements_rest', 'parents'].map(
          (name) => `zoo.${name}`,
        ),
      )
      const state = `select (select sum(hashtextextended(t::text, 0)) from zoo.measurements t) as measurements, (select sum(hashtextextended(t::text, 0)) from zoo.parents t) as parents, (select sum(hashtextextended(t::text, 0)) from zoo.children t) as children,
        (select last_value from zoo.children_id_seq) as children_at, (select last_value from zoo.parents_id_seq) as parents_at`
      expect(await target.db.query(state)).toEqual(await source.db.query(state))
      expect(await schema(target.url)).toBe(await schema(source.url))
    } finally {
      await target.drop()
    }
  })

  test('goes on with --resume where it was stopped, and a backup made meanwhile knows nothing of it', async () => {
    const target = await createTestDatabase({ template: 'template0' })
    try {
      await restoreBackup(ctx, { id, identity, targetUrl: target.url })
      await target.db.execute('truncate zoo.parents, zoo.children restart identity')
      const only = ['zoo.children', 'zoo.parents']
      const stopping = new AbortController()
      const restore = (input: object, context = ctx) => restoreBackup(context, { id, identity, targetUrl: target.url, only, ...input })
      const broken = restore(
        { onProgress: ({ what }: { what: string }) => what === 'zoo.children' && stopping.abort(new Error('stopped')) },
        { ...ctx, signal: stopping.signal },
      )
      await expect(broken).rejects.toMatchObject({
        detail: expect.stringContaining(
          `Go on with \`caretaker backup restore ${id} --only zoo.children --only zoo.parents --to URL --resume\``,
        ),
      })
      const meanwhile = await backupDatabase({ ...ctx, db: target.db })
      const { manifest } = await readManifest(await ctx.objects(), meanwhile.id)
      expect(manifest.tables.some((table) => table.schema.startsWith('caretaker'))).toBe(false)
      const schemaSql = await textOf(openBackup(ctx, await ctx.objects(), manifest, identity), manifest, 'pre-data')
      expect(schemaSql).not.toContain('caretaker_restore')
      expect(await codeOf(restore({ resume: true, only: ['zoo.parents'] }))).toBe('restore_target_not_empty')
      // What the app does meanwhile with what is there is its own.
      await target.db.execute(`insert into zoo.parents (code) values ('of the app')`)
      const report = await restore({ resume: true })
      expect(report).toMatchObject({ runs: 2, tables: [{ table: 'zoo.parents' }, { table: 'zoo.children' }] })
      const children = 'select count(*)::int, sum(hashtextextended(t::text, 0)) from zoo.children t'
      expect(await target.db.query(children)).toEqual(await source.db.query(children))
      expect(await target.db.query(`select nspname from pg_namespace where nspname like 'caretaker%'`)).toEqual([])
      // With nothing to go on with it begins; and what is there is never touched.
      expect(await codeOf(restore({ resume: true }))).toBe('restore_target_not_empty')
    } finally {
      await target.drop()
    }
  })

  test('refuses a table that has rows, that is missing, or that the backup does not have', async () => {
    expect(await codeOf(restoreBackup(ctx, { id, identity, targetUrl: source.url, only: ['zoo.parents'] }))).toBe(
      'restore_target_not_empty',
    )
    const unknown = restoreBackup(ctx, { id, identity, targetUrl: source.url, only: ['children'] })
    await expect(unknown).rejects.toMatchObject({ code: 'not_found', detail: expect.stringContaining('Did you mean zoo.children?') })
    const target = await createTestDatabase({ template: 'template0' })
    try {
      const missing = await restoreBackup(ctx, { id, identity, targetUrl: target.url, only: ['zoo.parents'] }).catch(
        (error: unknown) => error,
      )
      expect(missing).toMatchObject({ code: 'not_found', detail: expect.stringContaining(`pg_dump --table='"zoo"."parents"'`) })
    } finally {
      await target.drop()
    }
  })
})

test('an export that cannot be written says so', async () => {
  const full = new Writable({ highWaterMark: 1, write: (_chunk, _encoding, done) => done(new Error('no space left')) })
  await expect(exportBackup(ctx, { id, identity, to: full })).rejects.toThrow('no space left')
})

describe.skipIf(spawnSync('psql', ['--version']).status !== 0)('export', () => {
  test('makes one plain script that psql loads', async () => {
    const file = join(folder, 'one.sql')
    const report = await exportBackup(ctx, { id, identity, to: createWriteStream(file) })
    expect(report.bytes).toBe((await readFile(file)).length)
    // Servers before PostgreSQL 17 refuse it.
    expect(await readFile(file, 'utf8')).not.toMatch(/^set transaction_timeout/im)
    const target = await createTestDatabase({ template: 'template0' })
    try {
      await promisify(execFile)('psql', ['-Xqd', target.url, '-v', 'ON_ERROR_STOP=1', '-f', file])
      expect(await schema(target.url)).toBe(await schema(source.url))
      const state = `select (select sum(hashtextextended(t::text, 0)) from zoo.parents t) as parents, (select md5(lo_get(424243))) as big, (select last_value from zoo.lonely) as lonely`
      expect(await target.db.query(state)).toEqual(await source.db.query(state))
    } finally {
      await target.drop()
    }
  })
})
