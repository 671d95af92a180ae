import { beforeEach, describe, expect, it } from 'vitest'
import { useTestDatabase } from '../../support/database.ts'

describe('caretaker.uptime', () => {
  const test = useTestDatabase()
  beforeEach(() => test.db.execute('delete from caretaker.runs'))

  /** Looks at the given minutes after ten o'clock: h healthy, d degraded, u unhealthy, f a run that failed. */
  const looks = async (...at: [minute: number, status: string][]) => {
    const names: Record<string, string> = { h: 'healthy', d: 'degraded', u: 'unhealthy' }
    for (const [minute, status] of at)
      await test.db.execute(
        `insert into caretaker.runs (job, slot, actor, state, result, finished_at)
         values ('health', '2026-10-01T10:00:00Z'::timestamptz + $1::float8 * interval '1 minute', '{}', $2, $3::jsonb,
                 '2026-10-01T10:00:00Z'::timestamptz + $1::float8 * interval '1 minute')`,
        [minute, status === 'f' ? 'failed' : 'done', status === 'f' ? null : JSON.stringify({ status: names[status] })],
      )
  }
  const uptime = async (from: number, to: number, validFor = '10 minutes') => {
    const [row] = await test.db.query<{ up: number; down: number; unknown: number; at_least: string | null; at_most: string | null }>(
      `select extract(epoch from up)::float8 / 60 as up, extract(epoch from down)::float8 / 60 as down,
              extract(epoch from unknown)::float8 / 60 as unknown, at_least, at_most
       from caretaker.uptime('2026-10-01T10:00:00Z'::timestamptz + $1::int * interval '1 minute',
                             '2026-10-01T10:00:00Z'::timestamptz + $2::int * interval '1 minute', $3::interval)`,
      [from, to, validFor],
    )
    return row
  }

  it('counts what nobody looked at as neither up nor down', async () => {
    await looks([0, 'h'], [5, 'h'], [10, 'u'], [15, 'd'], [20, 'h'])
    // The last look holds for ten minutes; the other half of the hour is unknown.
    expect(await uptime(0, 60)).toEqual({ up: 25, down: 5, unknown: 30, at_least: '41.666', at_most: '91.666' })
  })

  it('knows nothing where nobody looked', async () => {
    expect(await uptime(0, 60)).toEqual({ up: 0, down: 0, unknown: 60, at_least: '0.000', at_most: '100.000' })
    expect(await uptime(0, 0)).toMatchObject({ at_least: null, at_most: null })
  })

  it('begins with the look before the period, and ends with the period', async () => {
    await looks([-4, 'u'], [3, 'h'], [58, 'h'])
    expect(await uptime(0, 60)).toEqual({ up: 12, down: 3, unknown: 45, at_least: '20.000', at_most: '95.000' })
    expect(await uptime(0, 60, '1 hour')).toEqual({ up: 57, down: 3, unknown: 0, at_least: '95.000', at_most: '95.000' })
  })

  it('takes a run that failed for no look at all', async () => {
    await looks([0, 'h'], [5, 'f'], [9, 'u'])
    expect(await uptime(0, 20)).toEqual({ up: 9, down: 10, unknown: 1, at_least: '45.000', at_most: '50.000' })
  })

  it('does not count what is still to come', async () => {
    await test.db.execute(
      `insert into caretaker.runs (job, slot, actor, state, result, finished_at) select 'health', at, '{}', 'done', '{"status":"healthy"}', at
       from generate_series(now() - interval '1 hour', now(), interval '5 minutes') at`,
    )
    const [row] = await test.db.query<{ at_least: number; total: number }>(
      `select at_least::float8, extract(epoch from up + down + unknown)::float8 as total
       from caretaker.uptime(now() - interval '30 minutes', now() + interval '30 days')`,
    )
    expect(row).toEqual({ at_least: 100, total: 1800 })
  })

  it('adds up, whatever the looks are: the parts are the whole', async () => {
    await looks(...Array.from({ length: 40 }, (_, i): [number, string] => [i * 7 + (i % 3), ['h', 'd', 'u', 'f'][(i * 5) % 4] as string]))
    const whole = await uptime(0, 300)
    const parts = await Promise.all([uptime(0, 60), uptime(60, 137), uptime(137, 300)])
    for (const figure of ['up', 'down', 'unknown'] as const)
      expect(parts.reduce((sum, part) => sum + (part?.[figure] ?? 0), 0)).toBeCloseTo(whole?.[figure] ?? -1, 6)
  })

  it('tells nothing to a role that may not read the runs', async () => {
    await test.db.execute(`do $$ begin create role stranger; exception when duplicate_object then null; end $$`)
    await test.db.execute('grant usage on schema caretaker to stranger')
    await expect(
      test.db.transaction(async (tx) => {
        await tx.execute('set local role stranger')
        await tx.query(`select * from caretaker.uptime(now(), now())`)
      }),
    ).rejects.toMatchObject({ code: '42501' })
  })
})
