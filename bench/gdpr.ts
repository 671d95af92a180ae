import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { to as copyTo } from 'pg-copy-streams'
import { createRuntime } from '../lib/compose.ts'
import { defineConfig } from '../lib/config/index.ts'
import { eraseSubject, exportSubject } from '../lib/gdpr/index.ts'
import type { Context } from '../lib/platform/context.ts'
import { type Database, openDatabase } from '../lib/platform/db.ts'
import { createLog } from '../lib/platform/log.ts'
import { applyMigrations } from '../lib/platform/migrations.ts'
import { startPostgres } from '../local/postgres.ts'
import { printFigure } from './figures.ts'

/*
 * A person's rights against the same work by hand. Each figure is a JSON line, the median of the rounds, the two sides in turn.
 *
 *   npm run bench -- gdpr [--rounds 3]
 *
 * erase: one person with 100,000 rows in 20 tables, rows and all that goes with them, against DELETE statements written for this schema;
 * once more with the search for residue in all text of the database. export: MB/s of the ZIP's content (JSON and CSV of
 * each row) against COPY of the same rows. memory: of a process that exports 1,000 and 1,000,000 rows.
 */

const tables = 20
const rowsEach = 5_000
const others = 4

function policy(residue: boolean) {
  return defineConfig({ app: { name: 'Bench' }, gdpr: { subject: { table: 'people' }, residue } })
}

function open(url: string, residue = false) {
  const runtime = createRuntime({
    policy: policy(residue),
    environment: { DATABASE_URL: url, ENCRYPTION_KEY: 'ab'.repeat(32), LOG_LEVEL: 'silent' },
    log: createLog({ level: 'silent' }),
  })
  const ctx: Context = runtime.context({ actor: { type: 'cli' }, deadline: new Date(Date.now() + 3_600_000) })
  return { ctx, close: runtime.close }
}

/** Ten tables that name the person, and under each of them one that names its parent. Every person has as many rows as the one who goes. */
async function fill(db: Database, people: number): Promise<void> {
  await db.execute('create table if not exists people (id int primary key, email text)')
  await db.execute(`insert into people select n, 'person' || n || '@people.example' from generate_series(1, $1::int) n`, [people])
  for (let n = 0; n < tables / 2; n++) {
    await db.execute(
      `create table own${n} (id bigint generated always as identity primary key, person int not null references people, at timestamptz default now(), note text)`,
    )
    await db.execute(
      `create table part${n} (id bigint generated always as identity primary key, own bigint not null references own${n}, note text)`,
    )
    await db.execute(
      `insert into own${n} (person, note) select p, md5(g::text) from generate_series(1, $1::int) p, generate_series(1, $2::int) g`,
      [people, rowsEach],
    )
    await db.execute(`insert into part${n} (own, note) select id, md5(id::text) from own${n}`)
    await db.execute(`create index on own${n} (person)`)
    await db.execute(`create index on part${n} (own)`)
  }
  await db.execute('vacuum analyze')
}

async function deleteByHand(db: Database, person: number): Promise<void> {
  await db.transaction(async (tx) => {
    for (let n = 0; n < tables / 2; n++) {
      await tx.execute(`delete from part${n} where own in (select id from own${n} where person = $1::int)`, [person])
      await tx.execute(`delete from own${n} where person = $1::int`, [person])
    }
    await tx.execute('delete from people where id = $1::int', [person])
  })
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

async function benchErase(db: Database, url: string, rounds: number): Promise<void> {
  await fill(db, rounds * 3 + others)
  const [plain, searching] = [open(url), open(url, true)]
  const times = { hand: [] as number[], erase: [] as number[], residue: [] as number[] }
  let person = 0
  for (let round = 0; round < rounds; round++) {
    await db.execute('checkpoint')
    times.hand.push(await timed(() => deleteByHand(db, ++person)))
    await db.execute('checkpoint')
    times.erase.push(await timed(() => eraseSubject(plain.ctx, { subject: String(++person) })))
    await db.execute('checkpoint')
    times.residue.push(await timed(() => eraseSubject(searching.ctx, { subject: String(++person) })))
  }
  const ratio = median(times.erase) / median(times.hand)
  printFigure({
    bench: 'gdpr',
    figure: 'erase 100,000 rows in 20 tables / DELETEs by hand',
    value: ratio,
    unit: 'x',
    budget: 1.5,
    holds: ratio <= 1.5,
  })
  printFigure({
    bench: 'gdpr',
    figure: 'the same with a search for residue in all text',
    value: median(times.residue) / median(times.hand),
    unit: 'x',
  })
  await plain.close()
  await searching.close()
}

async function benchExport(db: Database, url: string, rounds: number): Promise<void> {
  const person = rounds * 3 + 1
  const { ctx, close } = open(url)
  const rates = { copy: [] as number[], export: [] as number[] }
  for (let round = 0; round < rounds; round++) {
    let bytes = 0
    const sink = () =>
      new Writable({
        write(chunk: Buffer, _encoding, done) {
          bytes += chunk.length
          done()
        },
      })
    const copied = await timed(() =>
      db.session(async (session) => {
        for (let n = 0; n < tables / 2; n++) {
          await pipeline(session.client.query(copyTo(`copy (select * from own${n} where person = ${person}) to stdout`)), sink())
          await pipeline(
            session.client.query(
              copyTo(`copy (select p.* from part${n} p join own${n} o on o.id = p.own where person = ${person}) to stdout`),
            ),
            sink(),
          )
        }
      }),
    )
    rates.copy.push(bytes / 1e3 / copied)
    let content = 0
    const exported = await timed(async () => {
      const done = await exportSubject(ctx, { subject: String(person), out: sink() })
      content = done.contentBytes
    })
    rates.export.push(content / 1e3 / exported)
    await db.execute('delete from caretaker.gdpr_requests')
  }
  printFigure({ bench: 'gdpr', figure: 'COPY of the same rows', value: median(rates.copy), unit: 'MB/s' })
  printFigure({ bench: 'gdpr', figure: 'export, content of the ZIP', value: median(rates.export), unit: 'MB/s' })
  printFigure({ bench: 'gdpr', figure: 'export / COPY, by MB/s', value: median(rates.export) / median(rates.copy), unit: 'x' })
  await close()
}

/** This file again, in a process of its own, which exports and says how much memory it had at most. */
async function peakMib(url: string, subject: string): Promise<number> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), '--export', subject], {
    env: { ...process.env, BENCH_DATABASE_URL: url },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  for await (const chunk of child.stdout) text += String(chunk)
  return Number(text)
}

async function benchMemory(db: Database, url: string): Promise<void> {
  await db.execute(`insert into people values (900001, 'small@people.example'), (900002, 'large@people.example')`)
  await db.execute(`insert into own0 (person, note) select 900001, md5(g::text) from generate_series(1, 1000) g`)
  await db.execute(`insert into own0 (person, note) select 900002, md5(g::text) from generate_series(1, 1000000) g`)
  await db.execute('analyze own0')
  const [small, large] = [await peakMib(url, '900001'), await peakMib(url, '900002')]
  printFigure({ bench: 'gdpr', figure: 'peak memory of exporting 1,000 rows', value: small, unit: 'MiB' })
  printFigure({
    bench: 'gdpr',
    figure: 'peak memory of exporting 1,000,000 rows',
    value: large,
    unit: 'MiB',
    budget: 256,
    holds: large <= 256,
  })
}

async function exportOnly(subject: string): Promise<void> {
  const { ctx, close } = open(process.env.BENCH_DATABASE_URL ?? '')
  await exportSubject(ctx, { subject, out: new Writable({ write: (_chunk, _encoding, done) => done() }) })
  process.stdout.write(String(process.resourceUsage().maxRSS / 1024))
  await close()
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: 'string', default: '3' }, export: { type: 'string' } },
  })
  if (values.export !== undefined) return exportOnly(values.export)
  const rounds = Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds: found ${values.rounds}, expected a whole number from 1 on`)
  const directory = await mkdtemp(join(tmpdir(), 'caretaker-bench-'))
  const server = await startPostgres({ directory, settings: { shared_buffers: '512MB', max_wal_size: '8GB' } })
  const db = openDatabase({ sessionUrl: server.url(), maxConnections: 4 })
  try {
    await applyMigrations(db)
    await benchErase(db, server.url(), rounds)
    await benchExport(db, server.url(), rounds)
    await benchMemory(db, server.url())
  } finally {
    await db.close()
    await server.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

await main()
