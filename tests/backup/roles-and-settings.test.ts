import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { backupDatabase, restoreBackup } from '../../lib/backup/index.ts'
import { settingValue } from '../../lib/backup/settings.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { type Database, openDatabase } from '../../lib/platform/db.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

let folder: string
let source: TestDatabase
let lost = false
let admin: Database
let ctx: Context
/** Roles are the server's: dropped between backup and restore, so that the restore has to make them. */
const mark = `rs${process.pid}`
const [owner, app, group, plain] = [`${mark}_owner`, `${mark} "app"`, `${mark}_group`, `${mark}_plain`] as const
const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-roles-'))
  admin = openDatabase({ sessionUrl: inject('postgresUrl').replace('%s', 'postgres'), maxConnections: 1 })
})
afterAll(async () => {
  await admin.close()
  await rm(folder, { recursive: true, force: true })
})

async function dropRoles(): Promise<void> {
  for (const role of [app, owner, group]) await admin.execute(`drop role if exists ${quoted(role)}`)
}

const settings = (db: Database, name: string) =>
  db.query(
    `select d.datname = $1 as here, r.rolname as role, s.setconfig as settings from pg_db_role_setting s left join pg_database d on d.oid = s.setdatabase
     left join pg_roles r on r.oid = s.setrole where d.datname = $1 or (s.setdatabase = 0 and r.rolname = $2) order by 1, 2`,
    [name, app],
  )
const roles = (db: Database) =>
  db.query(
    `select rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, (select rolpassword from pg_authid a where a.oid = r.oid) as password
     from pg_roles r where rolname = any ($1) order by 1`,
    [[owner, app, group]],
  )
const memberships = (db: Database) =>
  db.query(
    `select g.rolname as role, m.rolname as member, a.admin_option, a.inherit_option, a.set_option from pg_auth_members a join pg_roles g on g.oid = a.roleid join pg_roles m on m.oid = a.member
     where m.rolname = any ($1) order by 1, 2`,
    [[owner, app]],
  )

describe('roles and settings', () => {
  beforeEach(async () => {
    source = await createTestDatabase({ template: 'template0' })
    lost = false
    ctx = testContext(source.db, {
      config: defineConfig({ app: { name: 'Roles' }, backup: { encryption: 'none' } }),
      objects: () => openObjectStore(`file://${folder}`, ctx.env),
    })
    await source.db.execute('create table t (a int)')
    await admin.execute(`
    create role ${owner} login createrole createdb bypassrls connection limit 7 password 'not in the backup';
    create role ${group} nologin noinherit;
    create role ${quoted(app)} login;
    grant ${group} to ${quoted(app)} with admin true, inherit false, set true;
    grant pg_read_all_data to ${owner};
    alter role ${quoted(app)} set statement_timeout = '30s';
    alter role ${quoted(app)} set "app.motto" = 'it''s "fine"';
    grant ${group} to ${owner}`)
    await source.db.execute(`alter table t owner to ${owner}; grant select on t to ${quoted(app)}`)
    await admin.execute(`
    alter database ${source.name} set search_path = "$user", "Odd, ""schema""", public;
    alter database ${source.name} set "app.settings.jwt_secret" = 'a secret: 100%';
    alter database ${source.name} set work_mem = '7MB';
    alter database ${source.name} set default_transaction_read_only = on;
    alter role ${quoted(app)} in database ${source.name} set lock_timeout = '5s'`)
  })
  afterEach(lose)

  /** The server is another one: neither the database nor its roles are there any more. */
  async function lose(): Promise<void> {
    if (!lost) await source.drop()
    lost = true
    await dropRoles()
  }

  test('come back as they were, without passwords, where the restoring role may', async () => {
    const before = { roles: await roles(admin), memberships: await memberships(admin), settings: await settings(admin, source.name) }
    const report = await backupDatabase(ctx)
    await lose()
    const target = await createTestDatabase({ template: 'template0' })
    try {
      const restored = await restoreBackup(ctx, { id: report.id, targetUrl: target.url })
      expect(restored.skipped).toEqual([])
      expect(await roles(admin)).toEqual(before.roles.map((role) => ({ ...role, password: null })))
      expect(await memberships(admin)).toEqual(before.memberships)
      expect(await settings(admin, target.name)).toEqual(before.settings)
      const fresh = openDatabase({ sessionUrl: target.url, maxConnections: 1 })
      expect(
        await fresh.query(`select current_setting('app.settings.jwt_secret') as secret, current_setting('search_path') as path`),
      ).toEqual([{ secret: 'a secret: 100%', path: '"$user", "Odd, ""schema""", public' }])
      await fresh.close()
    } finally {
      await target.drop()
    }
  })

  test('that the restoring role may not give are named, never with a value, and the rest comes back', async () => {
    const report = await backupDatabase(ctx)
    await lose()
    await admin.execute(`create role ${plain} login createrole`)
    const target = await createTestDatabase({ template: 'template0' })
    try {
      await admin.execute(`alter database ${target.name} owner to ${plain}`)
      const url = target.url.replace('postgres@', `${plain}@`)
      const restored = await restoreBackup(ctx, { id: report.id, targetUrl: url })
      const named = restored.skipped.map((one) => `${one.statement}: ${one.reason}`)
      expect(named).toEqual(
        expect.arrayContaining([
          `attribute createdb of role ${owner}: the server refused it (SQLSTATE 42501)`,
          `attribute bypassrls of role ${owner}: the server refused it (SQLSTATE 42501)`,
          `membership of ${owner} in pg_read_all_data: the server refused it (SQLSTATE 42501)`,
          // Parameters that no extension has declared are a superuser's to keep.
          'setting app.settings.jwt_secret of the database: the server refused it (SQLSTATE 42501)',
        ]),
      )
      expect(JSON.stringify(restored)).not.toMatch(/a secret/)
      // Its own database it may set, and the roles it made.
      expect(await settings(admin, target.name)).toEqual([
        { here: true, role: app, settings: ['lock_timeout=5s'] },
        { here: true, role: null, settings: expect.arrayContaining(['work_mem=7MB', 'default_transaction_read_only=on']) },
        { here: null, role: app, settings: ['statement_timeout=30s'] },
      ])
      expect((await roles(admin)).find((role) => role.rolname === owner)).toMatchObject({
        rolcreaterole: true,
        rolcreatedb: false,
        rolcanlogin: true,
      })
    } finally {
      await target.drop()
      await dropRoles()
      await admin.execute(`drop role ${plain}`)
    }
  })

  test('a role that is there is left as it is', async () => {
    const report = await backupDatabase(ctx)
    await admin.execute(`alter role ${owner} nocreatedb connection limit 3`)
    const target = await createTestDatabase({ template: 'template0' })
    try {
      await restoreBackup(ctx, { id: report.id, targetUrl: target.url })
      expect((await roles(admin)).find((role) => role.rolname === owner)).toMatchObject({ rolcreatedb: false, rolconnlimit: 3 })
    } finally {
      await target.drop()
    }
  })

  test('the value of a setting stands in no plain object', async () => {
    const { id } = await backupDatabase(ctx)
    for (const name of ['manifest.json', 'RESTORE.md', 'restore.sh', 'SHA256SUMS'])
      expect(await readFile(join(folder, 'backups', id, name), 'utf8')).not.toMatch(/a secret/)
  })
})

test.each([
  [{ name: 'search_path', value: '"$user", public' }, `'$user', 'public'`],
  [{ name: 'search_path', value: '""' }, `''`],
  [{ name: 'search_path', value: '' }, `''`],
  [{ name: 'search_path', value: 'a, "B, ""c""", d' }, `'a', 'B, "c"', 'd'`],
  [{ name: 'app.list', value: 'a, b' }, `'a, b'`],
  [{ name: 'app.quote', value: "it's" }, `'it''s'`],
])('%j is set to %s', (setting, value) => {
  expect(settingValue(setting)).toBe(value)
})
