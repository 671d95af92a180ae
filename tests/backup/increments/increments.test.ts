import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { backupDatabase, pruneIncrements, restoreAt, stopIncrements, takeIncrement } from '../../../lib/backup/index.ts'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { CaretakerError, hasCode } from '../../../lib/platform/errors.ts'
import type { ObjectStore } from '../../../lib/platform/objects.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import { serverUrl, useOwnServer } from '../../support/own-server.ts'
import { timeOf } from './workload.ts'

useOwnServer()

let source: TestDatabase
let folder: string
let ctx: Context

beforeEach(async () => {
  source = await createTestDatabase({ template: 'template0' })
  folder = await mkdtemp(join(tmpdir(), 'caretaker-increments-'))
  ctx = contextOf({})
  await source.db.execute('create table t (id int primary key, body text)')
})
afterEach(async () => {
  await stopIncrements({ ...ctx, objects: () => openObjectStore(`file://${folder}`, ctx.env) })
  await source.drop()
  await rm(folder, { recursive: true, force: true })
})

function contextOf(increments: NonNullable<NonNullable<PolicyInput['backup']>['increments']>, db = source.db): Context {
  const made: Context = testContext(db, {
    config: defineConfig({ app: { name: 'Small' }, backup: { encryption: 'none', increments } }),
    objects: () => openObjectStore(`file://${folder}`, made.env),
  })
  return made
}

const slots = () =>
  source.db.query<{ name: string }>(`select slot_name::text as name from pg_replication_slots where database = current_database()`)
const rows = (target: TestDatabase, sql = 'select id, body from t order by id') => target.db.query(sql)
const refusalOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof CaretakerError ? error : String(error)),
  )

async function restored<T>(
  at: string,
  use: (target: TestDatabase, report: Awaited<ReturnType<typeof restoreAt>>) => Promise<T>,
): Promise<T> {
  const target = await createTestDatabase({ template: 'template0' })
  try {
    return await use(target, await restoreAt(ctx, { at, targetUrl: target.url }))
  } finally {
    await target.drop()
  }
}

test('a transaction that is open while the backup is made is in it or in the increments, never in both or neither', async () => {
  await takeIncrement(ctx)
  await source.db.execute(`insert into t values (1, 'before')`)
  let during = ''
  await source.db.transaction(async (tx) => {
    await tx.execute(`insert into t values (2, 'open'); create table seen (a int); drop table seen; update t set body = body || '!'`)
    await source.db.execute(`insert into t values (3, 'other')`)
    await backupDatabase(ctx)
    during = await timeOf(source.db)
    await tx.execute(`insert into t values (4, 'late')`)
  })
  const report = await takeIncrement(ctx)
  expect(report).toMatchObject({ fullNeeded: null, gaps: [] })
  await restored('latest', async (target, { transactions }) => {
    expect(await rows(target)).toEqual(await rows(source))
    expect(transactions).toBe(1)
  })
  await restored(during, async (target) => expect((await rows(target)).map((row) => row.id)).toEqual([1, 3]))
})

test('a transaction of many rows is one segment, read in pieces', async () => {
  await takeIncrement(ctx)
  await backupDatabase(ctx)
  await source.db.execute(`insert into t select n, md5(n::text) from generate_series(1, 20000) n`)
  await source.db.execute(`update t set id = -id, body = null where id % 2 = 0; delete from t where id % 5 = 0`)
  await source.db.execute(`truncate t; insert into t select n, repeat(md5(n::text), 20) from generate_series(1, 5000) n`)
  const report = await takeIncrement(ctx, { segmentChanges: 100 })
  expect(report.segments.map((segment) => segment.transactions)).toEqual([1, 1, 1, 0])
  await restored('latest', async (target, { changes }) => {
    expect(changes).toBe(20_000 + 10_000 + 4_000 + 5_001)
    expect(await rows(target)).toEqual(await rows(source))
  })
})

describe('what the log does not tell', () => {
  test('updates of a table without a key leave it as the full backup has it, and everybody is told', async () => {
    await source.db.execute('create table log (line text); create table counted (a int); select lo_from_bytea(0, $$x$$)')
    await takeIncrement(ctx)
    await source.db.execute(`insert into log values ('in the backup')`)
    await backupDatabase(ctx)
    await source.db.execute(`insert into log values ('one'); insert into counted values (1)`)
    const only = await timeOf(source.db)
    await source.db.execute(`update log set line = 'changed'; delete from counted; insert into t values (1, 'x')`)
    const report = await takeIncrement(ctx)
    expect(report.gaps).toMatchObject([
      { table: 'public.log', changes: 2 },
      { table: 'public.counted', changes: 1 },
    ])
    expect(report.fullOnly.map((one) => one.what).sort()).toEqual([
      'large objects',
      'updates and deletes of public.counted',
      'updates and deletes of public.log',
    ])
    await restored('latest', async (target, { asOfBase }) => {
      expect(await rows(target, 'select line from log')).toEqual([{ line: 'in the backup' }])
      expect(await rows(target, 'select * from counted')).toEqual([])
      expect(await rows(target)).toEqual([{ id: 1, body: 'x' }])
      expect(asOfBase.map((one) => one.what).sort()).toEqual(['large objects', 'public.counted', 'public.log'])
    })
    // Before the first of them its inserts are all there.
    await restored(only, async (target, { asOfBase }) => {
      expect(await rows(target, 'select line from log order by 1')).toEqual([{ line: 'in the backup' }, { line: 'one' }])
      expect(asOfBase.map((one) => one.what)).toEqual(['large objects'])
    })
  })

  test('a change of the schema asks for a full backup; moments before it can be restored, those behind it are refused', async () => {
    await takeIncrement(ctx)
    await backupDatabase(ctx)
    await source.db.execute(`insert into t values (1, 'old')`)
    const before = await timeOf(source.db)
    await source.db.execute(`create table made (id int primary key); insert into made values (1)`)
    const behind = await timeOf(source.db)
    const report = await takeIncrement(ctx)
    expect(report.fullNeeded).toMatch(/schema is another one/)
    await restored(before, async (target, { problems }) => {
      expect(await rows(target)).toEqual([{ id: 1, body: 'old' }])
      expect(problems).toEqual([expect.stringContaining('The schema changed between')])
    })
    const refused = await refusalOf(restored(behind, () => Promise.resolve()))
    expect(hasCode(refused, 'invalid_input') && refused.detail).toMatch(
      /Rows of public.made, which it does not have.*The newest moment before that is 20/,
    )

    await backupDatabase(ctx)
    await source.db.execute(`insert into made values (2)`)
    expect((await takeIncrement(ctx)).fullNeeded).toBeNull()
    await restored('latest', async (target, { problems }) => {
      expect(await rows(target, 'select id from made')).toEqual([{ id: 1 }, { id: 2 }])
      expect(problems).toEqual([])
    })
  })

  test.each([
    ['a new column', `alter table t add extra int default 5`, /Rows of public.t with a column "extra".*That backup itself can be restored/],
    ['another table under the same name', `create table t2 (like t including all); drop table t; alter table t2 rename to t`, null],
    ['a label of an enum', `create type mood as enum ('a')`, null],
    ['a function', `create function f() returns int language sql return 1`, null],
  ])('%s is a change of the schema', async (_, ddl, refusal) => {
    await takeIncrement(ctx)
    await backupDatabase(ctx)
    expect((await takeIncrement(ctx)).fullNeeded).toBeNull()
    await source.db.execute(ddl)
    await source.db.execute(`insert into t values (7, 'x')`)
    expect((await takeIncrement(ctx)).fullNeeded).toMatch(/schema/)
    if (refusal === null) return
    const target = await createTestDatabase({ template: 'template0' })
    try {
      const refused = await refusalOf(restoreAt(ctx, { at: 'latest', targetUrl: target.url }))
      expect(hasCode(refused, 'invalid_input') && refused.detail).toMatch(refusal)
      expect(await target.db.query(`select from pg_class where relname = 't'`)).toEqual([])
    } finally {
      await target.drop()
    }
  })
})

test('maintenance, grants and statistics are no change of the schema', async () => {
  await source.db.execute('create index by_body on t (body); create materialized view m as select count(*) from t')
  await takeIncrement(ctx)
  await backupDatabase(ctx)
  await source.db.execute('insert into t values (1, null)')
  for (const sql of [
    'reindex table concurrently t',
    'vacuum full t',
    'analyze t',
    'truncate t',
    'refresh materialized view m',
    'grant select on t to public',
    'cluster t using t_pkey',
  ])
    await source.db.execute(sql)
  expect((await takeIncrement(ctx)).fullNeeded).toBeNull()
})

test('a role that owns the database and may replicate needs no more', async () => {
  const role = `replicator_${source.name}`
  await source.db.execute(
    `create role ${role} login replication; alter database ${source.name} owner to ${role}; alter table t owner to ${role}`,
  )
  const db = openDatabase({ sessionUrl: serverUrl().replace('postgres@', `${role}@`).replace('%s', source.name) })
  try {
    const plain = contextOf({}, db)
    await takeIncrement(plain)
    await backupDatabase(plain)
    await db.execute(`insert into t values (1, 'x')`)
    expect(await takeIncrement(plain)).toMatchObject({ status: 'stored', fullNeeded: null, segments: [{ changes: 1 }] })
    await restored('latest', async (target) => expect(await rows(target)).toEqual([{ id: 1, body: 'x' }]))
    await stopIncrements(plain)
  } finally {
    await db.close()
    await source.db.execute(`reassign owned by ${role} to postgres; drop owned by ${role}; drop role ${role}`)
  }
})

describe('where increments are not possible', () => {
  test('a role without REPLICATION is told so, and backs up all the same', async () => {
    const role = `plain_${source.name}`
    await source.db.execute(`create role ${role} login; alter database ${source.name} owner to ${role}; alter table t owner to ${role}`)
    const db = openDatabase({ sessionUrl: serverUrl().replace('postgres@', `${role}@`).replace('%s', source.name) })
    try {
      const plain = contextOf({}, db)
      const report = await takeIncrement(plain)
      expect(report).toMatchObject({ status: 'off', reason: expect.stringMatching(/Grant it: alter role "plain_test_\w+" replication/) })
      expect(await backupDatabase(plain)).toMatchObject({ tables: 1 })
      expect(await slots()).toEqual([])
      expect((await readdir(folder)).sort()).not.toContain('increments')
    } finally {
      await db.close()
      await source.db.execute(`reassign owned by ${role} to postgres; drop role ${role}`)
    }
  })

  test('more log than the policy allows ends them, also when the store is what fails', async () => {
    const strict = contextOf({ maxLag: '1 MB' })
    await takeIncrement(ctx)
    await backupDatabase(ctx)
    await source.db.execute(`insert into t select n, repeat(md5(n::text), 30) from generate_series(1, 4000) n`)
    const down: Context = { ...strict, objects: async () => failingStore(await openObjectStore(`file://${folder}`, ctx.env), /changes/) }
    const report = await takeIncrement(down)
    expect(report.status).toBe('stopped')
    expect(report.reason).toMatch(/more than backup.increments.maxLag allows \(1 MB\).*The store is down/)
    expect(await slots()).toEqual([])
    // The next one begins anew, and says what is missing.
    expect(await takeIncrement(ctx)).toMatchObject({ status: 'stored', fullNeeded: expect.stringContaining('older than the slot') })
  })

  test('a slot that somebody else has read from is given up: its changes are in no increment', async () => {
    await takeIncrement(ctx)
    await source.db.execute(`insert into t values (1, 'lost')`)
    const [slot] = await slots()
    await source.db.execute('checkpoint')
    await source.db.execute('select pg_replication_slot_advance($1, pg_current_wal_flush_lsn())', [slot?.name])
    const refused = await refusalOf(takeIncrement(ctx))
    expect(hasCode(refused, 'conflict') && refused.detail).toMatch(/Somebody else has read/)
    expect(await slots()).toEqual([])
  })

  test('a slot of another store is left alone, and named', async () => {
    await takeIncrement(ctx)
    const other = await mkdtemp(join(tmpdir(), 'caretaker-increments-other-'))
    const elsewhere: Context = { ...ctx, objects: () => openObjectStore(`file://${other}`, ctx.env) }
    try {
      const report = await takeIncrement(elsewhere)
      expect(report.notes.join(' ')).toContain((await slots())[0]?.name)
      expect(await slots()).toHaveLength(2)
      expect((await stopIncrements(elsewhere)).dropped).toHaveLength(1)
    } finally {
      await rm(other, { recursive: true, force: true })
    }
  })
})

/** Fails every put whose key matches. */
function failingStore(store: ObjectStore, keys: RegExp, when: 'before' | 'after' = 'before'): ObjectStore {
  return {
    ...store,
    async put(key, body, options) {
      if (!keys.test(key)) return store.put(key, body, options)
      if (when === 'after') await store.put(key, body, options)
      else if ('destroy' in body) body.destroy()
      throw new CaretakerError('object_store_failed', 'The store is down.')
    },
  }
}

describe('interrupted', () => {
  test.each(['before', 'after'] as const)('%s the segment is shown, nothing is lost and nothing is there twice', async (when) => {
    await takeIncrement(ctx)
    await backupDatabase(ctx)
    await source.db.execute(`insert into t values (1, 'a'); update t set id = 2; create sequence s; drop sequence s`)
    const broken: Context = {
      ...ctx,
      objects: async () => failingStore(await openObjectStore(`file://${folder}`, ctx.env), /\d+\.json$/, when),
    }
    expect(hasCode(await refusalOf(takeIncrement(broken)), 'object_store_failed')).toBe(true)
    await source.db.execute(`insert into t values (1, 'b')`)
    const report = await takeIncrement(ctx)
    expect(report.segments.map((segment) => [segment.number, segment.changes])).toEqual(when === 'before' ? [[2, 3]] : [[3, 1]])
    await restored('latest', async (target, { changes }) => {
      expect(changes).toBe(3)
      expect(await rows(target)).toEqual(await rows(source))
    })
    // What the run that failed has left is swept when it is old.
    const later: Context = { ...ctx, clock: fixedClock(new Date(ctx.clock.now().getTime() + 2 * 86_400_000)) }
    expect(await pruneIncrements(later)).toMatchObject({ removed: 0, swept: when === 'before' ? 1 : 0 })
  })

  test('of two runs at once one is refused', async () => {
    const outcomes = await Promise.all([refusalOf(takeIncrement(ctx)), refusalOf(takeIncrement(ctx))])
    expect(outcomes.filter((outcome) => outcome === 'done')).toHaveLength(1)
    expect(outcomes.some((outcome) => hasCode(outcome, 'conflict'))).toBe(true)
  })
})

describe('damaged', () => {
  test.each(['a bit of the changes', 'a bit of a manifest', 'a lost manifest', 'lost changes'])(
    '%s: refused before the first row',
    async (what) => {
      await takeIncrement(ctx)
      await backupDatabase(ctx)
      for (const id of [1, 2, 3]) {
        await source.db.execute('insert into t values ($1, $$x$$)', [id])
        await takeIncrement(ctx)
      }
      const stream = join(folder, 'increments', (await readdir(join(folder, 'increments')))[0] ?? '')
      const names = (await readdir(stream)).sort()
      const changes = join(stream, names.find((name) => name.startsWith('000003-')) ?? '')
      const manifest = join(stream, '000003.json')
      if (what.startsWith('a bit')) {
        const path = what === 'a bit of a manifest' ? manifest : changes
        const bytes = await readFile(path)
        bytes[40] = (bytes[40] ?? 0) ^ 1
        await writeFile(path, bytes)
      } else await rm(what === 'lost changes' ? changes : manifest)
      const target = await createTestDatabase({ template: 'template0' })
      try {
        const refused = await refusalOf(restoreAt(ctx, { at: 'latest', targetUrl: target.url }))
        expect(hasCode(refused, 'backup_corrupt')).toBe(true)
        expect(await target.db.query(`select from pg_class where relname = 't'`)).toEqual([])
      } finally {
        await target.drop()
      }
    },
  )
})

test('increments are kept as long as a moment within the policy needs them', async () => {
  ctx = contextOf({ keep: '2 hours' })
  await takeIncrement(ctx)
  await backupDatabase(ctx)
  await source.db.execute(`insert into t values (1, 'x')`)
  await takeIncrement(ctx)
  const moment = await timeOf(source.db)
  await source.db.execute(`insert into t values (2, 'x')`)
  await takeIncrement(ctx)
  const later = (hours: number): Context => ({ ...ctx, clock: fixedClock(new Date(ctx.clock.now().getTime() + hours * 3_600_000)) })
  expect((await pruneIncrements(later(1))).removed).toBe(0)
  // Without a newer full backup, what follows this one is needed for any moment since.
  expect((await pruneIncrements(later(3))).removed).toBe(1)
  await restored(moment, async (target) => expect(await rows(target)).toEqual([{ id: 1, body: 'x' }]))
  await backupDatabase(ctx)
  await takeIncrement(ctx)
  expect(await pruneIncrements(later(3), { dryRun: true })).toMatchObject({ removed: 2 })
  expect((await pruneIncrements(later(3))).removed).toBe(2)
  const refused = await refusalOf(restored(moment, () => Promise.resolve()))
  expect(hasCode(refused, 'invalid_input') && refused.detail).toMatch(/no increments for that moment/)
  await source.db.execute(`insert into t values (3, 'x')`)
  expect(await takeIncrement(ctx)).toMatchObject({ fullNeeded: null })
  await restored('latest', async (target) => expect(await rows(target)).toHaveLength(3))
})

test('a role that is no superuser restores too: foreign keys are made again, and hold', async () => {
  const role = `owner_${source.name}`
  await source.db.execute(`
    create table child (id int primary key, t int not null references t on delete cascade deferrable initially deferred);
    comment on constraint child_t_fkey on child is 'kept';
    create table fired (what text);
    create function fire() returns trigger language plpgsql as $$ begin insert into fired values (tg_op); return null; end $$;
    create trigger fires after insert or delete on child for each row execute function fire();
    alter table child enable row level security, force row level security;
    create role ${role} login createrole createdb`)
  const admin = openDatabase({ sessionUrl: serverUrl().replace('%s', 'postgres'), maxConnections: 1 })
  const name = `restored_${source.name}`
  await admin.execute(`create database ${name} owner ${role} template template0`)
  const url = serverUrl().replace('postgres@', `${role}@`).replace('%s', name)
  const target = openDatabase({ sessionUrl: url, maxConnections: 2 })
  try {
    await takeIncrement(ctx)
    await backupDatabase(ctx)
    await source.db.execute(`insert into t values (1, 'a'), (2, 'b'); insert into child values (1, 1), (2, 2), (3, 1)`)
    await source.db.execute(`delete from t where id = 2`)
    await takeIncrement(ctx)
    const report = await restoreAt(ctx, { at: 'latest', targetUrl: url })
    expect(report).toMatchObject({ stilled: 'foreign keys dropped and made again', problems: [] })
    expect(await target.query('select id from t')).toEqual([{ id: 1 }])
    expect(await target.query('select what from fired order by 1')).toEqual(await source.db.query('select what from fired order by 1'))
    const definition = `select pg_get_constraintdef(oid) as definition, obj_description(oid) as comment, convalidated, (select tgenabled from pg_trigger where tgname = 'fires'),
      (select relforcerowsecurity from pg_class where relname = 'child') from pg_constraint where conname = 'child_t_fkey'`
    expect(await target.query(definition)).toEqual(await source.db.query(definition))
  } finally {
    await target.close()
    await admin.execute(`drop database ${name} with (force)`)
    await admin.execute(`drop role ${role}`)
    await admin.close()
  }
})
