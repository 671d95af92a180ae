import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { listBackups, restoreBackup } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { claimManually, findRun } from '../../../lib/jobs/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { testContext, testEncryptionKey } from '../../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../../support/database.ts'

const source = useTestDatabase()
const total = 40_000
let folder: string
let ctx: Context
let workers: Set<ChildProcess>
let started: number
let moving: AbortController
let mover: Promise<void>
/** How many times as long everything takes as on a machine with nothing else to do: lives, leases and the store are that much longer. */
let slowness = 1

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-shared-'))
  await source.db.execute(`create table a (id int primary key, amount int, filler text);
    create table b (id int primary key, amount int, filler text);
    insert into a select n, 1, repeat('a', 100) from generate_series(1, 20000) n;
    insert into b select n, 1, repeat('b', 100) from generate_series(1, 20000) n`)
  // A worker with nothing to do, twice: the first one of all installs the queue.
  for (let time = 0; time < 2; time++) {
    const begun = performance.now()
    await once(spawnWorker(16_000), 'exit')
    slowness = Math.max(1, (performance.now() - begun) / 2_000)
  }
})
afterAll(() => rm(folder, { recursive: true, force: true }))

beforeEach(async () => {
  await source.db.execute('truncate caretaker.runs, caretaker.outbox; truncate caretaker.dumps cascade')
  await rm(join(folder, 'store'), { recursive: true, force: true })
  workers = new Set()
  started = 0
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Shared' }, backup: { encryption: 'none' } }),
    objects: () => openObjectStore(`file://${folder}/store`, ctx.env),
  })
})

function spawnWorker(lifeMs: number): ChildProcessByStdio<null, Readable, null> {
  const script = new URL('backup-worker.child.ts', import.meta.url).pathname
  const life = String(Math.ceil(lifeMs * slowness))
  return spawn(process.execPath, [script, source.url, `file://${folder}/store`, life, testEncryptionKey, String(slowness)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

function startWorker(lifeMs: number): void {
  const child = spawnWorker(lifeMs)
  workers.add(child)
  started++
  child.once('exit', () => workers.delete(child))
  child.stdout.on('data', (chunk: Buffer) => {
    for (const _ of chunk.toString().matchAll(/wake/g)) if (workers.size < 4) startWorker(lifeMs)
  })
}

/** Money moves between the two tables all the while: only one snapshot has the total. */
async function moveMoney(signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const [from, to] = Math.random() < 0.5 ? ['a', 'b'] : ['b', 'a']
    await source.db.transaction(async (tx) => {
      await tx.execute(`update ${from} set amount = amount - 1 where id = $1::int`, [1 + Math.floor(Math.random() * 20_000)])
      await tx.execute(`update ${to} set amount = amount + 1 where id = $1::int`, [1 + Math.floor(Math.random() * 20_000)])
    })
    await delay(1)
  }
}

/** Until the run has ended; a tick wakes a worker every eight seconds, as it does every minute in production. */
async function finish(run: string, lifeMs: number, whileItRuns: () => void | Promise<void> = () => undefined): Promise<void> {
  for (let second = 0; second < 270 * slowness; second++) {
    const state = (await findRun(source.db, run))?.state
    if (state === 'done' || state === 'failed') break
    if (workers.size === 0 || (second % 8 === 7 && workers.size < 4)) startWorker(lifeMs)
    await whileItRuns()
    await delay(1_000)
  }
  moving.abort()
  await mover
  await Promise.all([...workers].map((worker) => once(worker, 'exit')))
}

async function restoredTotal(id: string): Promise<number> {
  const target = await createTestDatabase({ template: 'template0' })
  try {
    await restoreBackup(ctx, { id, targetUrl: target.url })
    const [row] = await target.db.query<{ sum: number }>('select ((select sum(amount) from a) + (select sum(amount) from b))::int as sum')
    return row?.sum ?? Number.NaN
  } finally {
    await target.drop()
  }
}

function begin(): void {
  moving = new AbortController()
  mover = moveMoney(moving.signal)
}

test('a dump longer than its invocations is relayed from one to the next, in one snapshot', { timeout: 900_000 }, async () => {
  begin()
  const { id } = await claimManually(ctx, 'backup')
  await finish(id, 16_000)
  const run = await findRun(source.db, id)
  expect(run).toMatchObject({ state: 'done', result: { id: expect.any(String) } })
  expect(run?.dispatch).toBeGreaterThan(0)
  expect(started).toBeGreaterThan(2)
  expect(await source.db.query(`select topic from caretaker.outbox where topic = 'backup.snapshot_lost'`)).toEqual([])
  expect(await restoredTotal('latest')).toBe(total)
})

test('a dead participant costs its parts, not the backup', { timeout: 900_000 }, async () => {
  begin()
  const { id } = await claimManually(ctx, 'backup')
  let kills = 0
  let killedAt = new Date(0)
  await finish(id, 60_000, async () => {
    // Never the last one that has the snapshot: what becomes of the backup then, the next test is about. A worker that has been started need
    // not have it yet, and one that was killed is among the participants until its lease is over.
    const [alive] = await source.db.query<{ participants: number }>(
      'select count(*)::int as participants from caretaker.dump_participants where heartbeat_at > $1::timestamptz',
      [killedAt],
    )
    const [victim] = alive !== undefined && alive.participants > 1 && kills < 3 ? [...workers].slice(-1) : []
    if (victim === undefined) return
    victim.kill('SIGKILL')
    await once(victim, 'exit')
    kills++
    const [clock] = await source.db.query<{ now: Date }>('select clock_timestamp() as now')
    killedAt = clock?.now ?? killedAt
  })
  expect(kills).toBeGreaterThan(0)
  expect(await findRun(source.db, id)).toMatchObject({ state: 'done' })
  expect(await restoredTotal('latest')).toBe(total)
})

test('a lost snapshot is told, nothing of it is used, and the backup begins anew', { timeout: 900_000 }, async () => {
  begin()
  const { id } = await claimManually(ctx, 'backup')
  let killed = false
  await finish(id, 60_000, async () => {
    // In the middle: some parts are stored, others are not.
    const [parts] = await source.db.query<{ done: number; open: number }>(
      `select (count(*) filter (where state = 'done'))::int as done, (count(*) filter (where state <> 'done'))::int as open from caretaker.dump_parts`,
    )
    if (killed || parts === undefined || parts.done < 2 || parts.open < 2) return
    killed = true
    for (const worker of workers) worker.kill('SIGKILL')
  })
  expect(killed).toBe(true)
  expect(await findRun(source.db, id)).toMatchObject({ state: 'done' })
  expect(await source.db.query(`select topic from caretaker.outbox where topic = 'backup.snapshot_lost'`)).toEqual([
    { topic: 'backup.snapshot_lost' },
  ])
  expect(await listBackups(ctx)).toHaveLength(1)
  const folders = new Set<string | undefined>()
  for await (const object of (await ctx.objects()).list('backups/')) folders.add(object.key.split('/')[1])
  expect(folders.size).toBe(1)
  expect(await restoredTotal('latest')).toBe(total)
})
