import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { createRuntime } from '../lib/compose.ts'
import { defineConfig } from '../lib/config/index.ts'
import { runSteps } from '../lib/maintenance/index.ts'
import { type Database, openDatabase } from '../lib/platform/db.ts'
import { applyMigrations } from '../lib/platform/migrations.ts'
import { startPostgres } from '../local/postgres.ts'
import { percentile, printFigure } from './figures.ts'

/*
 * The batched purge against one DELETE of the same rows, and what it does to others: the p99 of point updates while it
 * runs against that of the idle table. Each figure is a JSON line. A fifth of the rows is old.
 *
 *   npm run bench -- retention [--rows 500000] [--walk index|pages]
 */

interface WriterInput {
  url: string
  rows: number
}

/** A client in a thread of its own that updates young rows by key, a few hundred times a second, and notes how long each took. */
async function write({ url, rows }: WriterInput): Promise<void> {
  const db = openDatabase({ sessionUrl: url, maxConnections: 1 })
  const port = parentPort
  if (port === null) return
  let latencies: number[] = []
  let stopped = false
  port.on('message', (message: 'take' | 'stop') => {
    port.postMessage(latencies)
    latencies = []
    stopped = message === 'stop'
  })
  while (!stopped) {
    const id = Math.floor(rows * (0.2 + 0.8 * Math.random()))
    const started = performance.now()
    await db.execute('update batched set touched = touched + 1 where id = $1::bigint', [id])
    latencies.push(performance.now() - started)
    await delay(1)
  }
  await db.close()
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    allowPositionals: true,
    options: { rows: { type: 'string', default: '500000' }, walk: { type: 'string', default: 'index' } },
  })
  const rows = Number(values.rows)
  if (!Number.isInteger(rows) || rows < 10_000) throw new Error(`--rows: found ${values.rows}, expected a whole number from 10000 on`)
  const directory = await mkdtemp(join(tmpdir(), 'caretaker-bench-'))
  const server = await startPostgres({ directory, settings: { shared_buffers: '512MB', max_wal_size: '8GB' } })
  const db = openDatabase({ sessionUrl: server.url(), maxConnections: 4 })
  try {
    await applyMigrations(db)
    for (const snapshot of [false, true]) await measure(db, server.url(), rows, values.walk === 'index', snapshot)
  } finally {
    await db.close()
    await server.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

async function measure(db: Database, url: string, rows: number, indexed: boolean, snapshot: boolean): Promise<void> {
  for (const table of ['single', 'batched']) {
    await db.execute(`drop table if exists ${table}`)
    await db.execute(
      `create table ${table} (id bigint primary key, at timestamptz not null, touched int not null default 0, payload text not null)`,
    )
    await db.execute(
      `insert into ${table} (id, at, payload)
       select n, now() - interval '60 days' * (n <= $1::int / 5)::int - n * interval '1 millisecond', repeat(md5(n::text), 3) from generate_series(1, $1::int) n`,
      [rows],
    )
    if (indexed) await db.execute(`create index on ${table} (at)`)
    await db.session((session) => session.execute(`vacuum (analyze) ${table}`))
  }
  const release = snapshot ? await holdSnapshot(db) : async () => undefined
  await db.execute('checkpoint')
  const old = Math.floor(rows / 5)
  const single = await timed(() => db.execute(`delete from single where at < now() - interval '30 days'`))
  await db.execute('checkpoint')
  const writer = new Worker(new URL(import.meta.url), { workerData: { url, rows } satisfies WriterInput })
  await take(writer, 2_000)
  const idle = await take(writer, 4_000)
  await db.execute('checkpoint')
  await take(writer, 200)
  const batched = await timed(() => purge(db, url))
  const busy = await take(writer, 0)
  await stop(writer)
  await release()
  const [left] = await db.query<{ n: number }>(`select count(*)::int as n from batched where at < now() - interval '30 days'`)
  if (left?.n !== 0) throw new Error(`${left?.n} old rows are left`)
  const suffix = snapshot ? ', with an old snapshot open' : ''
  const figure = (name: string, value: number, unit: string) => printFigure({ bench: 'retention', figure: `${name}${suffix}`, value, unit })
  figure('batched purge', perSecond(old, batched.ms), 'rows/s')
  figure('one DELETE', perSecond(old, single.ms), 'rows/s')
  figure('p99 of point updates during the purge', p99(busy), 'ms')
  figure('p99 of point updates, idle', p99(idle), 'ms')
  const rate = single.ms / batched.ms
  printFigure({ bench: 'retention', figure: `purge against DELETE${suffix}`, value: rate, unit: 'ratio', budget: 0.5, holds: rate >= 0.5 })
  const wait = p99(busy) / p99(idle)
  printFigure({ bench: 'retention', figure: `p99 against idle${suffix}`, value: wait, unit: 'ratio', budget: 2, holds: wait <= 2 })
}

/** Another session's snapshot from before the purge: its dead rows cannot be pruned, as during a dump. */
async function holdSnapshot(db: Database): Promise<() => Promise<void>> {
  const released = Promise.withResolvers<void>()
  const held = Promise.withResolvers<void>()
  const transaction = db.transaction(
    async (tx) => {
      await tx.query('select 1')
      held.resolve()
      await released.promise
    },
    { isolation: 'repeatable read', readOnly: true },
  )
  await held.promise
  return async () => {
    released.resolve()
    await transaction
  }
}

async function purge(db: Database, url: string): Promise<void> {
  const config = defineConfig({
    app: { name: 'Bench' },
    retention: [{ table: 'batched', column: 'at', olderThan: '30 days', action: 'purge' }],
  })
  const runtime = createRuntime({ policy: config, environment: { DATABASE_URL: url, LOG_LEVEL: 'error' } })
  const ctx = runtime.context({ actor: { type: 'cli' }, deadline: new Date(Date.now() + 3_600_000) })
  const [run] = await db.query<{ id: string; slot: Date }>(
    `insert into caretaker.runs (job, slot, actor) values ('bench', clock_timestamp(), '{"type":"cli"}') returning id, slot`,
  )
  if (run === undefined) throw new Error('no run')
  const outcome = await runSteps(ctx, [{ retention: 'all' }], {
    id: run.id,
    job: 'bench',
    slot: run.slot,
    attempt: 1,
    params: {},
    checkpoint: null,
    shouldHandOver: () => false,
    callForHelp: () => Promise.resolve(),
    save: async (checkpoint, tx) => {
      await (tx ?? ctx.db).execute('update caretaker.runs set checkpoint = $2::jsonb where id = $1::uuid', [
        run.id,
        JSON.stringify(checkpoint),
      ])
    },
  })
  if (outcome.status !== 'done') throw new Error('the purge did not end')
  await runtime.close()
}

async function timed(work: () => Promise<unknown>): Promise<{ ms: number }> {
  const started = performance.now()
  await work()
  return { ms: performance.now() - started }
}

/** What the writer has noted since it was last asked, after `ms` more milliseconds. */
async function take(writer: Worker, ms: number): Promise<number[]> {
  await delay(ms)
  const answer = new Promise<number[]>((resolve) => writer.once('message', resolve))
  writer.postMessage('take')
  return answer
}

async function stop(writer: Worker): Promise<void> {
  const ended = new Promise((resolve) => writer.once('exit', resolve))
  writer.postMessage('stop')
  await ended
}

function p99(latencies: number[]): number {
  return percentile(latencies, 99)
}

function perSecond(rows: number, ms: number): number {
  return Math.round((rows / ms) * 1_000)
}

if (isMainThread) await main()
else {
  await write(workerData as WriterInput)
  parentPort?.close()
}
