import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { PlanLine } from '../../../lib/platform/job.ts'
import { useTestDatabase } from '../../support/database.ts'
import { retentionRig } from './rig.ts'
import { mulberry32 } from './traffic.ts'

const tables = [
  'orders',
  'order_items',
  'orders_archive',
  'items_archive',
  'events',
  'metrics',
  'metrics_archive',
  'cache',
  'logs',
  'logs_archive',
  'feedback',
  'visits',
]

describe('the plan of retention', () => {
  const test = useTestDatabase()
  const { policy, counts, plan, sql, count } = retentionRig(test)

  beforeEach(() => test.db.execute('create schema if not exists public'))
  afterEach(async () => {
    await test.db.execute('drop schema public cascade')
    await test.db.execute('delete from caretaker.retention_positions')
  })

  /** Every kind of rule, over rows whose ages and ties come from `seed`. */
  async function database(seed: number): Promise<void> {
    const random = mulberry32(seed)
    const some = (most: number) => Math.floor(random() * most) + 1
    const age = (days: number) =>
      `now() - (('x' || substr(md5(n::text || '${seed}'), 1, 6))::bit(24)::int % ${days}) * interval '1 day' - interval '1 hour'`
    const months = async (table: string) => {
      for (let back = 8; back >= -1; back--)
        await test.db.execute(
          `do $$ begin execute format('create table ${table}_%s partition of ${table} for values from (%L) to (%L)', ${8 - back},
             date_trunc('month', now()) - interval '${back} months', date_trunc('month', now()) - interval '${back - 1} months'); end $$`,
        )
    }
    await sql(
      'create table orders (id bigint primary key, at timestamptz not null)',
      'create table order_items (id bigint primary key, order_id bigint not null references orders)',
      'create index on order_items (order_id)',
      'create table orders_archive (like orders)',
      'create table items_archive (like order_items)',
      `insert into orders select n, ${age(900)} from generate_series(1, ${some(300)}) n`,
      `insert into order_items select n, (select min(id) + n % count(*) from orders) from generate_series(1, ${some(900)}) n`,
      'create table events (id bigint, at timestamptz not null) partition by range (at)',
      'create table metrics (id bigint, at timestamptz not null) partition by range (at)',
      'create table metrics_archive (id bigint, at timestamptz not null) partition by range (at)',
    )
    await months('events')
    await months('metrics')
    await sql(
      `insert into events select n, ${age(200)} from generate_series(1, ${some(500)}) n`,
      `insert into metrics select n, ${age(200)} from generate_series(1, ${some(500)}) n`,
      // The month in which the cut-off lies goes by rows: the archive needs a place for them.
      `do $$ begin execute format('create table metrics_archive_middle partition of metrics_archive for values from (%L) to (%L)',
         date_trunc('month', now() - interval '4 months'), date_trunc('month', now() - interval '4 months') + interval '1 month'); end $$`,
      'create table cache (key text, expires_at timestamptz)',
      `insert into cache select n, ${age(20)} + interval '10 days' from generate_series(1, ${some(300)}) n`,
      'create table logs (id bigint, at timestamptz, level int)',
      'create index on logs (at)',
      'create table logs_archive (like logs)',
      `insert into logs select n, ${age(400)}, n % 3 from generate_series(1, ${some(3_000)}) n`,
      `insert into logs_archive select -n, ${age(900)}, n % 3 from generate_series(1, ${some(500)}) n`,
      'create table feedback (id bigint, at timestamptz, text text, done boolean)',
      `insert into feedback select n, ${age(600)}, 'x', case n % 3 when 0 then true when 1 then false end from generate_series(1, ${some(400)}) n`,
      'create table visits (id bigint, at timestamptz, who text)',
      `insert into visits select n, ${age(600)}, 'x' from generate_series(1, ${some(2_000)}) n`,
      'analyze',
    )
  }

  const rules = (rows: number) =>
    policy(
      {
        table: 'orders',
        column: 'at',
        olderThan: '1 year',
        action: { archiveTo: 'orders_archive' },
        children: [{ table: 'order_items', action: { archiveTo: 'items_archive' } }],
      },
      { table: 'events', column: 'at', olderThan: '3 months', action: 'purge', partitions: { interval: 'month', ahead: '4 months' } },
      { table: 'metrics', column: 'at', olderThan: '4 months', action: { archiveTo: 'metrics_archive' } },
      { table: 'cache', where: 'expires_at < now()', action: 'purge' },
      { name: 'debug', table: 'logs', where: `level = 0 and at < now() - interval '90 days'`, action: 'purge' },
      { table: 'logs', column: 'at', olderThan: '6 months', action: { archiveTo: 'logs_archive' } },
      { name: 'end', table: 'logs_archive', column: 'at', olderThan: '1 year', action: 'purge' },
      { table: 'feedback', column: 'at', olderThan: '1 year', action: { anonymise: { text: '-' } }, mark: 'done' },
      { table: 'visits', column: 'at', olderThan: '1 year', action: 'purge', budget: { rows } },
    )

  /** What each table holds, by what it held and the lines of the plan. */
  function predicted(before: Map<string, number>, lines: readonly PlanLine[]): Map<string, number> {
    const after = new Map(before)
    const add = (table: string, rows: number) => after.set(table, (after.get(table) ?? 0) + rows)
    for (const { action, target, count: rows, unit } of lines) {
      if (unit !== 'rows' || action.startsWith('anonymise')) continue
      add(target, -(rows ?? 0))
      const archive = / to (\w+)/.exec(action)?.[1]
      if (archive !== undefined) add(archive, rows ?? 0)
    }
    return after
  }

  it.each([1, 2])('says exactly what the run then does, every rule after the others (seed %i)', async (seed) => {
    await database(seed)
    const held = async () =>
      new Map(await Promise.all(tables.map(async (table): Promise<[string, number]> => [table, (await count(table)) ?? 0])))
    for (let round = 0; round < 2; round++) {
      const ctx = rules(200)
      const before = await held()
      const lines = await plan(ctx)
      expect(lines.filter((line) => line.estimated === true)).toEqual([])
      expect(lines.flatMap((line) => line.warnings ?? []).filter((warning) => !/left to later runs$/.test(warning))).toEqual([])
      if (round === 0)
        for (const kind of ['drop partition', 'move partition', 'create partition', 'archive order_items with orders', 'anonymise'])
          expect([kind, lines.some(({ action }) => action.startsWith(kind))]).toEqual([kind, true])
      const done = await counts(ctx)
      expect(await held()).toEqual(predicted(before, lines))
      // The same, as the run itself counts it.
      const planned = lines.filter(({ unit }) => unit === 'rows').reduce((sum, line) => sum + (line.count ?? 0), 0)
      const counted = Object.values(done).reduce((sum, { rows, childRows }) => sum + Number(rows) + Number(childRows ?? 0), 0)
      expect(counted).toBe(planned)
      const made = lines.filter(({ action }) => action.startsWith('create partition')).length
      expect(done['purge events']?.partitionsCreated ?? 0).toBe(made)
      expect(round === 0 ? made : 3).toBeGreaterThan(2)
    }
  })
})
