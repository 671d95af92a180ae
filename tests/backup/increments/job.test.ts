import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  incrementJob,
  listBackups,
  openIncrements,
  planIncrement,
  restoreAt,
  stopIncrements,
  takeIncrement,
} from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import type { JobOutcome } from '../../../lib/platform/job.ts'
import { openRun } from '../../maintenance/job-run.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../../support/database.ts'
import { useOwnServer } from '../../support/own-server.ts'

useOwnServer()
const source = useTestDatabase()
let folder: string
let ctx: Context

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-increment-job-'))
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Job' }, backup: { encryption: 'none', increments: {} } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
  })
  await source.db.execute('create table t (id int primary key)')
})
afterAll(async () => {
  await stopIncrements(ctx)
  await rm(folder, { recursive: true, force: true })
})

async function resultOf(name: string): Promise<JobOutcome> {
  return incrementJob(ctx, await openRun(source.db, name))
}

test('makes the slot and the full backup that increments go on from, then follows', async () => {
  expect(await planIncrement(ctx)).toMatchObject([{ action: expect.stringContaining('make a replication slot') }])
  expect(await resultOf('increment-1')).toMatchObject({
    status: 'done',
    result: { status: 'stored', fullNeeded: expect.stringContaining('no full backup'), full: expect.any(String) },
  })
  expect(await listBackups(ctx)).toHaveLength(1)
  await source.db.execute('insert into t values (1)')
  expect(await planIncrement(ctx)).toMatchObject([{ action: expect.stringContaining('read the log'), unit: 'bytes' }])
  const second = await resultOf('increment-2')
  expect(second).toMatchObject({ status: 'done', result: { status: 'stored', fullNeeded: null } })
  expect(await listBackups(ctx)).toHaveLength(1)

  await source.db.execute('create table made (id int primary key); insert into made values (1)')
  expect(await resultOf('increment-3')).toMatchObject({ status: 'done', result: { full: expect.any(String) } })
  await source.db.execute('insert into made values (2)')
  expect(await resultOf('increment-4')).toMatchObject({ status: 'done', result: { fullNeeded: null } })
  const target = await createTestDatabase({ template: 'template0' })
  try {
    await restoreAt(ctx, { at: 'latest', targetUrl: target.url })
    expect(await target.db.query('select id from made order by 1')).toEqual([{ id: 1 }, { id: 2 }])
    expect(await target.db.query('select id from t')).toEqual([{ id: 1 }])
  } finally {
    await target.drop()
  }
  expect(await source.db.query(`select count(*)::int as count from caretaker.outbox where topic = 'backup.increments_based'`)).toEqual([
    { count: 2 },
  ])
})

const slots = () =>
  source.db.query<{ name: string; status: string }>(
    `select slot_name::text as name, wal_status as status from pg_replication_slots where database = current_database()`,
  )

test('a slot whose log the server threw away is told of, and the next full backup begins a new chain', async () => {
  const [before] = await slots()
  await source.db.execute(`alter system set max_slot_wal_keep_size = '1MB'`)
  try {
    await source.db.execute('select pg_reload_conf()')
    for (let segment = 0; segment < 4; segment++) {
      await source.db.execute('insert into t values ($1::int)', [100 + segment])
      await source.db.execute('select pg_switch_wal()')
    }
    await source.db.execute('checkpoint')
    expect(await slots()).toEqual([{ name: before?.name, status: 'lost' }])

    const outcome = await resultOf('increment-lost')
    expect(outcome).toMatchObject({
      status: 'done',
      result: {
        status: 'stored',
        lost: [expect.stringMatching(/has lost its log.*max_slot_wal_keep_size \(1MB\).*begin anew/)],
        fullNeeded: expect.stringContaining('older than the slot'),
        full: expect.any(String),
      },
    })
  } finally {
    await source.db.execute('alter system reset max_slot_wal_keep_size')
    await source.db.execute('select pg_reload_conf()')
  }
  const [after] = await slots()
  expect(after).not.toMatchObject({ name: before?.name })
  expect(await source.db.query(`select payload ->> 'slot' as slot from caretaker.outbox where topic = 'backup.increments_lost'`)).toEqual([
    { slot: before?.name },
  ])

  await source.db.execute('insert into t values (200)')
  expect(await resultOf('increment-anew')).toMatchObject({ result: { fullNeeded: null, lost: [] } })
  const target = await createTestDatabase({ template: 'template0' })
  try {
    await restoreAt(ctx, { at: 'latest', targetUrl: target.url })
    expect(await target.db.query('select count(*)::int as count from t')).toEqual(
      await source.db.query('select count(*)::int as count from t'),
    )
  } finally {
    await target.drop()
  }
})

test('increments that are taken out of the policy leave no slot behind; those that a person began stay', async () => {
  const off: Context = { ...ctx, config: defineConfig({ app: { name: 'Job' }, backup: { encryption: 'none' } }) }
  expect(await slots()).toHaveLength(1)
  expect(await openIncrements(off)).toMatchObject({ on: false, reason: expect.stringContaining('was dropped') })
  expect(await slots()).toEqual([])
  expect(await openIncrements(off)).toEqual({ on: false, reason: 'The policy has no backup.increments.' })

  // By command, under the policy that has none.
  await takeIncrement(off)
  expect(await slots()).toHaveLength(1)
  await openIncrements(off)
  expect(await slots()).toHaveLength(1)
})
