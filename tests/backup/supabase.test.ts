import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backupDatabase, restoreBackup } from '../../lib/backup/index.ts'
import { runPgDump } from '../../lib/backup/pg-dump/run-pg-dump.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { CaretakerError, hasCode } from '../../lib/platform/errors.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { asProjectRole, makeProject } from './project.ts'
import { schemaOf } from './state.ts'

async function project(): Promise<TestDatabase> {
  const made = await createTestDatabase({ template: 'template0' })
  await makeProject(made.db, made.name)
  return made
}

describe('a Supabase project, read and restored by a role that is no superuser', () => {
  let source: TestDatabase
  let folder: string
  let ctx: Context
  let id: string

  beforeAll(async () => {
    source = await project()
    const db = openDatabase({ sessionUrl: asProjectRole(source.url) })
    await db.execute(await readFile(new URL('./supabase-app.sql', import.meta.url), 'utf8'))
    folder = await mkdtemp(join(tmpdir(), 'caretaker-supabase-'))
    ctx = testContext(db, {
      config: defineConfig({ app: { name: 'Project' }, backup: { encryption: 'none' } }),
      objects: () => openObjectStore(`file://${folder}`, ctx.env),
    })
  })
  afterAll(async () => {
    await ctx.db.close()
    await source.drop()
    await rm(folder, { recursive: true, force: true })
  })

  test("is backed up with what is the app's, and says what it leaves to the platform", async () => {
    const report = await backupDatabase(ctx)
    id = report.id
    const left = report.leftOut.map((one) => one.what)
    expect(left).toEqual(
      expect.arrayContaining([
        'schema vault',
        'rows of auth.sessions',
        'rows of auth.refresh_tokens',
        'rows of auth.schema_migrations',
        'rows of storage.migrations',
      ]),
    )
    expect(report.rows).toBe(300 * 4 + 1 + 50)
  })

  test('comes back in a fresh project: schema equal, rows equal, triggers and policies on auth and storage too', async () => {
    const target = await project()
    try {
      const report = await restoreBackup(ctx, { id, targetUrl: asProjectRole(target.url) })
      const schema = async (url: string) =>
        (await runPgDump({ databaseUrl: url, runs: [['--schema-only', '--restrict-key=same']], signal: ctx.signal }))[0]
      expect(await schema(target.url)).toBe(await schema(source.url))
      const state = `select
        (select sum(hashtextextended(t::text, 0)) from auth.users t) as users, (select sum(hashtextextended(t::text, 0)) from auth.identities t) as identities,
        (select sum(hashtextextended(t::text, 0)) from storage.objects t) as objects, (select sum(hashtextextended(t::text, 0)) from public.profiles t) as profiles,
        (select sum(hashtextextended(t::text, 0)) from private.notes t) as notes, (select count(*) from auth.schema_migrations) as migrations`
      expect(await target.db.query(state)).toEqual(await source.db.query(state))
      expect(await target.db.query('select count(*)::int from auth.sessions')).toEqual([{ count: 0 }])
      expect(report.skipped).toEqual([])
      await target.db.execute(
        `insert into auth.users (id, email, raw_user_meta_data) values (gen_random_uuid(), 'new@example.com', '{"name": "New"}')`,
      )
      expect(await target.db.query(`select nickname from public.profiles where nickname = 'New'`)).toHaveLength(1)
    } finally {
      await target.drop()
    }
  })

  test('opens there early, sign-in first, and goes on when it was broken off', async () => {
    const target = await project()
    const open: string[] = []
    const stop = new AbortController()
    const restore = (signal: AbortSignal, seen: (groups: string) => void) =>
      restoreBackup(
        { ...ctx, signal },
        {
          id,
          targetUrl: asProjectRole(target.url),
          resume: true,
          openEarly: () => Promise.resolve(null),
          onProgress: ({ phase, what }) => (phase === 'open' ? seen(what) : undefined),
        },
      )
    try {
      const broken = restore(stop.signal, () => stop.abort(new CaretakerError('timeout', 'Stopped.')))
      await expect(broken).rejects.toThrow(/Stopped\. The target is not whole: .* Go on with --resume\./)
      const report = await restore(ctx.signal, (groups) => open.push(groups))
      expect(report).toMatchObject({ notEarly: null, skipped: [], runs: 2 })
      expect(open).toEqual(['authentication, core', 'authentication, core, the rest'])
      expect(await schemaOf(target.url)).toBe(await schemaOf(source.url))
    } finally {
      await target.drop()
    }
  })

  test('is not restored into a project that has users', async () => {
    const target = await project()
    try {
      await target.db.execute(`insert into auth.users (id, email) values (gen_random_uuid(), 'somebody@example.com')`)
      const refused = await restoreBackup(ctx, { id, targetUrl: asProjectRole(target.url) }).catch((error: unknown) => error)
      expect(hasCode(refused, 'restore_target_not_empty')).toBe(true)
    } finally {
      await target.drop()
    }
  })

  test('comes back in a plain database, schemas of the platform and all', async () => {
    const target = await createTestDatabase({ template: 'template0' })
    try {
      const report = await restoreBackup(ctx, { id, targetUrl: target.url })
      expect(report.skipped).toEqual([])
      const owner = `select r.rolname from pg_class c join pg_roles r on r.oid = c.relowner where c.oid = 'auth.users'::regclass`
      expect(await target.db.query(owner)).toEqual([{ rolname: 'supabase_auth_admin' }])
      expect(await target.db.query('select count(*)::int from public.profiles')).toEqual([{ count: 300 }])
    } finally {
      await target.drop()
    }
  })
})
