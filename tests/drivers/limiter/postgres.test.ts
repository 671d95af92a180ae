import { describe, expect, it } from 'vitest'
import { openLimiter } from '../../../lib/drivers/limiter/index.ts'
import { postgresLimiter } from '../../../lib/drivers/limiter/postgres.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { rateLimiterConformance } from '../../conformance/limiter.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()

rateLimiterConformance(() => postgresLimiter(test.db, { now: () => new Date() }))

describe('postgresLimiter', () => {
  it("goes by the database's clock by itself", async () => {
    const limiter = postgresLimiter(test.db)
    for (let hit = 0; hit < 4; hit++)
      expect(await limiter.hit('clock', 1_000, 86_400)).toMatchObject({ allowed: true, remaining: 999 - hit })
  })

  it('sweeps what has expired, and nothing that still counts', async () => {
    await test.db.execute('truncate caretaker.rate_limits')
    let now = new Date('2026-11-21T10:00:00Z')
    const limiter = postgresLimiter(test.db, { now: () => now, sweepChance: 1 })
    await limiter.hit('short', 5, 10)
    await limiter.hit('long', 5, 3_600)
    now = new Date('2026-11-21T10:00:19Z')
    await limiter.hit('other', 5, 10)
    const keys = () => test.db.query('select key from caretaker.rate_limits order by key')
    expect(await keys()).toEqual([{ key: '10:other' }, { key: '10:short' }, { key: '3600:long' }])
    now = new Date('2026-11-21T10:00:21Z')
    await limiter.hit('other', 5, 10)
    expect(await keys()).toEqual([{ key: '10:other' }, { key: '10:other' }, { key: '3600:long' }])
  })

  it('throws when the database is away, so that the route decides', async () => {
    const db = openDatabase({ sessionUrl: 'postgres://nobody@127.0.0.1:1/none' })
    await expect(postgresLimiter(db).hit('a', 1, 1)).rejects.toMatchObject({ code: 'database_unavailable' })
    await db.close()
  })
})

describe('openLimiter', () => {
  it('counts in PostgreSQL without Upstash, and stores no key in the clear', async () => {
    for (const env of [readEnv({}), readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32) })]) {
      const limiter = openLimiter(env, test.db)
      expect((await limiter.hit('ip:203.0.113.77', 1, 60)).allowed).toBe(true)
      expect((await limiter.hit('ip:203.0.113.77', 1, 60)).allowed).toBe(false)
    }
    const rows = await test.db.query<{ key: string }>('select key from caretaker.rate_limits')
    expect(rows.map((row) => row.key).join()).not.toContain('203.0')
    // Without the key nobody can try addresses until one fits.
    expect(new Set(rows.map((row) => row.key).filter((key) => key.startsWith('60:'))).size).toBe(2)
  })

  it.each([
    [0, 60],
    [1.5, 60],
    [Number.NaN, 60],
    [5, 0],
    [5, 0.5],
    [5, 86_401],
  ])('refuses a limit of %d in %d seconds', async (limit, seconds) => {
    await expect(openLimiter(readEnv({}), test.db).hit('a', limit, seconds)).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringContaining('expected a whole number'),
    })
  })
})
