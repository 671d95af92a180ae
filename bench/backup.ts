import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { type Database, openDatabase } from '../lib/platform/db.ts'
import { type LocalPostgres, startPostgres } from '../local/postgres.ts'
import { printFigure } from './figures.ts'

/*
 *   npm run bench -- backup [--size 1.3] [--rounds 3] [--server postgres://SUPERUSER@HOST/postgres]
 *
 * `caretaker backup run` and `backup restore` of two tables of SIZE GB together, beside what else one would use. Runs take turns with
 * their yardsticks, so that a busy moment of the machine falls on both; a ratio is the median of the rounds' ratios of wall time. The server is one of its own:
 * PostgreSQL 17, or an older one from `.ci/` where the pg_dump on the path is older than that; or `--server`. Peak memory is of
 * the command and the processes it starts, together, what they share counted once, as often as the system can be asked. Work is the processor time of those and of a server
 * on this machine: what others do at the same time is not in it. Both on Linux only.
 */

const { values } = parseArgs({
  options: { size: { type: 'string', default: '1.3' }, rounds: { type: 'string', default: '3' }, server: { type: 'string' } },
  args: process.argv.slice(2),
  allowPositionals: true,
})
const bytes = Number(values.size) * 1e9
const rounds = Math.max(1, Math.trunc(Number(values.rounds)))
const cli = join(import.meta.dirname, '..', 'cli', 'caretaker.js')

interface Measured {
  ms: number
  /** Processor time, of the command alone. 0 where it cannot be known. */
  workMs: number
  /** 0 where it cannot be known. */
  peakMiB: number
  output: string
}

function print(figure: string, value: number, unit: string, budget?: number): void {
  printFigure({ bench: 'backup', figure, value, unit, ...(budget === undefined ? {} : { budget, holds: value <= budget }) })
}

function note(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** Runs a command to its end; null when there is no such program. */
function measure(command: string, args: string[], cwd?: string): Promise<Measured | null> {
  const started = performance.now()
  return new Promise((done, fail) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...(cwd === undefined ? {} : { cwd }) })
    let output = ''
    let errors = ''
    let peak = 0
    let workMs = 0
    const watch = setInterval(() => {
      if (child.pid === undefined) return
      peak = Math.max(peak, residentBytes(child.pid))
      // Its last twenty milliseconds are missing.
      workMs = Math.max(workMs, workOf(child.pid))
    }, 20)
    child.stdout.on('data', (chunk: Buffer) => {
      if (output.length < 1e6) output += chunk.toString()
    })
    child.stderr.on('data', (chunk: Buffer) => {
      errors = `${errors}${chunk.toString()}`.slice(-2_000)
    })
    child.once('error', (error: NodeJS.ErrnoException) => {
      clearInterval(watch)
      if (error.code === 'ENOENT') done(null)
      else fail(error)
    })
    child.once('close', (code) => {
      clearInterval(watch)
      const ms = performance.now() - started
      if (code === 0) done({ ms, workMs, peakMiB: peak / 1_048_576, output })
      else fail(new Error(`${command} ended with ${code}: ${errors}`))
    })
  })
}

/** Of a process and its children. What these share with it, such as the pages of the program, is there once. */
function residentBytes(pid: number): number {
  try {
    const own = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4_096
    return childrenOf(pid).reduce((sum, child) => sum + privateBytes(child), own)
  } catch {
    return 0
  }
}

function privateBytes(pid: number): number {
  try {
    const own = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8').matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB$/gm)
    const bytes = [...own].reduce((sum, [, kib]) => sum + Number(kib) * 1_024, 0)
    return childrenOf(pid).reduce((sum, child) => sum + privateBytes(child), bytes)
  } catch {
    return 0
  }
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
}

/** Processor time of a process and its children, those that have ended too, ms; 0 where it cannot be known. */
function workOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // Behind the name, which may hold anything: user and system time of itself, and of children it has waited for, in hundredths of a second.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const own = fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) * 10
    return childrenOf(pid).reduce((sum, child) => sum + workOf(child), own)
  } catch {
    return 0
  }
}

/** The process that all of a server's come from; 0 where it is not on this machine. */
async function postmasterOf(db: Database, url: string): Promise<number> {
  if (!['127.0.0.1', 'localhost', '[::1]', ''].includes(new URL(url).hostname)) return 0
  const [row] = await db.query<{ pid: number }>('select pg_backend_pid() as pid')
  try {
    const stat = readFileSync(`/proc/${row?.pid ?? 0}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return 0
  }
}

async function must(command: string, args: string[], cwd?: string): Promise<Measured> {
  const measured = await measure(command, args, cwd)
  if (measured === null) throw new Error(`There is no ${command}.`)
  return measured
}

async function fill(url: string): Promise<void> {
  const db = openDatabase({ sessionUrl: url })
  for (const table of ['events', 'documents']) {
    await db.execute(
      `create table ${table} (id bigint generated always as identity primary key, user_id uuid not null, at timestamptz not null, kind text not null, amount numeric(12,2), payload jsonb, note text)`,
    )
    // Text that compresses as an app's does (words, numbers, some noise): 341 bytes a row in the table.
    await db.execute(
      `insert into ${table} (user_id, at, kind, amount, payload, note)
       select md5((n % 5000)::text)::uuid, timestamptz '2026-01-01' + n * interval '1 second', (array['view', 'click', 'purchase', 'signup'])[1 + n % 4], (n % 100000) / 100.0,
         jsonb_build_object('session', md5(n::text), 'path', '/app/' || n % 300, 'ms', n % 977, 'agent', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36'),
         repeat((array['the quick brown fox ', 'jumps over the lazy dog ', 'lorem ipsum dolor sit amet '])[1 + n % 3], 3) || md5((n * 7)::text)
       from generate_series(1, ${Math.round(bytes / 2 / 341)}) n`,
    )
    await db.execute(`create index on ${table} (user_id)`)
    await db.execute(`create index on ${table} (at)`)
  }
  await db.execute('vacuum analyze')
  await db.close()
}

async function sizeOf(path: string): Promise<number> {
  return Number((await must('du', ['-sb', path])).output.split('\t')[0])
}

/** Both tables at once, into nothing: with psql, or where there is none with a library of Node's, which takes longer. */
async function rawCopies(url: string): Promise<number> {
  const started = performance.now()
  const copy = async (table: string) => {
    if ((await measure('psql', ['-Xqd', url, '-c', `copy ${table} to stdout`, '-o', '/dev/null'])) !== null) return
    const code = `import pg from 'pg'; import { to } from 'pg-copy-streams'; const client = new pg.Client('${url}'); await client.connect()
      for await (const chunk of client.query(to('copy ${table} to stdout'))) void chunk; await client.end()`
    await must(process.execPath, ['--input-type=module', '-e', code], join(import.meta.dirname, '..'))
  }
  await Promise.all([copy('events'), copy('documents')])
  return performance.now() - started
}

function median(found: readonly number[]): number {
  return [...found].sort((a, b) => a - b)[Math.floor(found.length / 2)] ?? Number.NaN
}

/** What a run took: in time, and in processor time. */
interface Spent {
  ms: number
  workMs: number
}

/** The same for both. */
async function ratios(ours: () => Promise<Spent>, theirs: () => Promise<Spent>): Promise<Spent> {
  const found: Spent[] = []
  for (let round = 0; round < rounds; round++) {
    const [one, other] = [await ours(), await theirs()]
    found.push({ ms: one.ms / other.ms, workMs: one.workMs / other.workMs })
  }
  return { ms: median(found.map((one) => one.ms)), workMs: median(found.map((one) => one.workMs)) }
}

/** Runs the pair as often as asked, and gives the median of `ours / theirs`. */
async function ratio(ours: () => Promise<number>, theirs: () => Promise<number>): Promise<number> {
  const found: number[] = []
  for (let round = 0; round < rounds; round++) found.push((await ours()) / (await theirs()))
  return median(found)
}

async function bench(server: Pick<LocalPostgres, 'url'>, work: string, dumps: boolean): Promise<void> {
  const admin = openDatabase({ sessionUrl: server.url() })
  const fresh = async (name: string) => {
    await admin.execute(`drop database if exists ${name} with (force)`)
    await admin.execute(`create database ${name} template template0`)
    return server.url(name)
  }
  const source = await fresh('bench_source')
  await fill(source)
  const identity = await generateX25519Identity()
  const store = join(work, 'store')
  await writeFile(join(work, 'identity.txt'), `${identity}\n`, { mode: 0o600 })
  await writeFile(
    join(work, 'policy.js'),
    `export default { app: { name: 'bench' }, backup: { recipients: ['${await identityToRecipient(identity)}'] } }`,
  )
  const common = ['--config', join(work, 'policy.js'), '--data', join(work, 'data'), '--store', `file://${store}`, '--json']
  let peakMiB = 0
  const times: number[] = []
  const backup = async () => {
    await rm(store, { recursive: true, force: true })
    const run = await must(process.execPath, [cli, 'backup', 'run', '--database-url', source, ...common], work)
    peakMiB = Math.max(peakMiB, run.peakMiB)
    times.push(run.ms)
    return run.ms
  }
  const dump =
    (name: string, ...args: string[]) =>
    async () => {
      await rm(join(work, name), { recursive: true, force: true })
      return (await must('pg_dump', [...args, '-f', join(work, name), source])).ms
    }
  // What has run once is compiled, and what is in memory is there for all.
  await backup()
  await rawCopies(source)
  times.length = 0

  print('backup / two raw COPYs', await ratio(backup, () => rawCopies(source)), 'ratio', 1.5)
  const storedBytes = await sizeOf(store)
  print('backup: stored', storedBytes, 'bytes')
  if (dumps) {
    print('backup / pg_dump -Fc', await ratio(backup, dump('custom.dump', '-Fc')), 'ratio', 0.4)
    print('backup / pg_dump -Fc: size', storedBytes / (await sizeOf(join(work, 'custom.dump'))), 'ratio', 1)
    print('backup / pg_dump -Fd -j2', await ratio(backup, dump('folder.dump', '-Fd', '-j2')), 'ratio')
    await rm(join(work, 'folder.dump'), { recursive: true, force: true })
  }
  print('backup', median(times), 'ms')
  if (peakMiB > 0) print(`backup: peak memory of ${values.size} GB`, peakMiB, 'MiB RSS', 256)

  const postmaster = await postmasterOf(admin, server.url())
  /** A command and what the server does for it. */
  const spent = async (run: () => Promise<Measured>): Promise<Spent> => {
    // What the one before has left to be written is not this one's.
    await admin.execute('checkpoint')
    const before = workOf(postmaster)
    const { ms, workMs } = await run()
    return { ms, workMs: postmaster === 0 ? 0 : workMs + workOf(postmaster) - before }
  }
  let restoreMs = 0
  let restorePeakMiB = 0
  const restore =
    (...more: string[]) =>
    async (): Promise<Spent> => {
      const target = await fresh('bench_target')
      const from = ['--database-url', source, '--identity', join(work, 'identity.txt'), ...common]
      return spent(async () => {
        const run = await must(process.execPath, [cli, 'backup', 'restore', 'latest', '--to', target, ...from, ...more], work)
        restorePeakMiB = Math.max(restorePeakMiB, run.peakMiB)
        if (more.length === 0) restoreMs = run.ms
        return run
      })
    }
  const native = async (): Promise<Spent> => {
    const target = await fresh('bench_target')
    return spent(() => must('pg_restore', ['-j2', '-d', target, join(work, 'custom.dump')]))
  }
  if (dumps) {
    for (const [more, budget] of [
      [[], 1],
      [['--read-all'], undefined],
    ] as const) {
      const { ms, workMs } = await ratios(restore(...more), native)
      const name = ['restore', ...more].join(' ')
      print(`${name} / pg_restore -j2`, ms, 'ratio', budget)
      if (workMs > 0) print(`${name} / pg_restore -j2: work`, workMs, 'ratio', budget)
    }
  } else await restore()()
  print('restore', restoreMs, 'ms')
  if (restorePeakMiB > 0) print(`restore: peak memory of ${values.size} GB`, restorePeakMiB, 'MiB RSS', 256)
  for (const name of ['bench_source', 'bench_target']) await admin.execute(`drop database if exists ${name} with (force)`)
  await admin.close()
}

/** The major version of the pg_dump on the path, 0 where there is none. */
async function pgDumpMajor(): Promise<number> {
  const found = await measure('pg_dump', ['--version'])
  return found === null ? 0 : Number(/(\d+)/.exec(found.output)?.[1] ?? 0)
}

const embedded = 17

/** The server's files: undefined for those of the package. A pg_dump reads servers of its own version and older ones. */
function serverFor(dumpMajor: number): { native: string | undefined; major: number } {
  const older = join(import.meta.dirname, '..', '.ci', 'node_modules', `postgres-${dumpMajor}`, 'native')
  if (dumpMajor > 0 && dumpMajor < embedded && existsSync(older)) return { native: older, major: dumpMajor }
  return { native: undefined, major: embedded }
}

async function majorOf(url: string): Promise<number> {
  const db = openDatabase({ sessionUrl: url, maxConnections: 1 })
  const [row] = await db.query<{ major: number }>(`select current_setting('server_version_num')::int / 10000 as major`)
  await db.close()
  return row?.major ?? 0
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

const dumpMajor = await pgDumpMajor()
const { native, major } = values.server === undefined ? serverFor(dumpMajor) : { native: undefined, major: await majorOf(values.server) }
const dumps = dumpMajor >= major
if (dumpMajor === 0)
  note('pg_dump is not on the path, so its figures are left out: install a PostgreSQL client (apt-get install postgresql-client).')
else if (!dumps)
  note(
    `pg_dump ${dumpMajor} cannot read PostgreSQL ${major}, so its figures are left out: install a client of version ${major}, or \`npm ci\` in .ci/, which has PostgreSQL 15.`,
  )
else note(`PostgreSQL ${major}, pg_dump ${dumpMajor}.`)

const work = await mkdtemp(join(tmpdir(), 'caretaker-bench-'))
try {
  // Tables, indexes and log of both databases, and three dumps.
  const needed = bytes * 3.5 + 4e9
  const { bavail, bsize } = await statfs(work)
  if (bavail * bsize < needed)
    throw new Error(`${work} has ${Math.round((bavail * bsize) / 1e9)} GB free; ${Math.round(needed / 1e9)} are needed.`)
  await mkdir(join(work, 'data'))
  const settings = { shared_buffers: '256MB', max_wal_size: '4GB' }
  const server =
    values.server === undefined
      ? await startPostgres({ directory: join(work, 'server'), settings, ...(native === undefined ? {} : { native }) })
      : given(values.server)
  try {
    await bench(server, work, dumps)
  } finally {
    await server.stop()
  }
} finally {
  await rm(work, { recursive: true, force: true })
}
