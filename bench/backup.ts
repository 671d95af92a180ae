import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { openDatabase } from '../lib/platform/db.ts'
import { type LocalPostgres, startPostgres } from '../local/postgres.ts'
import { percentile, printFigure } from './figures.ts'

/*
 * npm run bench -- backup [--megabytes 1300] [--server postgres://SUPERUSER@HOST/postgres]
 *
 * Backs up and restores two tables on a PostgreSQL of its own (or on `--server`, for a pg_dump of that version), beside what else one would use, in the same minute. One JSON line
 * a figure: `ratio` is ours to the yardstick's wall time. Every run is a process of its own, so that peak memory is its alone.
 */

const { values } = parseArgs({
  options: { megabytes: { type: 'string', default: '1300' }, server: { type: 'string' } },
  args: process.argv.slice(2),
  allowPositionals: true,
})
const megabytes = Number(values.megabytes)

interface Measured {
  ms: number
  maxRssMiB: number
  output: string
}

function print(figure: string, value: number, unit: string, budget?: number): void {
  printFigure({ bench: 'backup', figure, value, unit, ...(budget === undefined ? {} : { budget, holds: value <= budget }) })
}

/** Runs a command to its end; null when there is no such program. */
function measure(command: string, args: string[]): Promise<Measured | null> {
  const started = performance.now()
  return new Promise((done, fail) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    let errors = ''
    child.stdout.on('data', (chunk: Buffer) => {
      if (output.length < 1e6) output += chunk.toString()
    })
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString()
    })
    child.once('error', (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? done(null) : fail(error)))
    child.once('close', (code) => {
      const ms = performance.now() - started
      if (code === 0) done({ ms, maxRssMiB: Number(/"maxRssMiB":(\d+)/.exec(output)?.[1] ?? 0), output })
      else fail(new Error(`${command} ended with ${code}: ${errors.slice(0, 2_000)}`))
    })
  })
}

/** `code` in a Node of its own; it prints its peak memory. */
function measureNode(code: string): Promise<Measured | null> {
  const wrapped = `${code}\nprocess.stdout.write(JSON.stringify({ maxRssMiB: Math.round(process.resourceUsage().maxRSS / 1024) }));process.exit(0)`
  return measure(process.execPath, ['--input-type=module', '-e', wrapped])
}

const context = (url: string, store: string, recipient: string) => `
import { defineConfig } from '${import.meta.dirname}/../lib/config/index.ts'
import { openObjectStore } from '${import.meta.dirname}/../lib/drivers/objects/index.ts'
import { openDatabase } from '${import.meta.dirname}/../lib/platform/db.ts'
import { systemClock } from '${import.meta.dirname}/../lib/platform/clock.ts'
import { createLog } from '${import.meta.dirname}/../lib/platform/log.ts'
import { readEnv } from '${import.meta.dirname}/../lib/platform/env.ts'
import * as backup from '${import.meta.dirname}/../lib/backup/index.ts'
const env = readEnv({ ENCRYPTION_KEY: '${'be'.repeat(32)}' })
const ctx = { config: defineConfig({ app: { name: 'bench' }, backup: { recipients: ['${recipient}'] } }), env,
  db: openDatabase({ sessionUrl: '${url}' }), objects: () => openObjectStore('file://${store}', env), log: createLog({ level: 'silent' }),
  clock: systemClock, signal: new AbortController().signal, deadline: new Date(Date.now() + 36e5), actor: { type: 'system' } }
`

async function fill(url: string): Promise<void> {
  const db = openDatabase({ sessionUrl: url })
  // Text that compresses as an app's does (words, numbers, some noise), about 400 bytes a row.
  for (const table of ['events', 'documents']) {
    await db.execute(
      `create table ${table} (id bigint generated always as identity primary key, user_id uuid not null, at timestamptz not null, kind text not null, amount numeric(12,2), payload jsonb, note text)`,
    )
    const rows = Math.round((megabytes * 1e6) / 2 / 400)
    await db.execute(
      `insert into ${table} (user_id, at, kind, amount, payload, note)
       select md5((n % 5000)::text)::uuid, timestamptz '2026-01-01' + n * interval '1 second', (array['view', 'click', 'purchase', 'signup'])[1 + n % 4], (n % 100000) / 100.0,
         jsonb_build_object('session', md5(n::text), 'path', '/app/' || n % 300, 'ms', n % 977, 'agent', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36'),
         repeat((array['the quick brown fox ', 'jumps over the lazy dog ', 'lorem ipsum dolor sit amet '])[1 + n % 3], 3) || md5((n * 7)::text)
       from generate_series(1, ${rows}) n`,
    )
    await db.execute(`create index on ${table} (user_id)`)
    await db.execute(`create index on ${table} (at)`)
  }
  await db.execute('vacuum analyze')
  await db.close()
}

async function sizeOf(path: string): Promise<number> {
  const found = await measure('du', ['-sb', path])
  return Number(found?.output.split('\t')[0] ?? 0)
}

async function bench(server: Pick<LocalPostgres, 'url'>, work: string): Promise<void> {
  const admin = openDatabase({ sessionUrl: server.url() })
  const fresh = async (name: string) => {
    await admin.execute(`drop database if exists ${name} with (force)`)
    await admin.execute(`create database ${name} template template0`)
    return server.url(name)
  }
  const source = await fresh('bench_source')
  await fill(source)
  const identity = await generateX25519Identity()
  const ours = context(source, join(work, 'store'), await identityToRecipient(identity))

  const copyOne = (table: string) => `
import pg from 'pg'
import copyStreams from 'pg-copy-streams'
const client = new pg.Client('${source}'); await client.connect()
for await (const chunk of client.query(copyStreams.to('copy ${table} to stdout'))) void chunk
await client.end()`
  const bothCopies = async () => {
    const started = performance.now()
    await Promise.all(
      ['events', 'documents'].map((table) =>
        measure('psql', ['-Xqd', source, '-c', `copy ${table} to stdout`, '-o', '/dev/null']).then(
          (found) => found ?? measureNode(copyOne(table)),
        ),
      ),
    )
    return performance.now() - started
  }
  await bothCopies()

  const rawMs = await bothCopies()
  const backup = await measureNode(`${ours}\nawait backup.backupDatabase(ctx)`)
  if (backup === null) throw new Error('node is not there')
  const storedBytes = await sizeOf(join(work, 'store'))
  print('backup', backup.ms, 'ms')
  print('backup: stored', storedBytes, 'bytes')
  print('backup: peak memory', backup.maxRssMiB, 'MiB RSS', 256)
  print('backup / two raw COPYs', backup.ms / rawMs, 'ratio', 1.5)

  const custom = await attempt(() => measure('pg_dump', ['-Fc', '-f', join(work, 'custom.dump'), source]))
  if (custom === null) process.stderr.write('There is no pg_dump for this server on the path: its figures are left out.\n')
  else {
    print('backup / pg_dump -Fc', backup.ms / custom.ms, 'ratio', 0.4)
    print('backup / pg_dump -Fc: size', storedBytes / (await sizeOf(join(work, 'custom.dump'))), 'ratio', 1)
    const folder = await measure('pg_dump', ['-Fd', '-j2', '-f', join(work, 'folder.dump'), source])
    if (folder !== null) print('backup / pg_dump -Fd -j2', backup.ms / folder.ms, 'ratio')
  }

  await benchRestore(() => fresh('bench_target'), { ours, identity, custom: custom === null ? null : join(work, 'custom.dump') })
  for (const name of ['bench_source', 'bench_target']) await admin.execute(`drop database if exists ${name} with (force)`)
  await admin.close()
}

interface RestoreBench {
  ours: string
  identity: string
  /** What pg_dump -Fc wrote; null where there is none of this server's version. */
  custom: string | null
}

/**
 * Three rounds of all that is compared, one after the other, each into a new database; printed are medians, of ratios within a round. pg_restore
 * neither reads back what it wrote nor gathers statistics: what the first costs is measured by leaving it out.
 */
async function benchRestore(fresh: () => Promise<string>, { ours, identity, custom }: RestoreBench): Promise<void> {
  const restore = async (more: string): Promise<Measured> => {
    const input = `{ id: 'latest', trustUnsigned: true, identity: '${identity}', targetUrl: '${await fresh()}'${more} }`
    const found = await measureNode(`${ours}\nawait backup.restoreBackup(ctx, ${input})`)
    if (found === null) throw new Error('node is not there')
    return found
  }
  const rounds: { proven: Measured; unproven: Measured; native: Measured | null }[] = []
  for (let round = 0; round < 3; round++) {
    const native = custom === null ? null : await measure('pg_restore', ['-j2', '-d', await fresh(), custom])
    rounds.push({ native, proven: await restore(''), unproven: await restore(', prove: false') })
  }
  const median = (of: (round: (typeof rounds)[number]) => number) => percentile(rounds.map(of), 50)
  print(
    'restore',
    median((round) => round.proven.ms),
    'ms',
  )
  print('restore: peak memory', Math.max(...rounds.map((round) => round.proven.maxRssMiB)), 'MiB RSS', 256)
  print(
    'restore: reading back',
    median((round) => round.proven.ms - round.unproven.ms),
    'ms',
  )
  if (rounds.some((round) => round.native === null)) return
  print(
    'restore / pg_restore -j2',
    median((round) => round.proven.ms / (round.native?.ms ?? Number.NaN)),
    'ratio',
    1,
  )
  print(
    'restore without reading back / pg_restore -j2',
    median((round) => round.unproven.ms / (round.native?.ms ?? Number.NaN)),
    'ratio',
  )
}

/** A pg_dump older than the server refuses it: that is the same as none. */
async function attempt(run: () => Promise<Measured | null>): Promise<Measured | null> {
  return run().catch((error: unknown) => {
    if (error instanceof Error && /version mismatch/.test(error.message)) return null
    throw error
  })
}

const work = await mkdtemp(join(tmpdir(), 'caretaker-bench-'))
const server =
  values.server === undefined
    ? await startPostgres({ directory: join(work, 'server'), settings: { shared_buffers: '256MB', max_wal_size: '4GB' } })
    : given(values.server)
try {
  await bench(server, work)
} finally {
  await server.stop()
  await rm(work, { recursive: true, force: true })
}

/** A server that runs already: two databases, bench_source and bench_target, are made on it. */
function given(address: string): Pick<LocalPostgres, 'url' | 'stop'> {
  return {
    url(database = 'postgres') {
      const url = new URL(address)
      url.pathname = `/${database}`
      return url.toString()
    },
    stop: () => Promise.resolve(),
  }
}
