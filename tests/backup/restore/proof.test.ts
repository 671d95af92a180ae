import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backupDatabase, type RestoreInput, restoreBackup } from '../../../lib/backup/index.ts'
import { readManifest } from '../../../lib/backup/manifest.ts'
import { BeginningDigest, beginningBytes, storesAsSent } from '../../../lib/backup/restore/proof.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import type { ObjectStore } from '../../../lib/platform/objects.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../../support/database.ts'
import { contentsOf } from '../state.ts'

const source = useTestDatabase({ template: 'template0' })
let folder: string
let ctx: Context
let store: ObjectStore
let id: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-proof-'))
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Proof' }, backup: { encryption: 'none' } }),
    objects: () => Promise.resolve(store),
  })
  store = await openObjectStore(`file://${folder}`, ctx.env)
  // Larger than what is read back of every table.
  await source.db.execute(
    `create table public.large (id int primary key, note text);
     insert into public.large select n, repeat(md5(n::text), 64) from generate_series(1, 9000) n;
     create table public.small (id int primary key, at point);
     insert into public.small select n, point(n, n) from generate_series(1, 100) n`,
  )
  id = (await backupDatabase(ctx)).id
})

afterAll(() => rm(folder, { recursive: true, force: true }))

/** What a restore into a new database gives; `before` is run there first. */
async function restoreInto<T>(
  before: string,
  work: (target: TestDatabase, restore: (input?: Partial<RestoreInput>, given?: Context) => ReturnType<typeof restoreBackup>) => Promise<T>,
): Promise<T> {
  const target = await createTestDatabase({ template: 'template0' })
  try {
    if (before !== '') await target.db.execute(before)
    return await work(target, (input, given) => restoreBackup(given ?? ctx, { id, targetUrl: target.url, ...input }))
  } finally {
    await target.drop()
  }
}

/** An event trigger that runs `sql` whenever the table is made, or indexed. */
const whenever = (tag: 'CREATE TABLE' | 'CREATE INDEX' | 'ALTER TABLE', sql: string) => `
  create function public.interfere() returns event_trigger language plpgsql as $$ begin
    if exists (select from pg_event_trigger_ddl_commands() where object_identity ~ 'large') then ${sql}; end if;
  end $$;
  create event trigger interfere on ddl_command_end when tag in ('${tag}') execute function public.interfere()`

describe('a large table', () => {
  test('is proven by what was sent, its beginning, and that nobody has touched it; or by all of its rows, if asked for', async () => {
    await restoreInto('', async (target, restore) => {
      const report = await restore()
      expect(report.tables).toEqual([
        { table: 'public.large', rows: 9000, verified: true, readBack: 'beginning' },
        { table: 'public.small', rows: 100, verified: true },
      ])
      expect(await contentsOf(target.db)).toEqual(await contentsOf(source.db))
      const again = await restore({ clean: target.name, readAll: true })
      expect(again.tables[0]).toEqual({ table: 'public.large', rows: 9000, verified: true })
    })
  })

  test('whose last row a trigger of the target changes is not called equal', async () => {
    const trigger = `
      create function public.change() returns trigger language plpgsql as $f$ begin new.note := upper(new.note); return new; end $f$;
      create trigger change before insert on public.large for each row when (new.id = 9000) execute function public.change()`
    await restoreInto(whenever('CREATE TABLE', trigger), async (_, restore) => {
      const refused = await restore().catch((error: unknown) => error)
      expect(refused).toMatchObject({ code: 'restore_mismatch', detail: expect.stringContaining('public.large') })
    })
  })

  test('of which somebody changes a row behind the beginning, after the load, is not called equal', async () => {
    const change = `update public.large set note = 'changed' where id = 9000 and note <> 'changed'`
    await restoreInto(whenever('ALTER TABLE', change), async (_, restore) => {
      const refused = await restore().catch((error: unknown) => error)
      expect(refused).toMatchObject({ code: 'restore_mismatch', detail: expect.stringContaining('public.large') })
    })
  })

  test('that the store gives otherwise the second time is not let in', async () => {
    const { manifest } = await readManifest(store, id)
    const [part] = manifest.tables.find((table) => table.name === 'large')?.parts ?? []
    let readings = 0
    const lying: ObjectStore = {
      ...store,
      async get(key, options) {
        const stream = await store.get(key, options)
        if (stream === null || !key.endsWith(`/${part?.key}`) || ++readings === 1) return stream
        const chunks: Buffer[] = []
        for await (const chunk of stream) chunks.push(chunk as Buffer)
        const rows = zstdDecompressSync(Buffer.concat(chunks))
        rows.write('f', rows.length - 10)
        return Readable.from([zstdCompressSync(rows)], { objectMode: false })
      },
    }
    await restoreInto('', async (target, restore) => {
      const refused = await restore({}, { ...ctx, objects: () => Promise.resolve(lying) }).catch((error: unknown) => error)
      expect(hasCode(refused, 'backup_corrupt')).toBe(true)
      expect(readings).toBe(2)
      expect(await target.db.query('select from public.large limit 1')).toEqual([])
    })
  })

  test('that is loaded when a restore is broken off is proven by the one that goes on', async () => {
    await restoreInto('', async (_, restore) => {
      const stopping = new AbortController()
      const broken = await restore(
        {
          onProgress: ({ phase, what }) => {
            if (phase === 'indexes' && what === 'large large_pkey') stopping.abort(new Error('stopped'))
          },
        },
        { ...ctx, signal: stopping.signal },
      ).catch((error: unknown) => error)
      expect(String(broken)).toContain('--resume')
      const report = await restore({ resume: true })
      expect(report).toMatchObject({ runs: 2, tables: [{ table: 'public.large', verified: true, readBack: 'beginning' }, {}] })
    })
  })
})

describe('what is stored as it is sent', () => {
  const cases: [why: string, ddl: string, exact: boolean][] = [
    [
      'types whose text is exact, and enums, domains and arrays of them',
      `create type mood as enum ('well'); create domain score as int check (value > 0); create domain scores as score[];
       create table t (a int, b text, c mood, d score, e scores, f mood[], g timestamptz, h jsonb, i numeric(9,2), j varchar(3), k bytea)`,
      true,
    ],
    ['a type that is made of others', 'create type pair as (a int, b int); create table t (a pair)', false],
    ['an array of domains over such', 'create type pair as (a int, b int); create domain pairs as pair; create table t (a pairs[])', false],
    ['a type whose text names what may be called otherwise', 'create table t (a regclass)', false],
    ['a range', 'create table t (a int4range)', false],
    ['a column that is computed is not sent', 'create table t (a int, b int generated always as (a + 1) stored)', true],
    [
      'a trigger',
      `create table t (a int); create function f() returns trigger language plpgsql as 'begin return new; end';
       create trigger f after insert on t for each statement execute function f()`,
      false,
    ],
    [
      'a trigger that is disabled',
      `create table t (a int); create function f() returns trigger language plpgsql as 'begin return new; end';
       create trigger f before insert on t for each row execute function f(); alter table t disable trigger f`,
      true,
    ],
    ['a foreign key', 'create table p (a int primary key); create table t (a int references p)', false],
  ]

  test.each(cases)('%s: %#', async (_, ddl, exact) => {
    await source.db.session(async (session) => {
      await session.execute('begin; create schema s; set local search_path = s')
      await session.execute(ddl)
      const columns = (
        await session.query<{ name: string }>(
          `select attname as name from pg_attribute where attrelid = 's.t'::regclass and attnum > 0 and attgenerated = ''`,
        )
      ).map(({ name }) => name)
      const table = { schema: 's', name: 't', columns, condition: null, shared: false, rows: 0, bytes: 0, parts: [] }
      expect(await storesAsSent(session, table)).toBe(exact)
      await session.execute('rollback')
    })
  })

  test('in a database of other characters nothing is', async () => {
    const name = `${source.name}_latin1`
    await source.db.execute(`create database ${name} encoding 'LATIN1' locale 'C' template template0`)
    try {
      const url = new URL(source.url)
      url.pathname = `/${name}`
      const { openDatabase } = await import('../../../lib/platform/db.ts')
      const db = openDatabase({ sessionUrl: url.toString() })
      await db.execute('create table public.t (a text)')
      const table = { schema: 'public', name: 't', columns: ['a'], condition: null, shared: false, rows: 0, bytes: 0, parts: [] }
      expect(await db.session((session) => storesAsSent(session, table))).toBe(false)
      await db.close()
    } finally {
      await source.db.execute(`drop database ${name} with (force)`)
    }
  })
})

test('a beginning ends with a row, wherever what was sent is cut', () => {
  const row = Buffer.from(`${'x'.repeat(999)}\n`)
  const rows = Buffer.concat(Array.from({ length: 20_000 }, () => row))
  const found = [rows.length, 65_536, 1000, 777].map((length) => {
    const digest = new BeginningDigest()
    for (let at = 0; at < rows.length; at += length) digest.update(rows.subarray(at, at + length))
    return digest.beginning()
  })
  expect(new Set(found.map((one) => one.sha256)).size).toBe(1)
  expect(found.every((one) => one.rows === Math.ceil(beginningBytes / 1000))).toBe(true)
})
