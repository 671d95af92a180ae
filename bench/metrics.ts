import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from '../lib/config/index.ts'
import { serveRoutes } from '../lib/http/index.ts'
import { json, route } from '../lib/http/route.ts'
import { Batch } from '../lib/metrics/batch.ts'
import { measure, measureSeries, performanceReport, prometheusText } from '../lib/metrics/index.ts'
import { createRecorder } from '../lib/metrics/recorder.ts'
import { rollUp } from '../lib/metrics/roll-up.ts'
import { storeBatch } from '../lib/metrics/store-batch.ts'
import { systemClock } from '../lib/platform/clock.ts'
import type { Context } from '../lib/platform/context.ts'
import { openDatabase } from '../lib/platform/db.ts'
import { readEnv } from '../lib/platform/env.ts'
import { createLog } from '../lib/platform/log.ts'
import { applyMigrations } from '../lib/platform/migrations.ts'
import { startPostgres } from '../local/postgres.ts'
import { percentile, printFigure } from './figures.ts'

/*
 * What a figure costs: a request that is counted against one that is not; a flush against a bare upsert of as many rows;
 * and reading them over a week of minutes of 100 series.
 */

const series = 100
const environment = 'bench'

const directory = await mkdtemp(join(tmpdir(), 'caretaker-bench-'))
const server = await startPostgres({ directory })
try {
  const admin = openDatabase({ sessionUrl: server.url() })
  await admin.execute('create database bench')
  await admin.close()
  const db = openDatabase({ sessionUrl: server.url('bench'), maxConnections: 5 })
  await applyMigrations(db)
  const ctx = {
    config: defineConfig({ app: { name: 'Bench' } }),
    env: readEnv({ CARETAKER_ENVIRONMENT: environment }),
    db,
    clock: systemClock,
    log: createLog({ level: 'silent' }),
    actor: { type: 'system' },
    sentry: { capture: () => undefined, flush: () => Promise.resolve(true) },
  } as unknown as Context

  await recording(ctx)
  await flushing(ctx)
  await reading(ctx)
  await db.close()
} finally {
  await server.stop()
  await rm(directory, { recursive: true, force: true })
}

/** A handler that does nothing, counted and not counted, in turns. */
async function recording(ctx: Context): Promise<void> {
  const routes = [
    route({ methods: ['GET'], path: '/x/:id', summary: '', auth: 'public', limit: 'none', handle: () => Promise.resolve(json({})) }),
  ]
  const recorder = createRecorder(() => ctx)
  const open = () => ctx
  const bare = serveRoutes(routes, open)
  const counted = serveRoutes(routes, open, (answered, invocation) => recorder.record(answered, (work) => invocation.waitUntil(work)))
  const invocation = { clientAddress: '', deadline: new Date(8.64e15), waitUntil: () => undefined }
  const rounds = 2_000
  const round = async (handle: typeof bare) => {
    const started = performance.now()
    for (let n = 0; n < rounds; n++) await handle(new Request(`https://bench.example/x/${n}`), invocation)
    return ((performance.now() - started) * 1_000) / rounds
  }
  const times = { bare: [] as number[], counted: [] as number[] }
  for (let n = -2; n < 12; n++) {
    const both = [await round(bare), await round(counted)] as const
    if (n < 0) continue
    times.bare.push(both[0])
    times.counted.push(both[1])
  }
  await recorder.flush()
  const [without, withIt] = [percentile(times.bare, 50), percentile(times.counted, 50)]
  printFigure({ bench: 'metrics', figure: 'a request of a handler that does nothing, p50', value: without, unit: 'µs' })
  const cost = Math.max(0, withIt - without)
  printFigure({ bench: 'metrics', figure: 'counting it, p50', value: cost, unit: 'µs', budget: 20, holds: cost <= 20 })
}

/** What an instance flushes after a busy moment: 10 routes, a counter and a histogram of 50 observations each. */
async function flushing({ db }: Context): Promise<void> {
  const batchOf = () => {
    const batch = new Batch()
    const now = systemClock.now()
    for (let n = 0; n < 10; n++) {
      const labels = { service: 'caretaker', method: 'GET', route: `/flush/${n}`, status: '200' }
      for (let count = 0; count < 50; count++) {
        batch.add({ name: 'http_requests_total', labels, kind: 'counter', source: 'caretaker' }, 1, now)
        batch.add({ name: 'http_request_duration_seconds', labels, kind: 'histogram', source: 'caretaker' }, 0.01 + Math.random(), now)
      }
    }
    return batch
  }
  await db.execute('create table bare (series bigint, at timestamptz, count bigint, sum float8, primary key (series, at))')
  const rows = JSON.stringify(Array.from({ length: 20 }, (_, n) => ({ series: n, count: 50, sum: 25 })))
  const known = new Map<string, string>()
  const ours: number[] = []
  const bare: number[] = []
  for (let n = -10; n < 200; n++) {
    const batch = batchOf()
    const both = [
      await time(() => storeBatch(db, environment, batch, { now: systemClock.now(), known })),
      await time(() =>
        db.execute(
          `insert into bare select series, date_trunc('minute', now()), count, sum from jsonb_to_recordset($1::jsonb) as r(series bigint, count bigint, sum float8)
           on conflict (series, at) do update set count = bare.count + excluded.count, sum = bare.sum + excluded.sum`,
          [rows],
        ),
      ),
    ] as const
    if (n < 0) continue
    ours.push(both[0])
    bare.push(both[1])
  }
  const [flush, upsert] = [percentile(ours, 50), percentile(bare, 50)]
  printFigure({ bench: 'metrics', figure: 'a bare upsert of 20 rows, p50', value: upsert, unit: 'ms' })
  printFigure({
    bench: 'metrics',
    figure: 'a flush of 20 series with 500 observations in buckets, against it, p50',
    value: flush / upsert,
    unit: '×',
    budget: 4,
    holds: flush / upsert <= 4,
  })
}

/** A week of minutes of 50 counters and 50 histograms, and what it takes to ask them. */
async function reading(ctx: Context): Promise<void> {
  await ctx.db.execute(
    `insert into caretaker.metric_series (environment, name, labels, kind, source)
     select $1::text, case when n % 2 = 0 then 'http_requests_total' else 'http_request_duration_seconds' end,
       jsonb_build_object('service', 'caretaker', 'method', 'GET', 'route', '/r/' || n / 2, 'status', case when n % 20 = 0 then '500' else '200' end),
       case when n % 2 = 0 then 'counter' else 'histogram' end, 'caretaker'
     from generate_series(1, $2::int) n`,
    [environment, series],
  )
  await ctx.db.execute(
    `insert into caretaker.metric_points (series, at, count, sum, min, max, last, buckets, counts)
     select s.id, at, 20, 20, 0.01, 2, 1, case when s.kind = 'histogram' then buckets.list end, case when s.kind = 'histogram' then array_fill(2::bigint, array[10]) end
     from caretaker.metric_series s, generate_series(date_trunc('minute', now()) - interval '7 days', date_trunc('minute', now()) - interval '1 minute', '1 minute') at,
       lateral (select array_agg(25 + n * 5 + (extract(epoch from at)::int / 60 + s.id::int) % 5) as list from generate_series(0, 9) n) buckets
     where s.labels ->> 'route' like '/r/%'`,
  )
  await ctx.db.execute('analyze caretaker.metric_points, caretaker.metric_series')
  const rolled = await time(() => rollUp(ctx))
  printFigure({ bench: 'metrics', figure: `summing up a week of ${series} series, all hours of it`, value: rolled / 1_000, unit: 's' })
  const now = systemClock.now()
  const five = { metric: 'http.p95', overSeconds: 300 }
  await repeated('p95 of five minutes', () => measure(ctx, five, now), 50)
  await repeated('error rate of five minutes', () => measure(ctx, { metric: 'http.error_rate', overSeconds: 300 }, now), 50)
  await repeated('p95 of a day', () => measure(ctx, { metric: 'http.p95', overSeconds: 86_400 }, now))
  await repeated('performance of a day by route', () => performanceReport(ctx, { from: new Date(now.getTime() - 86_400_000), to: now }))
  const plot = (hours: number, stepSeconds: number) => () =>
    measureSeries(
      ctx,
      { metric: 'http.p95', overSeconds: stepSeconds },
      { from: new Date(now.getTime() - hours * 3_600_000), to: now, stepSeconds },
    )
  await repeated('a plot of p95, a day by quarters of an hour,', plot(24, 900))
  await repeated('a plot of p95, a week by two hours,', plot(167, 7_200))
  await repeated('GET /metrics', () => prometheusText(ctx))
}

async function repeated(figure: string, work: () => Promise<unknown>, budget?: number): Promise<void> {
  const times: number[] = []
  for (let n = 0; n < 15; n++) times.push(await time(work))
  const value = percentile(times, 50)
  printFigure({
    bench: 'metrics',
    figure: `${figure} over a week of ${series} series, p50`,
    value,
    unit: 'ms',
    ...(budget === undefined ? {} : { budget, holds: value <= budget }),
  })
}

async function time(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}
