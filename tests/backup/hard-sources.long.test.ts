import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { backupDatabase, drillBackup, restoreBackup } from '../../lib/backup/index.ts'
import { requireExtensions } from '../../lib/backup/restore/require-extensions.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

/*
 * Databases that hold what they themselves forbid, or that a plain script would stumble over. Whoever restores one of them at night has no
 * other copy: it comes back with its rows, and the report says what does not hold.
 */

let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-hard-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function withTwo(work: (source: TestDatabase, target: TestDatabase, ctx: Context) => Promise<void>): Promise<void> {
  const [source, target] = [await createTestDatabase({ template: 'template0' }), await createTestDatabase({ template: 'template0' })]
  const ctx: Context = testContext(source.db, {
    config: defineConfig({ app: { name: 'Hard' }, backup: { encryption: 'none' } }),
    objects: () => openObjectStore(`file://${folder}/${source.name}`, ctx.env),
  })
  try {
    await work(source, target, ctx)
  } finally {
    await source.drop()
    await target.drop()
  }
}

test('tables whose names are the same when a dot joins them are two', () =>
  withTwo(async (source, target, ctx) => {
    await source.db.execute(`create schema a; create schema "a.b"; create table a."b.c" (id int primary key); create table "a.b".c (id int primary key);
      insert into a."b.c" select generate_series(1, 3); insert into "a.b".c select generate_series(11, 15)`)
    const { id } = await backupDatabase(ctx)
    const report = await restoreBackup(ctx, { id, targetUrl: target.url })
    expect(report.tables.map(({ table, rows }) => [table, rows])).toEqual(
      expect.arrayContaining([
        ['a."b.c"', 3],
        ['"a.b".c', 5],
      ]),
    )
    const sums = 'select (select sum(id)::int from a."b.c") as one, (select sum(id)::int from "a.b".c) as other'
    expect(await target.db.query(sums)).toEqual([{ one: 6, other: 65 }])
    await target.db.execute('truncate "a.b".c')
    await restoreBackup(ctx, { id, targetUrl: target.url, only: ['"a.b".c'] })
    expect(await target.db.query(sums)).toEqual([{ one: 6, other: 65 }])
    const ambiguous = restoreBackup(ctx, { id, targetUrl: target.url, only: ['a.b.c'] })
    await expect(ambiguous).rejects.toMatchObject({ code: 'invalid_input', detail: expect.stringContaining('a."b.c"') })
  }))

test('what rows break is left out or made without a look at them, and said; DDL that is forbidden is nobody’s end', () =>
  withTwo(async (source, target, ctx) => {
    await source.db.execute(`
      create table parents (id int primary key); create table children (id int primary key, parent int references parents, twin int);
      create function fails() returns int language sql as 'select 1';
      create materialized view good as select count(*) as n from parents;
      create materialized view bad as select fails() as n;
      create or replace function fails() returns int language plpgsql as $$ begin raise exception 'not any more'; end $$;
      create index twins on children (twin);
      update pg_catalog.pg_index set indisunique = true where indexrelid = 'twins'::regclass;
      set session_replication_role = 'replica';
      insert into children values (1, 404, 1), (2, null, null);
      update pg_catalog.pg_index set indisready = false where indexrelid = 'twins'::regclass;
      insert into children values (3, null, 1);
      update pg_catalog.pg_index set indisready = true where indexrelid = 'twins'::regclass;
      reset session_replication_role;
      create function no_ddl() returns event_trigger language plpgsql as $$ begin raise exception 'no DDL here'; end $$;
      create event trigger no_ddl on ddl_command_start execute function no_ddl();
      alter event trigger no_ddl enable always`)
    const { id } = await backupDatabase(ctx)
    const report = await restoreBackup(ctx, { id, targetUrl: target.url })
    expect(report.tables.every((table) => table.verified)).toBe(true)
    expect(report.skipped).toEqual(
      expect.arrayContaining([
        { statement: expect.stringContaining('FOREIGN KEY (parent)'), reason: expect.stringContaining('NOT VALID') },
        { statement: expect.stringContaining('CREATE UNIQUE INDEX twins'), reason: expect.stringContaining('more than once') },
        { statement: 'REFRESH MATERIALIZED VIEW public.bad;', reason: expect.stringContaining('could not be filled') },
      ]),
    )
    expect(report.skipped.length).toBe(3)
    expect(await target.db.query('select n::int from good')).toEqual([{ n: 0 }])
    expect(await target.db.query(`select conname, convalidated from pg_constraint where contype = 'f'`)).toEqual([
      { conname: 'children_parent_fkey', convalidated: false },
    ])
    expect(await target.db.query('select evtname, evtenabled from pg_event_trigger')).toEqual([{ evtname: 'no_ddl', evtenabled: 'A' }])
    expect(await target.db.query(`select nspname from pg_namespace where nspname like 'caretaker%'`)).toEqual([])
  }))

test('a check that the rows do not pass any more is named, with what lets the restore go on', () =>
  withTwo(async (source, target, ctx) => {
    await source.db.execute(`
      create function fine(n int) returns boolean language sql immutable as 'select true';
      create table checked (n int constraint is_fine check (fine(n)));
      insert into checked values (1), (2);
      create or replace function fine(n int) returns boolean language sql immutable as 'select n > 1'`)
    const { id } = await backupDatabase(ctx)
    const broken = await restoreBackup(ctx, { id, targetUrl: target.url }).catch((error: { detail?: string }) => error)
    const detail = 'detail' in broken ? (broken.detail ?? '') : ''
    const sql = /\((alter table .+? drop constraint [^)]+)\)/.exec(detail)?.[1]
    expect(sql).toBe('alter table "public"."checked" drop constraint "is_fine"')
    expect(detail).toContain('--resume')
    await target.db.execute(sql ?? '')
    const report = await restoreBackup(ctx, { id, targetUrl: target.url, resume: true })
    expect(report.tables).toEqual([{ table: 'public.checked', rows: 2, verified: true }])
  }))

test('tablespaces are the server’s: what lies in one comes back where there is none', () =>
  withTwo(async (source, target, ctx) => {
    const admin = openDatabase({ sessionUrl: source.url, maxConnections: 1 })
    const space = `space_${source.name}`
    await admin.session(async (session) => {
      await session.execute('set allow_in_place_tablespaces = on')
      await session.execute(`create tablespace ${space} location ''`)
    })
    try {
      await source.db.execute(
        `create table far (id int) tablespace ${space}; insert into far values (1); create index on far (id) tablespace ${space}`,
      )
      const { id, leftOut } = await backupDatabase(ctx)
      expect(leftOut.map(({ what }) => what)).toContain(`tablespace ${space}`)
      await source.db.execute('drop table far')
      await admin.execute(`drop tablespace ${space}`)
      const report = await restoreBackup(ctx, { id, targetUrl: target.url })
      expect(report.skipped).toEqual([])
      expect(await target.db.query('select id from far')).toEqual([{ id: 1 }])
    } finally {
      await admin.close()
    }
  }))

test('extensions that the target’s server lacks are named before anything is made', () =>
  withTwo(async (_source, target) => {
    const attempt = target.db.session((session) =>
      requireExtensions(session, {
        id: 'x',
        extensions: ['plpgsql', 'no_such_thing', 'nor_this'].map((name) => ({ name, version: '1', schema: 'public' })),
      }),
    )
    await expect(attempt).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringContaining('the extensions no_such_thing, nor_this,'),
    })
  }))

test('settings of the database change no value on its way, and no drill of it', () =>
  withTwo(async (source, target, ctx) => {
    await source.db.execute(`
      create table parts (at timestamptz not null) partition by range (at);
      create table first_part partition of parts for values from ('2026-01-01T00:00:00Z') to ('2027-01-01T00:00:00Z');
      create table names (of regclass, array_of text[]); insert into names values ('parts', array[null, 'NULL']);
      create table ruled (n int); create table seen (n int); insert into ruled values (1), (2);
      create rule also as on insert to ruled do also insert into seen values (new.n)`)
    const settings = { quote_all_identifiers: 'on', timezone: 'Asia/Kathmandu', array_nulls: 'off', bytea_output: 'escape' }
    for (const [name, value] of Object.entries({ ...settings, default_transaction_read_only: 'on' }))
      await target.db.execute(`alter database ${source.name} set ${name} = '${value}'`)
    const fresh = openDatabase({ sessionUrl: source.url, maxConnections: 3 })
    try {
      const { id } = await backupDatabase({ ...ctx, db: fresh })
      await restoreBackup(ctx, { id, targetUrl: target.url })
      expect(await target.db.query('select of::text, array_of from names')).toEqual([{ of: 'parts', array_of: [null, 'NULL'] }])
      await target.db.execute('truncate ruled')
      await restoreBackup(ctx, { id, targetUrl: target.url, only: ['ruled'] })
      expect(await target.db.query('select (select count(*)::int from ruled) as rows, (select count(*)::int from seen) as seen')).toEqual([
        { rows: 2, seen: 0 },
      ])
      const scratch = await createTestDatabase({ template: 'template0' })
      try {
        const drilled = await drillBackup({ ...ctx, db: fresh }, { id, scratchUrl: scratch.url, trustUnsigned: true })
        expect(drilled).toMatchObject({ proven: true, schemaEqual: true })
        const left = `select (select count(*)::int from pg_class where relnamespace = 'public'::regnamespace) as relations, current_setting('timezone') as timezone`
        expect(await scratch.db.query(left)).toEqual([{ relations: 0, timezone: expect.not.stringContaining('Kathmandu') }])
      } finally {
        await scratch.drop()
      }
    } finally {
      await fresh.close()
    }
  }))

test('a role that may not make event triggers and publications restores all else', () =>
  withTwo(async (source, target, ctx) => {
    const role = `owner_${target.name}`
    await source.db.execute(`
      create table t (n int); insert into t values (1);
      create publication everything for all tables; comment on publication everything is 'all';
      create function hears() returns event_trigger language plpgsql as 'begin end';
      create event trigger hears on ddl_command_end execute function hears(); comment on event trigger hears is 'it'`)
    await source.db.execute(`create role ${role} login`)
    try {
      await source.db.execute(`alter database ${target.name} owner to ${role}`)
      const { id } = await backupDatabase(ctx)
      const url = new URL(target.url)
      url.username = role
      const report = await restoreBackup(ctx, { id, targetUrl: url.toString() })
      expect(report.tables).toEqual([{ table: 'public.t', rows: 1, verified: true }])
      const skipped = report.skipped.map(({ statement }) => statement).join('\n')
      expect(skipped).toContain('CREATE PUBLICATION everything')
      expect(skipped).toContain('CREATE EVENT TRIGGER hears')
    } finally {
      await target.db.execute(`reassign owned by ${role} to postgres`)
      await target.db.execute(`alter database ${target.name} owner to postgres`)
      await target.db.execute(`drop owned by ${role}`)
      await target.db.execute(`drop role ${role}`)
    }
  }))
