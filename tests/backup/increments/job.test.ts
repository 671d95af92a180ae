import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { incrementJob, listBackups, planIncrement, restoreAt, stopIncrements } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import type { JobOutcome } from '../../../lib/platform/job.ts'
import { openRun } from '../../maintenance/job-run.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../../support/database.ts'

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
