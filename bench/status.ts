import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { defineConfig } from '../lib/config/index.ts'
import { recordLooks } from '../lib/health/history/record.ts'
import { rollUpHealth } from '../lib/health/history/roll-up.ts'
import { statusHistory } from '../lib/health/index.ts'
import { fixedClock } from '../lib/platform/clock.ts'
import type { Context } from '../lib/platform/context.ts'
import { type Database, openDatabase } from '../lib/platform/db.ts'
import { readEnv } from '../lib/platform/env.ts'
import { createLog } from '../lib/platform/log.ts'
import { applyMigrations } from '../lib/platform/migrations.ts'
import { status } from '../lib/routes/status.ts'
import { startPostgres } from '../local/postgres.ts'
import { insertSyntheticLooks, insertSyntheticYear } from '../tests/health/synthetic-history.ts'
import { testServer } from '../tests/support/serve.ts'
import { percentile, printFigure } from './figures.ts'

/*
 * The status page over a year of history of fifty checks: how many statements, bytes and milliseconds it takes, the query
 * against reading the same rows as they lie; then what a look of the minute costs to store, against inserting its samples
 * alone, and what it takes to compute the day from two days of looks.
 */

const rounds = 60
const checks = Array.from({ length: 50 }, (_, n) => `check-${n}`)
const now = new Date('2026-11-21T12:00:00Z')

const directory = await mkdtemp(join(tmpdir(), 'caretaker-bench-'))
const server = await startPostgres({ directory })
try {
  const admin = openDatabase({ sessionUrl: server.url() })
  await admin.execute('create database bench')
  await admin.close()
  const db = openDatabase({ sessionUrl: server.url('bench'), maxConnections: 3 })
  await applyMigrations(db)
  const listed = Object.fromEntries(checks.map((name) => [name, { kind: 'url', url: `https://${name}.test/` }]))
  const clock = fixedClock(now)
  const ctx = {
    config: defineConfig({ app: { name: 'Bench' }, health: { checks: listed } }),
    env: readEnv({ CARETAKER_ENVIRONMENT: 'production' }),
    db,
    clock,
    log: createLog({ level: 'silent' }),
    limiter: { hit: (_key: string, limit: number) => Promise.resolve({ allowed: true, limit, remaining: limit, resetSeconds: 60 }) },
    fetch: globalThis.fetch,
  } as unknown as Context
  await insertSyntheticYear(db, 'production', ['', ...checks], now)
  await insertSyntheticLooks(db, 'production', checks, now)
  await db.execute('vacuum analyze caretaker.health_days, caretaker.health_samples')

  const asked: string[] = []
  const instance = (): Context => ({
    ...ctx,
    db: Object.assign(Object.create(db) as Database, {
      query: (sql: string, params: unknown[]) => {
        asked.push(sql)
        return db.query(sql, params)
      },
    }),
  })
  const page = async () => (await testServer(status(), instance()).request('/status')).text()
  const rows = () =>
    db.query(
      `select check_name, day, up_s, down_s, maintenance_s, unknown_s, p50_ms, p95_ms from caretaker.health_days
       where environment = 'production' and day > $1::date - 90 and day <= $1::date`,
      [now],
    )
  const times: Record<'query' | 'yardstick' | 'page', number[]> = { query: [], yardstick: [], page: [] }
  for (let round = -5; round < rounds; round++) {
    const one = {
      yardstick: await time(rows),
      query: await time(() => statusHistory(ctx, { days: 90 })),
      page: await time(page),
    }
    if (round >= 0) for (const name of ['query', 'yardstick', 'page'] as const) times[name].push(one[name])
  }
  const p50 = (name: keyof typeof times) => percentile(times[name], 50)
  const bench = 'status'
  printFigure({ bench, figure: 'the 4,590 days as rows, as they lie, p50', value: p50('yardstick'), unit: 'ms' })
  printFigure({ bench, figure: 'the history of 50 checks × 90 days, p50', value: p50('query'), unit: 'ms' })
  printFigure({
    bench,
    figure: 'the history against the rows as they lie',
    value: p50('query') / p50('yardstick'),
    unit: '×',
    budget: 2,
    holds: p50('query') <= 2 * p50('yardstick'),
  })
  printFigure({ bench, figure: 'the page, made anew, p50', value: p50('page'), unit: 'ms' })

  asked.length = 0
  const markup = await page()
  const ofHistory = asked.filter((sql) => sql.includes('caretaker.health_')).length
  printFigure({
    bench,
    figure: 'queries of the history for one page',
    value: ofHistory,
    unit: 'queries',
    budget: 1,
    holds: ofHistory === 1,
  })
  printFigure({ bench, figure: 'queries in all, incidents and maintenance among them', value: asked.length, unit: 'queries' })
  const bytes = Buffer.byteLength(markup)
  printFigure({ bench, figure: 'the page', value: bytes / 1_000, unit: 'kB', budget: 50, holds: bytes <= 50_000 })
  printFigure({ bench, figure: 'the page, compressed', value: gzipSync(markup).length / 1_000, unit: 'kB' })

  const looks = ['', ...checks].map((check) => ({ check, status: 'up' as const, cause: null, durationMs: 20 }))
  const stored: number[] = []
  const bare: number[] = []
  for (let minute = 1; minute <= 60; minute++) {
    clock.advance(60_000)
    stored.push(await time(() => recordLooks(ctx, looks)))
    bare.push(await time(() => insertAlone(db, checks, clock.now())))
  }
  printFigure({ bench, figure: 'a look at 50 checks stored, p50', value: percentile(stored, 50), unit: 'ms' })
  printFigure({ bench, figure: 'its samples inserted and nothing else, p50', value: percentile(bare, 50), unit: 'ms' })
  await db.execute('delete from caretaker.health_days where day >= $1::date', [now])
  printFigure({ bench, figure: 'the day computed from its looks', value: await time(() => rollUpHealth(ctx)), unit: 'ms' })
  await db.close()
} finally {
  await server.stop()
  await rm(directory, { recursive: true, force: true })
}

function insertAlone(db: Database, names: readonly string[], at: Date): Promise<number> {
  return db.transaction((tx) =>
    tx.execute(
      `insert into caretaker.health_samples (environment, check_name, at, status, duration_ms)
       select 'yardstick', name, $2::timestamptz, 'up', 20 from unnest($1::text[]) as name`,
      [names, at],
    ),
  )
}

async function time(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}
