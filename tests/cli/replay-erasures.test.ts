import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { replayErasures } from '../../cli/replay-erasures.ts'
import { backupDatabase, restoreBackup } from '../../lib/backup/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import { eraseSubject } from '../../lib/gdpr/index.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'

const source = useTestDatabase()
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-replay-'))
  await source.db.execute(`create table people (id int primary key, email text);
    create table orders (id int primary key, person int not null references people);
    insert into people values (1, 'one@example.org'), (2, 'two@example.org');
    insert into orders values (1, 1), (2, 2), (3, 1)`)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

it('a person erased after a backup is not there after its restore, and everybody else is', async () => {
  const ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Replay' }, backup: { encryption: 'none' }, gdpr: { subject: { table: 'people' } } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
  })
  const { id } = await backupDatabase(ctx)
  expect(await eraseSubject(ctx, { subject: '1' })).toMatchObject({ status: 'erased' })
  const target = await createTestDatabase({ template: 'template0' })
  try {
    await restoreBackup(ctx, { id, targetUrl: target.url })
    expect(await target.db.query('select id from people order by id')).toEqual([{ id: 1 }, { id: 2 }])
    expect(await replayErasures(ctx, target.url)).toEqual({ tombstones: 1, erased: 1 })
    expect(await target.db.query('select id from people order by id')).toEqual([{ id: 2 }])
    expect(await target.db.query('select id from orders order by id')).toEqual([{ id: 2 }])
    expect(await replayErasures(ctx, target.url)).toEqual({ tombstones: 1, erased: 0 })
  } finally {
    await target.drop()
  }
})
