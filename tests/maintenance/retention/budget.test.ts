import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { fixedClock } from '../../../lib/platform/clock.ts'
import { useTestDatabase } from '../../support/database.ts'
import { retentionRig } from './rig.ts'

describe('the budget of a retention rule', () => {
  const test = useTestDatabase()
  const { policy, counts, count, plan, sql } = retentionRig(test)

  beforeEach(() => test.db.execute('create schema if not exists public'))
  afterEach(async () => {
    await test.db.execute('drop schema public cascade')
    await test.db.execute('delete from caretaker.retention_positions')
  })

  /** 3,000 old rows and as many young ones, in turn: `walk` says by what they are found. */
  async function table(walk: 'pages' | 'index'): Promise<void> {
    await sql(
      `create table logs (id bigint not null, at timestamptz not null, note text)`,
      `insert into logs select n, now() - case when n % 2 = 0 then interval '1 day' else interval '60 days' + n % 7 * interval '1 hour' end, repeat('x', 200) from generate_series(1, 6000) n`,
      ...(walk === 'index'
        ? ['create index on logs (at)', `insert into logs select n, now(), repeat('x', 200) from generate_series(7001, 40000) n`]
        : []),
      'analyze logs',
    )
  }

  it.each(['pages', 'index'] as const)('takes exactly so many rows a run, and goes on where the last one ended, by %s', async (walk) => {
    await table(walk)
    const ctx = policy({ table: 'logs', column: 'at', olderThan: '30 days', action: 'purge', budget: { rows: 1_300 } })
    const left = 'the budget of 1300 rows is used up'
    for (const [due, taken] of [
      [3_000, 1_300],
      [1_700, 1_300],
      [400, 400],
    ] as const) {
      const [line] = await plan(ctx)
      expect(line).toMatchObject({ action: 'purge logs (at most 1300 rows a run)', count: taken })
      expect(line?.warnings ?? []).toEqual(due > 1_300 ? [`${due - 1_300} of ${due} rows are left to later runs`] : [])
      const done = (await counts(ctx))['purge logs']
      expect(done).toMatchObject({ rows: taken, ...(due > 1_300 ? { left } : {}) })
      expect(done?.left).toBe(due > 1_300 ? left : undefined)
      const positions = await test.db.query(`select rule, reason, position->'cursor'->>'walk' as walk from caretaker.retention_positions`)
      expect(positions).toEqual(due > 1_300 ? [{ rule: 'logs', reason: left, walk }] : [])
    }
    expect(await count(`logs where at < now() - interval '30 days'`)).toBe(0)
  })

  it('takes what has grown old behind it, too, when it comes to the end', async () => {
    await table('pages')
    const ctx = policy({ table: 'logs', column: 'at', olderThan: '30 days', action: 'purge', budget: { rows: 2_000 } })
    expect((await counts(ctx))['purge logs']).toMatchObject({ rows: 2_000 })
    // At the beginning of the table, which the first run has passed.
    await sql(`update logs set at = at - interval '90 days' where ctid in (select ctid from logs order by ctid limit 100)`)
    const [line] = await plan(ctx)
    expect(line?.count).toBe(1_100)
    expect((await counts(ctx))['purge logs']).toMatchObject({ rows: 1_100 })
    expect(await count('caretaker.retention_positions')).toBe(0)
  })

  it('ends when its time is over, at least one batch further each time', async () => {
    await table('pages')
    const clock = fixedClock(new Date())
    // Every look at the clock takes a tenth of a second.
    const slow = {
      ...clock,
      monotonicMs() {
        clock.advance(100)
        return clock.monotonicMs()
      },
    }
    const rule = { table: 'logs', column: 'at', olderThan: '30 days', action: 'purge' } as const
    const ctx = { ...policy({ ...rule, budget: { time: '3 seconds' } }), clock: slow }
    let rows = 0
    for (let runs = 1; rows < 3_000; runs++) {
      const done = (await counts(ctx))['purge logs']
      rows += Number(done?.rows)
      if (runs === 1) expect(done?.left).toBe('the budget of 3 seconds is used up')
      expect(done?.batches).toBeGreaterThan(0)
      expect(runs).toBeLessThan(30)
    }
    expect(rows).toBe(3_000)
  })

  it('is that of every rule where a rule has none, counts what goes along apart, and counts over hand-overs', async () => {
    await table('pages')
    await sql(
      'alter table logs add primary key (id)',
      'create table parts (log bigint references logs)',
      'create index on parts (log)',
      'insert into parts select id from logs, generate_series(1, 2)',
    )
    const { strictPolicy, job } = retentionRig(test)
    const ctx = strictPolicy([{ table: 'logs', column: 'at', olderThan: '30 days', action: 'purge', children: [{ table: 'parts' }] }], {
      budget: { rows: 1_500 },
      limits: { maxShare: 1 },
    })
    const lines = await plan(ctx)
    expect(lines.map(({ count: rows, estimated }) => [rows, estimated ?? false])).toEqual([
      [1_500, false],
      [6_000, true],
    ])
    const name = job()
    for (let asked = 0, takings = 0; ; asked = 0, takings++) {
      expect(takings).toBeLessThan(40)
      const done = await counts(ctx, { shouldHandOver: () => ++asked > 4 }, `budget ${name}`)
      if (done['purge logs'] === undefined) continue
      expect(takings).toBeGreaterThan(0)
      expect(done['purge logs']).toMatchObject({ rows: 1_500, childRows: 3_000 })
      break
    }
  })
})
