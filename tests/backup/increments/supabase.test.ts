import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { backupDatabase, restoreAt, stopIncrements, takeIncrement } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import { useOwnServer } from '../../support/own-server.ts'
import { asProjectRole, makeProject } from '../project.ts'

useOwnServer()

let source: TestDatabase
let folder: string
let ctx: Context

async function project(): Promise<TestDatabase> {
  const made = await createTestDatabase({ template: 'template0' })
  await makeProject(made.db, made.name)
  return made
}

beforeAll(async () => {
  source = await project()
  // As in a project.
  await source.db.execute('alter role sb_postgres replication')
  const db = openDatabase({ sessionUrl: asProjectRole(source.url) })
  await db.execute(await readFile(new URL('../supabase-app.sql', import.meta.url), 'utf8'))
  folder = await mkdtemp(join(tmpdir(), 'caretaker-increments-project-'))
  ctx = testContext(db, {
    config: defineConfig({ app: { name: 'Project' }, backup: { encryption: 'none', increments: {} } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
  })
})
afterAll(async () => {
  await stopIncrements(ctx)
  await ctx.db.close()
  await source.drop()
  await rm(folder, { recursive: true, force: true })
})

test('people who signed up within the hour come back, with what a trigger made for them, and without their sessions', async () => {
  await takeIncrement(ctx)
  await backupDatabase(ctx)
  await source.db.execute(`
    insert into auth.users (id, email, raw_user_meta_data) values (md5('new')::uuid, 'new@example.com', '{"name": "New"}');
    insert into auth.sessions values (gen_random_uuid(), md5('new')::uuid, 'aal1');
    insert into auth.refresh_tokens (token) values ('a-secret-token');
    insert into storage.objects (bucket_id, name, owner_id) values ('avatars', 'new.png', md5('new'));
    insert into private.notes (user_id, body) values (md5('new')::uuid, 'note');
    update public.profiles set settings = 'a=>1'::extensions.hstore where id = md5('7')::uuid;
    delete from private.notes where user_id = md5('3')::uuid`)
  expect(await takeIncrement(ctx)).toMatchObject({ status: 'stored', fullNeeded: null, gaps: [] })
  const [stream = ''] = await readdir(join(folder, 'increments'))
  const changes = (await readdir(join(folder, 'increments', stream))).filter((name) => name.endsWith('.zst'))
  const text = zstdDecompressSync(await readFile(join(folder, 'increments', stream, changes[0] ?? ''))).toString()
  expect(text).toContain('new@example.com')
  expect(text).not.toMatch(/a-secret-token|auth\.sessions/)

  const target = await project()
  try {
    const restore = () => restoreAt(ctx, { at: 'latest', targetUrl: asProjectRole(target.url) })
    const refused = await restore().catch((error: unknown) => error)
    expect(hasCode(refused, 'forbidden') && refused.detail).toMatch(
      /may neither set session_replication_role nor disable.*Nothing was restored/,
    )
    expect(await target.db.query('select from auth.users')).toEqual([])
  } finally {
    await target.drop()
  }

  // Supabase lets its role set it.
  await source.db.execute('grant set on parameter session_replication_role to sb_postgres')
  const second = await project()
  try {
    const report = await restoreAt(ctx, { at: 'latest', targetUrl: asProjectRole(second.url) })
    expect(report).toMatchObject({ stilled: 'session_replication_role', asOfBase: [], problems: [] })
    const state = ['auth.users', 'auth.identities', 'storage.objects', 'public.profiles', 'private.notes']
      .map((table) => `(select count(*) || ':' || sum(hashtextextended(t::text, 0)) from ${table} t)`)
      .join(', ')
    expect(await second.db.query(`select concat_ws(' ', ${state}) as state`)).toEqual(
      await source.db.query(`select concat_ws(' ', ${state}) as state`),
    )
    expect(await second.db.query('select count(*)::int as count from auth.sessions')).toEqual([{ count: 0 }])
  } finally {
    await source.db.execute('revoke set on parameter session_replication_role from sb_postgres')
    await second.drop()
  }
})
