import { describe, expect, it } from 'vitest'
import { recordLooks } from '../../lib/health/history/record.ts'
import { rollUpHealth } from '../../lib/health/history/roll-up.ts'
import type { HistoryStatus } from '../../lib/health/history/status.ts'
import { statusHistory } from '../../lib/health/index.ts'
import { useTestDatabase } from '../support/database.ts'
import { healthContext } from './support.ts'

const test = useTestDatabase()
const minute = 60_000
const day = 86_400_000

function watcher(at: string) {
  const ctx = healthContext(test.db, { health: { checks: { a: { kind: 'dns' }, b: { kind: 'dns' } } } })
  ctx.clock.advance(new Date(at).getTime() - ctx.clock.now().getTime())
  /** Looks every minute for so long, then rolls up. */
  const looks = async (minutes: number, status: HistoryStatus, durationMs: (n: number) => number = () => 10) => {
    for (let n = 0; n < minutes; n++) {
      await recordLooks(ctx, [{ check: 'a', status, cause: null, durationMs: durationMs(n) }])
      ctx.clock.advance(minute)
    }
  }
  return { ctx, looks }
}

describe('a day', () => {
  it('is made of seconds of each status and of exact percentiles, however often it is computed', async () => {
    const { ctx, looks } = watcher('2026-11-20T23:00:00Z')
    await looks(30, 'up', (n) => n + 1)
    await looks(10, 'down')
    await looks(20, 'maintenance')
    await rollUpHealth(ctx)
    const { checks, now, from } = await statusHistory(ctx, { days: 2 })
    expect([from, now]).toEqual([new Date('2026-11-20T00:00:00Z'), new Date('2026-11-21T00:00:00Z')])
    expect(checks[0]).toMatchObject({
      check: 'a',
      status: 'maintenance',
      days: [{ up: 1800, down: 600, maintenance: 1200, unknown: 0, p50: 15, p95: 29 }, null],
      uptime: { atLeast: 75, atMost: 75 },
    })
    expect(checks[1]).toMatchObject({ check: 'b', status: 'unknown', since: null, days: [null, null], uptime: null })
    // Midnight is the next day's; the one before is finished with its last seconds.
    await looks(6, 'up')
    await rollUpHealth(ctx)
    expect((await statusHistory(ctx, { days: 2 })).checks[0]?.days).toMatchObject([
      { up: 1800, down: 600, maintenance: 1200, unknown: 0 },
      { up: 360, down: 0, maintenance: 0, unknown: 0, p50: 10 },
    ])
    expect(await rollUpHealth(ctx)).toBe(0)
  })

  it('that nobody looked at is unknown, as are those between, and the bound says so', async () => {
    const { ctx, looks } = watcher('2026-11-18T11:57:00Z')
    await looks(3, 'up')
    await rollUpHealth(ctx)
    ctx.clock.advance(2 * day)
    await looks(1, 'up')
    await rollUpHealth(ctx)
    const [a] = (await statusHistory(ctx, { days: 4 })).checks
    // The last look was valid for three minutes.
    const upOnTheFirst = 3 * 60 + 2 * 60
    expect(a?.days).toMatchObject([
      null,
      { up: upOnTheFirst, unknown: 12 * 3600 - 120 },
      { up: 0, unknown: day / 1_000 },
      { up: 60, unknown: 12 * 3600 },
    ])
    expect(a?.uptime?.atMost).toBe(100)
    expect(a?.uptime?.atLeast).toBeCloseTo(((upOnTheFirst + 60) / (2 * 86_400 + 240)) * 100, 2)
  })

  it('keeps its percentiles when its looks are gone', async () => {
    const { ctx, looks } = watcher('2026-11-21T01:00:00Z')
    await looks(10, 'up', () => 42)
    await rollUpHealth(ctx)
    await test.db.execute('delete from caretaker.health_samples')
    ctx.clock.advance(10 * minute)
    expect(await rollUpHealth(ctx)).toBeGreaterThan(0)
    expect((await statusHistory(ctx, { days: 1 })).checks[0]?.days).toMatchObject([{ p50: 42, p95: 42 }])
  })

  it.each(['Europe/Berlin', 'America/New_York'])('is 24 hours of UTC where the session is in %s and the clocks change', async (zone) => {
    const { ctx, looks } = watcher('2026-10-24T23:59:00Z')
    await looks(1, 'up')
    await test.db.execute(`update caretaker.health_states set valid_until = '2026-11-03T00:00:00Z' where environment = $1`, [
      ctx.env.CARETAKER_ENVIRONMENT,
    ])
    ctx.clock.advance(9 * day)
    await test.db.execute(`alter database "${test.name}" set timezone = '${zone}'`)
    const { openDatabase } = await import('../../lib/platform/db.ts')
    const db = openDatabase({ sessionUrl: test.url })
    await rollUpHealth({ ...ctx, db })
    const days = (await statusHistory({ ...ctx, db }, { days: 11 })).checks[0]?.days.slice(0, 10)
    await db.close()
    await test.db.execute(`alter database "${test.name}" reset timezone`)
    expect(days?.map((one) => one?.up)).toEqual([60, ...Array.from({ length: 9 }, () => 86_400)])
  })
})

it('the bound of the whole is what caretaker.uptime says', async () => {
  const { ctx } = watcher('2026-11-21T00:00:00Z')
  for (const status of ['up', 'up', 'down', 'maintenance', 'up'] as const) {
    await recordLooks(ctx, [{ check: '', status, cause: null, durationMs: null }])
    ctx.clock.advance(minute)
  }
  ctx.clock.advance(55 * minute)
  await rollUpHealth(ctx)
  const { whole } = await statusHistory(ctx, { days: 1 })
  expect(whole.days).toMatchObject([{ up: 5 * 60, down: 60, maintenance: 60, unknown: 53 * 60 }])
  const [sql] = await test.db.query<Record<string, number>>(
    `select extract(epoch from up)::float8 as up, extract(epoch from down)::float8 as down, extract(epoch from unknown)::float8 as unknown,
       at_least::float8 as "atLeast", at_most::float8 as "atMost"
     from caretaker.uptime('2026-11-21T00:00:00Z', '2026-11-21T01:00:00Z', of_environment => $1)`,
    [ctx.env.CARETAKER_ENVIRONMENT],
  )
  expect(sql).toEqual({ up: 300, down: 60, unknown: 53 * 60, ...whole.uptime })
})

it('what is too old goes, and the last change before it stays', async () => {
  const { ctx, looks } = watcher('2026-11-21T12:00:00Z')
  const environment = ctx.env.CARETAKER_ENVIRONMENT
  await test.db.execute(
    `insert into caretaker.health_changes (environment, check_name, at, status)
     select $1, 'a', at::timestamptz, 'up' from unnest(array['2024-01-01', '2024-02-01', '2024-12-01']) as at`,
    [environment],
  )
  await test.db.execute(
    `insert into caretaker.health_samples (environment, check_name, at, status) values ($1, 'a', '2026-11-19T11:59:00Z', 'up')`,
    [environment],
  )
  const window = (title: string, endsAt: string) =>
    test.db.execute(
      `insert into caretaker.maintenance_windows (environment, title, starts_at, ends_at, created_by)
       values ('a-preview-that-is-gone', $1, '2024-01-01', $2::timestamptz, '{"type":"cli"}')`,
      [title, endsAt],
    )
  await window('long ago', '2024-11-20')
  await window('within two years', '2024-11-22')
  await looks(1, 'up')
  await rollUpHealth(ctx)
  expect(await test.db.query('select title from caretaker.maintenance_windows')).toEqual([{ title: 'within two years' }])
  const kept = await test.db.query<{ at: string }>(
    `select at::date::text as at from caretaker.health_changes where environment = $1 order by at`,
    [environment],
  )
  expect(kept.map(({ at }) => at)).toEqual(['2024-02-01', '2024-12-01', '2026-11-21'])
  expect(await test.db.query('select at from caretaker.health_samples where environment = $1', [environment])).toEqual([
    { at: new Date('2026-11-21T12:00:00Z') },
  ])
})
