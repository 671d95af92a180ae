import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from '../lib/config/index.ts'
import { reportHealth } from '../lib/health/index.ts'
import { systemClock } from '../lib/platform/clock.ts'
import type { Context } from '../lib/platform/context.ts'
import { openDatabase } from '../lib/platform/db.ts'
import { readEnv } from '../lib/platform/env.ts'
import { createLog } from '../lib/platform/log.ts'
import { applyMigrations } from '../lib/platform/migrations.ts'
import { startPostgres } from '../local/postgres.ts'
import { percentile, printFigure } from './figures.ts'

/*
 * The whole report against its slowest check alone: that one takes 60 ms, as a provider across an ocean does. Every report
 * is made anew, snapshot statement, lease and storing included. Then what a caller waits for within the snapshot's age,
 * and how often a dependency is touched when 500 ask at once.
 */

const rounds = 40
const slowestMs = 60

const directory = await mkdtemp(join(tmpdir(), 'caretaker-bench-'))
const server = await startPostgres({ directory })
let touched = 0
const provider = createServer((request, response) => {
  touched++
  setTimeout(() => response.end('ok'), Number(new URL(request.url ?? '/', 'http://provider').searchParams.get('ms')))
})
try {
  provider.listen(0, '127.0.0.1')
  await once(provider, 'listening')
  const { port } = provider.address() as { port: number }
  const admin = openDatabase({ sessionUrl: server.url() })
  await admin.execute('create database bench')
  await admin.close()
  const db = openDatabase({ sessionUrl: server.url('bench'), maxConnections: 5 })
  await applyMigrations(db)
  const page = (ms: number) => ({ kind: 'url', url: `http://127.0.0.1:${port}/?ms=${ms}` })
  const checks = {
    database: {},
    rls: {},
    slow: page(slowestMs),
    a: page(5),
    b: page(10),
    c: page(20),
    d: page(30),
    e: page(40),
    f: page(50),
  }
  const ctx = {
    config: defineConfig({ app: { name: 'Bench' }, health: { checks } }),
    env: readEnv({}),
    db,
    clock: systemClock,
    log: createLog({ level: 'silent' }),
    fetch: globalThis.fetch,
  } as unknown as Context
  // Another instance each time: nothing in memory, and the shared snapshot too old.
  const instance = (): Context => ({ ...ctx, db: Object.create(db) as typeof db })
  const expire = () => db.execute(`update caretaker.health_snapshots set taken_at = taken_at - interval '1 hour'`)

  const whole: number[] = []
  const alone: number[] = []
  for (let round = -3; round < rounds; round++) {
    await expire()
    const both = [
      await time(() => reportHealth(instance())),
      await time(() => fetch(page(slowestMs).url).then((response) => response.arrayBuffer())),
    ] as const
    if (round < 0) continue
    whole.push(both[0])
    alone.push(both[1])
  }
  const slowest = percentile(alone, 50)
  const report = percentile(whole, 50)
  const budget = slowest * 1.1 + 5
  printFigure({ bench: 'health', figure: 'slowest check alone, p50', value: slowest, unit: 'ms' })
  printFigure({
    bench: 'health',
    figure: 'whole report of 9 checks made anew, p50',
    value: report,
    unit: 'ms',
    budget,
    holds: report <= budget,
  })

  const shared: number[] = []
  await reportHealth(instance())
  for (let round = 0; round < 200; round++) shared.push(await time(() => reportHealth(instance())))
  printFigure({ bench: 'health', figure: 'report from the shared snapshot, p99', value: percentile(shared, 99), unit: 'ms' })

  await expire()
  touched = 0
  const instances = Array.from({ length: 10 }, instance)
  const waits = await Promise.all(Array.from({ length: 500 }, (_, n) => time(() => reportHealth(instances[n % 10] as Context))))
  printFigure({
    bench: 'health',
    figure: 'dependency calls for 500 callers of 10 instances, per dependency',
    value: touched / 7,
    unit: 'calls',
    budget: 1,
    holds: touched === 7,
  })
  printFigure({ bench: 'health', figure: 'their wait, p99', value: percentile(waits, 99), unit: 'ms' })
  await db.close()
} finally {
  provider.closeAllConnections()
  provider.close()
  await server.stop()
  await rm(directory, { recursive: true, force: true })
}

async function time(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}
