import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backupDatabase, restoreAt, stopIncrements, takeIncrement } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import type { Database } from '../../../lib/platform/db.ts'
import { testContext } from '../../support/context.ts'
import { random, schema, stateOf, timeOf, work } from '../increments/workload.ts'
import { startVersion, type VersionedServer } from './servers.ts'

// 17 is what the other tests of increments run on.
const majors = [15, 18] as const
const servers = new Map<number, VersionedServer>()
let folder: string
let identity: string
let recipient: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-versions-'))
  identity = await generateX25519Identity()
  recipient = await identityToRecipient(identity)
  for (const major of majors) servers.set(major, await startVersion(major))
})
afterAll(async () => {
  for (const server of servers.values()) await server.stop()
  await rm(folder, { recursive: true, force: true })
})

let made = 0
async function database(major: number) {
  const server = servers.get(major)
  if (server === undefined) throw new Error(`PostgreSQL ${major} was not started`)
  return server.database(`increments_${++made}`)
}

function contextOf(db: Database, store: string): Context {
  const ctx: Context = testContext(db, {
    config: defineConfig({ app: { name: 'Versions' }, backup: { recipients: [recipient], increments: {} } }),
    objects: () => openObjectStore(`file://${join(folder, store)}`, ctx.env),
  })
  return ctx
}

describe.each(majors)('increments of PostgreSQL %i', (major) => {
  test('bring any moment of a random workload back, in the same version and in a newer one', async () => {
    const source = await database(major)
    expect(await source.db.query('show server_version_num')).toEqual([
      { server_version_num: expect.stringMatching(new RegExp(`^${major}`)) },
    ])
    const ctx = contextOf(source.db, `store-${major}`)
    await source.db.execute(schema)
    const next = random(1000 + major)
    const moments: { at: string; state: string }[] = []
    await takeIncrement(ctx)
    await backupDatabase(ctx)
    for (let round = 0; round < 30; round++) {
      await Promise.all(
        [next(2 ** 31), next(2 ** 31)].map(async (seed) => {
          const client = random(seed)
          for (let count = 0; count < 4; count++) await work(source.db, client)
        }),
      )
      moments.push({ at: await timeOf(source.db), state: await stateOf(source.db) })
      if (round % 6 === 5)
        expect(await takeIncrement(ctx, { segmentChanges: 40 })).toMatchObject({
          status: 'stored',
          caughtUp: true,
          fullNeeded: null,
          gaps: [],
        })
    }
    expect(new Set(moments.map((moment) => moment.state)).size).toBeGreaterThan(25)
    const tried = moments.filter((_, index) => index % 5 === 4)
    for (const [index, moment] of tried.entries()) {
      // The last ones in the newest version.
      const target = await database(index >= tried.length - 2 ? 18 : major)
      const report = await restoreAt(ctx, { at: moment.at, identity, targetUrl: target.url })
      expect(report).toMatchObject({ problems: [], asOfBase: [], stilled: 'session_replication_role' })
      expect(await stateOf(target.db)).toBe(moment.state)
    }
    expect((await stopIncrements(ctx)).dropped).toHaveLength(1)
  })

  test('tell a change of the schema, a table without a key, and log that was thrown away', async () => {
    const source = await database(major)
    const ctx = contextOf(source.db, `changes-${major}`)
    await source.db.execute('create table t (id int primary key, body text); create table log (line text)')
    await takeIncrement(ctx)
    await backupDatabase(ctx)
    await source.db.execute(`insert into log values ('one'); update log set line = 'two'`)
    expect((await takeIncrement(ctx)).gaps).toMatchObject([{ table: 'public.log', changes: 1 }])
    await source.db.execute('alter table t add extra int')
    expect((await takeIncrement(ctx)).fullNeeded).toMatch(/schema is another one/)
    await source.db.execute(`alter system set max_slot_wal_keep_size = '1MB'`)
    await source.db.execute('select pg_reload_conf()')
    for (let segment = 0; segment < 4; segment++) {
      await source.db.execute('insert into t values ($1::int)', [segment])
      await source.db.execute('select pg_switch_wal()')
    }
    await source.db.execute('checkpoint')
    expect((await takeIncrement(ctx)).lost).toEqual([expect.stringContaining('has lost its log')])
    await source.db.execute('alter system reset max_slot_wal_keep_size')
    await source.db.execute('select pg_reload_conf()')
    await stopIncrements(ctx)
  })
})
