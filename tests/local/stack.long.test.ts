import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createClient } from '@supabase/supabase-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openDatabase } from '../../lib/platform/db.ts'
import { type Attached, readStack } from '../../local/stack.ts'

const main = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))
let directory: string
const children: ChildProcess[] = []
const attached: Attached[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caretaker-stack-'))
  await chmod(directory, 0o711)
})
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
  for (const one of attached.splice(0)) await one.close()
  // What a killed stack left running is stopped by the next one in its folder.
  if ((await readdir(directory)).includes('d')) await (await attach()).close()
  await rm(directory, { recursive: true, force: true })
})

const data = () => join(directory, 'd')

async function attach(options: Partial<Parameters<typeof readStack>[0]> = {}): Promise<Attached> {
  return readStack({ dataDirectory: data(), rows: 1_000, say: () => undefined, ...options })
}

interface Up {
  child: ChildProcess
  output: () => string
  /** What `--json` prints when everything is up. */
  ready: Promise<{
    url: string
    dashboard: string
    operatorKey: string
    rowsLoaded: number | null
    health: { status: string }
    jobs: { name: string; next: string | null }[]
  }>
  ended: Promise<number | null>
}

function up(...more: string[]): Up {
  const child = spawn(process.execPath, [main, 'up', '--json', '--data', data(), '--port', '0', '--rows', '1000', ...more], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH },
  })
  children.push(child)
  let stdout = ''
  let stderr = ''
  const ready = Promise.withResolvers<Awaited<Up['ready']>>()
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
    try {
      ready.resolve(JSON.parse(stdout))
    } catch {
      // More is to come.
    }
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  const ended = once(child, 'close').then(([code]) => {
    ready.reject(new Error(`ended with ${String(code)}: ${stdout}${stderr}`))
    return code as number | null
  })
  ready.promise.catch(() => undefined)
  return { child, output: () => stdout + stderr, ready: ready.promise, ended }
}

async function people(environment: Record<string, string>): Promise<number> {
  const db = openDatabase({ sessionUrl: environment.DATABASE_URL ?? '', maxConnections: 1 })
  try {
    const [row] = await db.query<{ n: number }>('select count(*)::int as n from auth.users')
    return row?.n ?? 0
  } finally {
    await db.close()
  }
}

describe('caretaker up', () => {
  it('serves everything on one port, is found by commands, refuses a second one, and stops on Ctrl-C', async () => {
    const first = up()
    const ready = await first.ready
    expect(ready).toMatchObject({ rowsLoaded: expect.any(Number), health: { status: 'healthy' } })
    expect(ready.jobs.find((job) => job.name === 'daily-cleanup')?.next).toMatch(/T14:00:00/)
    const health = await fetch(`${ready.url}/health`)
    expect([health.status, await health.json()]).toMatchObject([
      200,
      { status: 'healthy', services: { database: { status: 'healthy' }, homepage: { status: 'healthy' } } },
    ])
    expect((await fetch(`${ready.url}/api/cron/tick`)).status).toBe(401)
    const signedIn = await fetch(`${ready.dashboard}/sign-in`, {
      method: 'POST',
      redirect: 'manual',
      headers: { origin: ready.url },
      body: new URLSearchParams({ key: ready.operatorKey }),
    })
    expect([signedIn.status, signedIn.headers.get('location')]).toEqual([303, '/ops'])

    const found = await attach()
    expect(found.running).toBe(true)
    expect(found.environment.SUPABASE_URL).toBe(ready.url)
    expect(await people(found.environment)).toBe(500)
    const supabase = createClient(ready.url, found.environment.SUPABASE_SERVICE_ROLE_KEY ?? '', { auth: { persistSession: false } })
    const files = await supabase.storage.from('voice-notes').list()
    const [folder] = files.data ?? []
    expect((await supabase.storage.from('voice-notes').download(`${folder?.name}/hello.wav`)).data?.size).toBeGreaterThan(8_000)

    const second = up()
    expect(await second.ended).toBe(1)
    expect(second.output()).toContain(`It is running already, at ${ready.url}`)

    first.child.kill('SIGINT')
    expect(await first.ended).toBe(0)
    expect(first.output()).not.toContain(found.environment.CRON_SECRET)
    await expect(fetch(ready.url)).rejects.toThrow()
  })

  it('comes back after SIGKILL with its data, its keys and its tokens', async () => {
    const first = up()
    const { url } = await first.ready
    const before = (await attach()).environment
    const signedUp = await createClient(url, before.SUPABASE_ANON_KEY ?? '', {
      auth: { persistSession: false, autoRefreshToken: false },
    }).auth.signUp({ email: 'kept@example.com', password: 'correct horse' })
    first.child.kill('SIGKILL')
    await first.ended
    const second = up()
    const again = await second.ready
    expect(again.rowsLoaded).toBeNull()
    const after = (await attach()).environment
    expect(await people(after)).toBe(501)
    for (const name of ['CRON_SECRET', 'ENCRYPTION_KEY', 'SUPABASE_SERVICE_ROLE_KEY', 'BACKUP_RECIPIENTS'])
      expect(after[name], name).toBe(before[name])
    const claims = await createClient(again.url, after.SUPABASE_ANON_KEY ?? '', { auth: { persistSession: false } }).auth.getClaims(
      signedUp.data.session?.access_token ?? '',
    )
    expect(claims.data?.claims.sub).toBe(signedUp.data.user?.id)
  })

  it.each([150, 500, 900, 1_300, 1_700])('killed %i ms after its first start, the next one is whole', async (ms) => {
    const first = up()
    await Promise.race([new Promise((resolve) => setTimeout(resolve, ms)), first.ready])
    first.child.kill('SIGKILL')
    await first.ended
    const second = up()
    expect((await second.ready).health.status).toBe('healthy')
    const { environment } = await attach()
    expect(await people(environment)).toBe(500)
    const db = openDatabase({ sessionUrl: environment.DATABASE_URL ?? '', maxConnections: 1 })
    expect(await db.query(`select count(*)::int as n from pg_database where datname = 'app_loading'`)).toEqual([{ n: 0 }])
    expect(
      await db.query(`select count(*) filter (where metadata is null)::int as broken, count(*)::int > 20 as some from storage.objects`),
    ).toEqual([{ broken: 0, some: true }])
    await db.close()
  })

  it('says what is wrong with its options', async () => {
    for (const [options, message] of [
      [['--port', 'abc'], '--port: found "abc"'],
      [['--example', 'canal'], '--example: found "canal", expected canai'],
      [['--rows', '5'], '--rows: found "5", expected a whole number from 200'],
    ] as const) {
      const run = up(...options)
      expect(await run.ended).toBe(2)
      expect(run.output()).toContain(message)
    }
  })
})

describe('readStack', () => {
  it('loads an example anew whose loading was interrupted', async () => {
    const first = await attach()
    const db = openDatabase({ sessionUrl: (first.environment.DATABASE_URL ?? '').replace(/app$/, 'postgres'), maxConnections: 1 })
    // As a kill in the middle leaves it: under its first name, with some of its tables.
    await db.execute('drop database app with (force)')
    await db.execute('create database app_loading')
    await db.close()
    const half = openDatabase({ sessionUrl: (first.environment.DATABASE_URL ?? '').replace(/app$/, 'app_loading'), maxConnections: 1 })
    await half.execute('create schema auth')
    await half.close()
    await first.close()
    const second = await attach()
    attached.push(second)
    expect(await people(second.environment)).toBe(500)
  })

  it('sets up what was never set up, starts what is not running, and stops it again', async () => {
    const first = await attach()
    attached.push(first)
    expect(first.running).toBe(false)
    expect(await people(first.environment)).toBe(500)
    expect((await fetch(`${first.environment.SUPABASE_URL}/auth/v1/.well-known/jwks.json`)).status).toBe(200)
    // A second command waits for the first.
    const second = attach()
    await first.close()
    attached.splice(0)
    const opened = await second
    expect(await people(opened.environment)).toBe(500)
    await opened.close()
    await expect(people(opened.environment)).rejects.toMatchObject({ code: 'database_unavailable' })
    expect(((await stat(join(data(), 'secrets.json'))).mode & 0o777).toString(8)).toBe('600')
    expect(((await stat(join(data(), 'backup-identity.txt'))).mode & 0o777).toString(8)).toBe('600')
    const identity = await readFile(join(data(), 'backup-identity.txt'), 'utf8')
    expect(identity).toContain(`# public key: ${first.environment.BACKUP_RECIPIENTS}\n`)
    expect(identity).toMatch(/^AGE-SECRET-KEY-1/m)
  })
})
