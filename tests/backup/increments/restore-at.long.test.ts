import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { restoreAt, stopIncrements, takeIncrement } from '../../../lib/backup/increments/index.ts'
import { backupDatabase } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../../support/database.ts'
import { useOwnServer } from '../../support/own-server.ts'
import { random, schema, stateOf, timeOf, work } from './workload.ts'

useOwnServer()
const source = useTestDatabase({ template: 'template0' })
let folder: string
let identity: string
let ctx: Context

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-increments-'))
  identity = await generateX25519Identity()
  const recipient = await identityToRecipient(identity)
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Shop' }, backup: { recipients: [recipient], increments: {} } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
  })
  await source.db.execute(schema)
})
afterAll(async () => {
  await stopIncrements(ctx)
  await rm(folder, { recursive: true, force: true })
})

async function withTarget<T>(use: (target: TestDatabase) => Promise<T>): Promise<T> {
  const target = await createTestDatabase({ template: 'template0' })
  try {
    return await use(target)
  } finally {
    await target.drop()
  }
}

describe('any moment', () => {
  const moments: { at: string; state: string }[] = []
  const next = random(20261121)

  test('increments follow a random workload of several clients', async () => {
    const first = await takeIncrement(ctx)
    expect(first).toMatchObject({ status: 'stored', caughtUp: true, fullNeeded: expect.stringContaining('no full backup') })
    await source.db.transaction((tx) => tx.execute(`insert into shop.journal (line) values ('before the backup')`))
    await backupDatabase(ctx)
    for (let round = 0; round < 24; round++) {
      const clients = [next(2 ** 31), next(2 ** 31), next(2 ** 31)].map((seed) => random(seed))
      await Promise.all(
        clients.map(async (client) => {
          for (let count = 0; count < 6; count++) await work(source.db, client)
        }),
      )
      moments.push({ at: await timeOf(source.db), state: await stateOf(source.db) })
      if (round % 6 === 3) {
        const report = await takeIncrement(ctx, { segmentChanges: 50 })
        expect(report).toMatchObject({ status: 'stored', caughtUp: true, fullNeeded: null, gaps: [] })
        expect(report.segments.length).toBeGreaterThan(1)
      }
      if (round === 11) await backupDatabase(ctx)
    }
    await takeIncrement(ctx)
    expect(new Set(moments.map((moment) => moment.state)).size).toBe(moments.length)
  })

  test.each([0, 2, 5, 8, 10, 12, 15, 17, 20, 22, 23])('moment %i comes back as it was', async (index) => {
    const moment = moments[index]
    await withTarget(async (target) => {
      const report = await restoreAt(ctx, { at: moment?.at ?? '', identity, targetUrl: target.url })
      expect(await stateOf(target.db)).toBe(moment?.state)
      expect(report).toMatchObject({ at: moment?.at, problems: [], asOfBase: [], stilled: 'session_replication_role' })
      expect(await stateOf(target.db, ['shop.totals'])).toBe(
        (
          await target.db.query<{ state: string }>(
            `select count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)), 0) as state from (select customer, sum(total) as total from shop.orders group by 1) t`,
          )
        )[0]?.state,
      )
      expect(await target.db.query('select orders::int, total::text from shop.spending')).toEqual(
        await target.db.query('select count(*)::int as orders, sum(total)::text as total from shop.orders'),
      )
      // Keys go on behind those that are there.
      await target.db.execute(
        `insert into shop.customers (email) values ('new'); insert into shop.audit (what) values ('new'); insert into shop.orders (total) values (1)`,
      )
    })
  })

  test('a moment that nothing brings back is refused with the one that can be', async () => {
    const refusal = (at: string) => restoreAt(ctx, { at, identity, targetUrl: source.url }).catch((error: unknown) => error)
    const late = await refusal('2100-01-01T00:00:00Z')
    expect(hasCode(late, 'invalid_input') && late.detail).toMatch(/newest moment that can be restored is 20/)
    const early = await refusal('2020-01-01')
    expect(hasCode(early, 'invalid_input') && early.detail).toMatch(/oldest full backup is of 20/)
    const odd = await refusal('yesterday')
    expect(hasCode(odd, 'invalid_input') && odd.detail).toMatch(/expected an ISO time/)
  })
})
