import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { backupDatabase, listBackups } from '../../lib/backup/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { ObjectStore } from '../../lib/platform/objects.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../support/database.ts'

/*
 * What a person is told when a backup fails: which table, how far, why, and what to do. Where the message names a statement, the test
 * runs it, and the next backup has to work.
 */

const source = useTestDatabase({ template: 'template0' })
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-failures-'))
  await source.db.execute(`create schema app; create table app.notes as select n, md5(n::text) from generate_series(1, 40000) n;
    create table app.other (id int); create schema more; create table more.things (id serial)`)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

function contextOf(database: Pick<TestDatabase, 'db'>, objects?: () => Promise<ObjectStore>): Context {
  const ctx: Context = testContext(database.db, {
    config: defineConfig({ app: { name: 'Failures' }, backup: { encryption: 'none', connections: 1 } }),
    objects: objects ?? (() => openObjectStore(`file://${folder}`, ctx.env)),
  })
  return ctx
}

async function detailOf(work: Promise<unknown>, code = 'backup_incomplete'): Promise<string> {
  const error = await work.then(
    () => new Error('it did not fail'),
    (cause: unknown) => cause,
  )
  if (!(error instanceof CaretakerError)) throw error
  expect(error.code).toBe(code)
  return error.detail
}

/** The folder as store, where something happens before each object of rows is written. */
function storeAfter(before: () => Promise<void>): () => Promise<ObjectStore> {
  return async () => {
    const store = await openObjectStore(`file://${folder}`, contextOf(source).env)
    return {
      ...store,
      async put(key, body, options) {
        if (key.includes('/data/')) await before()
        return store.put(key, body, options)
      },
    }
  }
}

describe('a role that is no superuser', () => {
  let database: TestDatabase
  let role: string
  let ctx: Context

  beforeEach(async () => {
    database = await createTestDatabase({ template: 'template0' })
    role = `reader_${randomBytes(4).toString('hex')}`
    await database.db.execute(`create role ${role} login; create schema app; create table app.notes (id serial); insert into app.notes values (1);
      create table app.other (id int); create table public.open (id int); grant select on public.open to ${role}`)
    const url = new URL(database.url)
    url.username = role
    const db = openDatabase({ sessionUrl: url.toString(), maxConnections: 2 })
    ctx = contextOf({ db })
    return async () => {
      await db.close()
      await database.db.execute(`drop owned by ${role}; drop role ${role}`)
      await database.drop()
    }
  })

  test('may not read tables: it is told which, and the grants that are missing are the right ones', async () => {
    const detail = await detailOf(backupDatabase(ctx))
    expect(detail).toMatch(new RegExp(`^The role "${role}" may not read app\\.notes, app\\.other\\. As their owner: `))
    const grants = /As their owner: (.*)\. Or leave schemas out with backup\.excludeSchemas\.$/.exec(detail)?.[1] ?? ''
    await database.db.execute(grants)
    expect(await backupDatabase(ctx)).toMatchObject({ rows: 1 })
  })

  test('is kept from rows by row-level security: the table is named, and what it takes', async () => {
    await database.db.execute(`grant usage on schema app to ${role}; grant select on all tables in schema app to ${role};
      grant select on all sequences in schema app to ${role}; alter table app.notes enable row level security`)
    const detail = await detailOf(backupDatabase(ctx))
    expect(detail).toMatch(/^Table app\.notes failed after 0 bytes: .*row-level security policy for table "notes"\. .*BYPASSRLS/)
    await database.db.execute(`alter role ${role} bypassrls`)
    expect(await backupDatabase(ctx)).toMatchObject({ rows: 1 })
  })

  test('may not read a sequence or a large object: it is named', async () => {
    await database.db.execute(`grant usage on schema app to ${role}; grant select on all tables in schema app to ${role}`)
    expect(await detailOf(backupDatabase(ctx))).toMatch(/permission denied for sequence notes_id_seq\b.*\. Grant the role/)
    await database.db.execute(`grant select on all sequences in schema app to ${role}; select lo_from_bytea(4711, 'x')`)
    expect(await detailOf(backupDatabase(ctx))).toMatch(
      /^Dumping the large objects failed after 0 bytes: permission denied for large object 4711\. Grant the role/,
    )
  })
})

describe('a table that somebody else has locked', () => {
  test('is named, with who holds it and since when', async () => {
    await source.db.session(async (other) => {
      await other.execute(`set application_name = 'a migration'; begin; lock table app.other in access exclusive mode`)
      const [{ pid } = { pid: 0 }] = await other.query<{ pid: number }>('select pg_backend_pid() as pid')
      expect(await detailOf(backupDatabase(contextOf(source), { lockTimeoutMs: 250 }))).toBe(
        `A table stayed locked for 0.25 s by another session: app.other (by process ${pid}, a migration, for 0 min). Try again when its work is done, or end it: select pg_terminate_backend(${pid}).`,
      )
      await other.execute('rollback')
    })
  })

  test('by one who waits for the lock himself: it is said behind whom', async () => {
    const reader = openDatabase({ sessionUrl: source.url, maxConnections: 1 })
    const waiter = openDatabase({ sessionUrl: source.url, maxConnections: 1 })
    await reader.session(async (long) => {
      await long.execute('begin; select from app.other')
      const [{ pid } = { pid: 0 }] = await long.query<{ pid: number }>('select pg_backend_pid() as pid')
      const migration = waiter.execute('truncate app.other')
      while ((await source.db.query(`select from pg_locks where not granted and relation = 'app.other'::regclass`)).length === 0);
      expect(await detailOf(backupDatabase(contextOf(source), { lockTimeoutMs: 250 }))).toMatch(
        new RegExp(`app\\.other \\(process \\d+, caretaker, for 0 min, which waits for process ${pid} itself\\)`),
      )
      await long.execute('rollback')
      await migration
    })
    await reader.close()
    await waiter.close()
  })
})

test('a statement that somebody cancels: the table, the bytes, and that it can be run again', async () => {
  const ctx = contextOf(
    source,
    storeAfter(async () => {
      while (
        (
          await source.db.query(
            `select pg_cancel_backend(pid) from pg_stat_activity where datname = current_database() and query like 'copy%notes%'`,
          )
        ).length === 0
      );
    }),
  )
  // More than the sockets hold: the COPY is under way when it is canceled.
  await source.db.execute(`create table app.wide as select repeat(md5(n::text), 40) as notes from generate_series(1, 30000) n`)
  try {
    expect(await detailOf(backupDatabase(ctx))).toMatch(
      /^Table app\.\w+ failed after \d+ bytes: canceling statement due to user request\. Somebody canceled .* Run the backup again\.$/,
    )
  } finally {
    await source.db.execute('drop table app.wide')
  }
  expect((await listBackups(contextOf(source))).filter((backup) => backup.database === source.name)).toEqual([])
})

test.each([
  ['The folder could not write the object: permission is denied (EACCES).', /Let this user write there, or give another store/],
  ['The folder could not write the object: no space is left on the disk (ENOSPC).', /Free space there, or give another store/],
  ['The object store answered PutObject with 503 SlowDown.', /Run the backup again when the store takes objects/],
])('a store that says "%s": the table, and what to do', async (said, advice) => {
  const ctx = contextOf(
    source,
    storeAfter(() => Promise.reject(new CaretakerError('object_store_failed', said))),
  )
  const detail = await detailOf(backupDatabase(ctx), 'object_store_failed')
  expect(detail).toMatch(/^Table (app|more)\.\w+ failed after \d+ bytes: /)
  expect(detail).toContain(said)
  expect(detail).toMatch(advice)
})
