import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { keepBases } from '../../lib/backup/increments/keep-bases.ts'
import { backupDatabase, listBackups, pruneBackups } from '../../lib/backup/index.ts'
import { planRetention } from '../../lib/backup/retention.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import fc from '../support/fast-check.ts'

const at = (text: string) => ({ id: text, createdAt: new Date(text) })
const now = new Date('2026-11-21T12:00:00Z')
const kept = (dates: string[], keep: Parameters<typeof planRetention>[1]) =>
  planRetention(dates.map(at), keep, now).keep.map((one) => one.id)

describe('what is kept', () => {
  test('the newest of each day, for as many days as have one: a gap does not cost copies', () => {
    const dates = ['2026-11-21T03:00:00Z', '2026-11-21T09:00:00Z', '2026-11-20T03:00:00Z', '2026-10-01T03:00:00Z', '2026-09-30T03:00:00Z']
    expect(kept(dates, { daily: 3 })).toEqual(['2026-11-21T09:00:00Z', '2026-11-20T03:00:00Z', '2026-10-01T03:00:00Z'])
  })

  test('weeks begin on Monday, months on the first', () => {
    const dates = ['2026-11-21T03:00:00Z', '2026-11-16T03:00:00Z', '2026-11-15T03:00:00Z', '2026-11-09T03:00:00Z', '2026-10-31T03:00:00Z']
    expect(kept(dates, { weekly: 2 })).toEqual(['2026-11-21T03:00:00Z', '2026-11-15T03:00:00Z'])
    expect(kept(dates, { monthly: 2 })).toEqual(['2026-11-21T03:00:00Z', '2026-10-31T03:00:00Z'])
  })

  test('one an hour within the hourly span', () => {
    const dates = ['2026-11-21T11:10:00Z', '2026-11-21T11:50:00Z', '2026-11-21T10:10:00Z', '2026-11-14T11:00:00Z']
    expect(kept(dates, { hourly: '7 days' })).toEqual(['2026-11-21T11:50:00Z', '2026-11-21T10:10:00Z'])
  })

  test('never nothing, whatever the policy and however old', () => {
    fc.assert(
      fc.property(
        fc.array(fc.date({ min: new Date('2020-01-01'), max: now, noInvalidDate: true }), { minLength: 1, maxLength: 60 }),
        fc.record({
          daily: fc.integer({ min: 0, max: 40 }),
          weekly: fc.integer({ min: 0, max: 5 }),
          monthly: fc.integer({ min: 0, max: 5 }),
        }),
        (dates, keep) => {
          const backups = dates.map((createdAt, index) => ({ id: `${index}`, createdAt }))
          const plan = planRetention(backups, keep, now)
          const newest = Math.max(...dates.map((date) => date.getTime()))
          expect(plan.keep.some((one) => backups[Number(one.id)]?.createdAt.getTime() === newest)).toBe(true)
          expect(plan.keep.length + plan.remove.length).toBe(backups.length)
          // A day that has a kept backup keeps its newest.
          expect(plan.keep.length).toBeGreaterThanOrEqual(
            Math.min(keep.daily, new Set(dates.map((date) => date.toISOString().slice(0, 10))).size),
          )
        },
      ),
    )
  })
})

describe('pruning a store', () => {
  const source = useTestDatabase({ template: 'template0' })
  let folder: string
  let ctx: Context

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'caretaker-prune-'))
    ctx = testContext(source.db, {
      config: defineConfig({ app: { name: 'Prune' }, backup: { encryption: 'none', keep: { daily: 1 } } }),
      objects: () => openObjectStore(`file://${folder}`, ctx.env),
    })
    await source.db.execute('create table t (a int)')
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('deletes what the policy no longer keeps, sweeps what failed, and leaves what is damaged or under way', async () => {
    const first = await backupDatabase(ctx)
    const second = await backupDatabase(ctx)
    const third = await backupDatabase(ctx)
    await writeFile(join(folder, 'backups', third.id, 'SHA256SUMS'), 'damaged')
    const store = await ctx.objects()
    await store.put('backups/20260101T000000Z-00000000/data/000001.copy.zst', Buffer.from('left by a kill'))

    const dry = await pruneBackups(ctx, { dryRun: true })
    expect(dry).toMatchObject({ removed: [first.id], swept: [], damaged: [third.id], kept: [{ id: second.id }] })
    expect(await listBackups(ctx)).toHaveLength(3)

    expect(await pruneBackups(ctx)).toMatchObject({ removed: [first.id], swept: [] })
    expect((await listBackups(ctx)).map((backup) => backup.id).sort()).toEqual([second.id, third.id].sort())

    const tomorrow = { ...ctx, clock: fixedClock(new Date(ctx.clock.now().getTime() + 25 * 3_600_000)) }
    expect(await pruneBackups(tomorrow)).toMatchObject({ removed: [], swept: ['20260101T000000Z-00000000'] })
    expect(await store.head('backups/20260101T000000Z-00000000/data/000001.copy.zst')).toBeNull()
  })

  test('without backup.keep nothing is deleted', async () => {
    await backupDatabase(ctx)
    const off = { ...ctx, config: defineConfig({ app: { name: 'Prune' }, backup: { encryption: 'none' } }) }
    expect((await pruneBackups(off)).removed).toEqual([])
  })

  test('full backups that increments go on from stay, as far back as any moment can be restored', async () => {
    const days = (count: number) => ({ id: `${count} days`, createdAt: new Date(now.getTime() - count * 86_400_000) })
    const backups = [0, 2, 6, 8, 9].map(days)
    const policy = {
      clock: fixedClock(now),
      config: defineConfig({ app: { name: 'Prune' }, backup: { encryption: 'none', increments: {} } }),
    }
    const plan = keepBases(policy, backups, planRetention(backups, { daily: 1 }, now))
    expect(plan.remove).toEqual(['9 days'])
    expect(plan.keep.map((one) => one.id).sort()).toEqual(['0 days', '2 days', '6 days', '8 days'])
  })
})
