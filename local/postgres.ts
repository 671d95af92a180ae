import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, chown, mkdir, open, readdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { CaretakerError } from '../lib/platform/errors.ts'
import { type Binaries, findBinaries, type Owner, placeCluster, serverUser } from './postgres-home.ts'
import { commandOf, isAlive } from './process.ts'

export interface LocalPostgres {
  /** Connection string of the superuser for `database`. A secret where a password was given. */
  url(database?: string): string
  port: number
  /** Settles when the server ended by itself or was stopped. */
  readonly ended: Promise<void>
  /** A fast shutdown: open transactions are rolled back, everything committed is on disk. */
  stop(): Promise<void>
  /** An immediate shutdown, for a person who will not wait: the next start recovers from the log. */
  kill(): void
}

export interface LocalPostgresOptions {
  /** The folder of the cluster and its log; made where it is missing. */
  directory: string
  /** 0 or absent: any free port. */
  port?: number
  /** Without one the cluster trusts everybody on this machine. Set when the cluster is made; needed from then on. */
  password?: string
  /** More `-c name=value` settings. */
  settings?: Record<string, string>
  /** Told what a person should know: where the cluster was put when it could not be put into the folder. */
  say?: (line: string) => void
  /** The folder of the server's files (`bin`, `lib`, `share`); the npm package's where it is absent. */
  native?: string
}

const settings: Record<string, string> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  wal_level: 'logical',
  max_connections: '200',
  max_wal_senders: '10',
  max_replication_slots: '20',
}

/**
 * Starts a real PostgreSQL 17 from the npm package in `directory`.
 * PostgreSQL refuses to run as root, so root runs it as the user `postgres`, made where it is missing. A server that a
 * killed parent left behind is stopped first; a cluster whose making was interrupted is made anew.
 * @throws {CaretakerError} `local_stack` with what to do
 */
export async function startPostgres(options: LocalPostgresOptions): Promise<LocalPostgres> {
  const owner = await serverUser()
  await mkdir(options.directory, { recursive: true }).catch((cause: NodeJS.ErrnoException) => {
    throw notWritable(options.directory, cause)
  })
  // The server's user must be able to walk to its folder.
  if (owner !== undefined) await chmod(options.directory, 0o711)
  const binaries = await findBinaries(owner, options.native, options.say)
  const home = await placeCluster(options.directory, owner, options.say)
  const data = join(home, 'pg')
  await stopLeftOver(data)
  if (!(await exists(data))) await createCluster(binaries, home, data, owner, options.password)
  const log = join(options.directory, 'postgres.log')
  // A port found free may be taken a moment later: then another is tried, unless this one was asked for.
  const wanted = options.port !== undefined && options.port !== 0
  for (let attempt = 1; ; attempt++) {
    const port = wanted ? (options.port as number) : await freePort()
    try {
      return await launch(binaries, data, log, port, owner, options)
    } catch (error) {
      const detail = error instanceof CaretakerError ? error.detail : ''
      // Backends of a killed server need a moment to notice that it is gone.
      const passing = /pre-existing shared memory block/.test(detail) || (!wanted && /Address already in use/.test(detail))
      if (!passing || attempt >= 20) throw error
      await delay(250)
    }
  }
}

async function launch(
  binaries: Binaries,
  data: string,
  log: string,
  port: number,
  owner: Owner | undefined,
  options: LocalPostgresOptions,
): Promise<LocalPostgres> {
  const flags = Object.entries({ ...settings, ...options.settings }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const output = await open(log, 'w', 0o600)
  // Detached: a Ctrl-C in the terminal is for the parent, which then stops the server in order.
  const server = spawn(binaries.postgres, ['-D', data, '-p', String(port), ...flags], {
    ...owner,
    stdio: ['ignore', output.fd, output.fd],
    detached: true,
  })
  await output.close()
  const ended = new Promise<void>((resolve) => {
    server.once('exit', () => resolve())
    server.once('error', () => resolve())
  })
  const credentials = options.password === undefined ? 'postgres' : `postgres:${options.password}`
  const url = (database = 'postgres') => `postgres://${credentials}@127.0.0.1:${port}/${database}`
  try {
    await ready(server, url(), data, ended, log)
  } catch (error) {
    server.kill('SIGQUIT')
    await ended
    throw error
  }
  return {
    url,
    port,
    ended,
    async stop() {
      server.kill('SIGINT')
      await ended
    },
    kill() {
      server.kill('SIGQUIT')
    },
  }
}

/** Made under another name and renamed when it is whole: a cluster under its own name is never half of one. */
async function createCluster(
  binaries: Binaries,
  home: string,
  data: string,
  owner: Owner | undefined,
  password: string | undefined,
): Promise<void> {
  for (const left of (await readdir(home)).filter((name) => name.startsWith('pg.new-')))
    await rm(join(home, left), { recursive: true, force: true }).catch(() => undefined)
  const making = join(home, `pg.new-${randomBytes(6).toString('hex')}`)
  await mkdir(making, { mode: 0o700 }).catch((cause: NodeJS.ErrnoException) => {
    throw notWritable(home, cause)
  })
  if (owner !== undefined) await chown(making, owner.uid, owner.gid)
  const flags = [
    `--pgdata=${making}`,
    '--username=postgres',
    '--locale=C.UTF-8',
    '--lc-messages=C',
    '--encoding=UTF8',
    '--no-instructions',
    '--no-sync',
  ]
  const passwordFile = `${making}.password`
  try {
    if (password === undefined) {
      // Trust is safe in a test run: the server listens on the loopback address alone and holds nothing of anybody's.
      await run(binaries.initdb, [...flags, '--auth=trust'], owner)
    } else {
      await writeFile(passwordFile, password, { mode: 0o600 })
      if (owner !== undefined) await chown(passwordFile, owner.uid, owner.gid)
      await run(binaries.initdb, [...flags, '--auth=scram-sha-256', `--pwfile=${passwordFile}`], owner)
    }
    await rename(making, data)
  } finally {
    await rm(passwordFile, { force: true })
  }
}

/** Stops the server that runs in `data` without a parent, and removes a pid file that speaks of another program. */
async function stopLeftOver(data: string): Promise<void> {
  const pidFile = join(data, 'postmaster.pid')
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0])
  if (!Number.isInteger(pid) || pid <= 1) return
  if (!isAlive(pid)) return
  if (!(await isServerOf(pid, data))) {
    // The number was given to another program since. PostgreSQL would believe that its server still runs.
    await rm(pidFile, { force: true })
    return
  }
  process.kill(pid, 'SIGINT')
  for (let waited = 0; isAlive(pid); waited += 50) {
    if (waited === 10_000) process.kill(pid, 'SIGQUIT')
    if (waited > 20_000)
      throw new CaretakerError(
        'local_stack',
        `A PostgreSQL server (process ${pid}) still runs in ${dirname(data)} and does not stop. End it with: kill -QUIT ${pid}`,
      )
    await delay(50)
  }
}

async function isServerOf(pid: number, data: string): Promise<boolean> {
  if (process.platform !== 'linux') return (await commandOf(pid)).includes(data)
  // The server works in its own folder; that stays true when the folder is renamed under it.
  return (await realpath(`/proc/${pid}/cwd`).catch(() => '')) === (await realpath(data))
}

function run(command: string, args: string[], owner: Owner | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...owner, stdio: ['ignore', 'ignore', 'pipe'] })
    let output = ''
    child.stderr.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0) resolve()
      else reject(new CaretakerError('local_stack', `${command} failed (${signal ?? `exit ${code}`}): ${output.trim()}`))
    })
  })
}

async function ready(server: ChildProcess, url: string, data: string, ended: Promise<void>, log: string): Promise<void> {
  let over = false
  void ended.then(() => {
    over = true
  })
  const problem = async (what: string) => {
    const output = (await readFile(log, 'utf8').catch(() => '')).trim().split('\n').slice(-8).join('\n')
    return new CaretakerError('local_stack', `PostgreSQL ${what}. Its log (${log}) ends with:\n${output}`)
  }
  // Recovery after a kill takes as long as there is log to replay.
  for (let attempt = 0; attempt < 1_200; attempt++) {
    if (over) throw await problem(`did not start (${server.signalCode ?? `exit ${server.exitCode}`})`)
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 })
    client.on('error', () => undefined)
    try {
      await client.connect()
      // On a port that another PostgreSQL has taken, the one that answers is not ours.
      const { rows } = await client.query<{ data_directory: string }>('show data_directory')
      if (rows[0]?.data_directory === data) return
      await delay(50)
    } catch (error) {
      if ((error as { code?: string }).code === '28P01')
        throw new CaretakerError(
          'local_stack',
          'The cluster was made with another password than the one in secrets.json. Restore that file, or remove the data folder to start over.',
        )
      await delay(50)
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  throw await problem('did not answer within a minute')
}

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new CaretakerError('local_stack', 'no free port')
  return address.port
}

function notWritable(directory: string, cause: NodeJS.ErrnoException): CaretakerError {
  return new CaretakerError(
    'local_stack',
    `The data folder ${directory} cannot be written (${cause.code}). Choose another: npm start -- --data DIR`,
    { cause },
  )
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
