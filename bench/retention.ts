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
 * runs against that of the idle table. Both are taken from tables in the same state, with the same point updates beside
 * them. Each figure is a JSON line. A fifth of the rows is old.
 *
 *   npm run bench -- retention [--rows 5000000] [--rounds 3] [--walk index|pages]
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
    await db.execute('update subject set touched = touched + 1 where id = $1::bigint', [id])
    latencies.push(performance.now() - started)
    await delay(1)
  }
  await db.close()
}

interface Taking {
  ms: number
  /** How long each point update took meanwhile, milliseconds. */
  latencies: number[]
}

const ways = { 'one DELETE': deleteAtOnce, 'batched purge': purge }
type Way = keyof typeof ways

async function main(): Promise<void> {
  const { values } = parseArgs({
    allowPositionals: true,
    options: {
      rows: { type: 'string', default: '5000000' },
      rounds: { type: 'string', default: '3' },
      walk: { type: 'string', default: 'index' },
    },
  })
  const rows = Number(values.rows)
  if (!Number.isInteger(rows) || rows < 10_000) throw new Error(`--rows: found ${values.rows}, expected a whole number from 10000 on`)
  const rounds = Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds: found ${values.rounds}, expected a whole number from 1 on`)
  const directory = await mkdtemp(join(tmpdir(), 'caretaker-bench-'))
  const server = await startPostgres({ directory, settings: { shared_buffers: '512MB', max_wal_size: '8GB' } })
  const db = openDatabase({ sessionUrl: server.url(), maxConnections: 4 })
  try {
    await applyMigrations(db)
    for (const snapshot of [false, true]) await compare(db, server.url(), { rows, rounds, indexed: values.walk === 'index', snapshot })
  } finally {
    await db.close()
    await server.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

interface Comparison {
  rows: number
  rounds: number
  indexed: boolean
  snapshot: boolean
}

async function compare(db: Database, url: string, options: Comparison): Promise<void> {
  const taken: Record<Way, Taking[]> = { 'one DELETE': [], 'batched purge': [] }
  const idle: number[] = []
  for (let round = 0; round < options.rounds; round++) {
    // Whoever comes first finds another disk: they take turns.
    const order = Object.keys(ways) as Way[]
    for (const way of round % 2 === 0 ? order : order.reverse()) {
      const { taking, before } = await measure(db, url, ways[way], options)
      taken[way].push(taking)
      idle.push(...before)
    }
  }
  const suffix = options.snapshot ? ', with an old snapshot open' : ''
  const figure = (name: string, value: number, unit: string, budget?: { budget: number; holds: boolean }) =>
    printFigure({ bench: 'retention', figure: `${name}${suffix}`, value, unit, ...budget })
  const rate = (way: Way) =>
    percentile(
      taken[way].map(({ ms }) => Math.floor(options.rows / 5) / (ms / 1_000)),
      50,
    )
  const latency = (way: Way) =>
    percentile(
      taken[way].flatMap(({ latencies }) => latencies),
      99,
    )
  for (const way of Object.keys(ways) as Way[]) {
    figure(`${way}, median of ${options.rounds}`, rate(way), 'rows/s')
    figure(`p99 of point updates, ${way}`, latency(way), 'ms')
  }
  figure('p99 of point updates, idle', percentile(idle, 99), 'ms')
  const speed = rate('batched purge') / rate('one DELETE')
  figure('purge against DELETE', speed, 'ratio', { budget: 0.5, holds: speed >= 0.5 })
  const wait = latency('batched purge') / percentile(idle, 99)
  figure('p99 against idle', wait, 'ratio', { budget: 2, holds: wait <= 2 })
}

/** One way of taking the old rows from a table made anew, in the same state for each: analysed, read once, just after a checkpoint. */
async function measure(
  db: Database,
  url: string,
  take: (db: Database, url: string) => Promise<void>,
  { rows, indexed, snapshot }: Comparison,
): Promise<{ taking: Taking; before: number[] }> {
  await db.execute('drop table if exists subject')
  await db.execute(
    'create table subject (id bigint primary key, at timestamptz not null, touched int not null default 0, payload text not null)',
  )
  await db.execute(
    `insert into subject (id, at, payload)
     select n, now() - interval '60 days' * (n <= $1::int / 5)::int - n * interval '1 millisecond', repeat(md5(n::text), 3) from generate_series(1, $1::int) n`,
    [rows],
  )
  if (indexed) await db.execute('create index on subject (at)')
  await db.session((session) => session.execute('vacuum (analyze) subject'))
  await db.query('select count(payload) from subject')
  const release = snapshot ? await holdSnapshot(db) : async () => undefined
  await db.execute('checkpoint')
  const writer = new Worker(new URL(import.meta.url), { workerData: { url, rows } satisfies WriterInput })
  await noted(writer, 1_000)
  const before = await noted(writer, 3_000)
  await db.execute('checkpoint')
  await noted(writer, 200)
  const started = performance.now()
  await take(db, url)
  const ms = performance.now() - started
  const latencies = await noted(writer, 0)
  await stop(writer)
  await release()
  const [left] = await db.query<{ n: number }>(`select count(*)::int as n from subject where at < now() - interval '30 days'`)
  if (left?.n !== 0) throw new Error(`${left?.n} old rows are left`)
  return { taking: { ms, latencies }, before }
}

async function deleteAtOnce(db: Database): Promise<void> {
  await db.execute(`delete from subject where at < now() - interval '30 days'`)
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
    retention: [{ table: 'subject', column: 'at', olderThan: '30 days', action: 'purge' }],
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

/** What the writer has noted since it was last asked, after `ms` more milliseconds. */
async function noted(writer: Worker, ms: number): Promise<number[]> {
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

if (isMainThread) await main()
else {
  await write(workerData as WriterInput)
  parentPort?.close()
}
