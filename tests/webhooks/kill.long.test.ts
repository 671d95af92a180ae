import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, it } from 'vitest'
import { useTestDatabase } from '../support/database.ts'

const script = fileURLToPath(new URL('./worker-process.ts', import.meta.url))
const test = useTestDatabase()
let child: ChildProcess | undefined

afterEach(() => {
  child?.kill('SIGKILL')
})

/** Starts a worker, lets it work for a random while after its first word, kills it, and returns what it had said. */
async function killedWorker(mode: 'accept' | 'apply', from: number): Promise<string[]> {
  const worker = spawn(process.execPath, [script, mode, test.url, String(from)], { stdio: ['ignore', 'pipe', 'inherit'] })
  child = worker
  let said = ''
  worker.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  const ended = once(worker, 'close')
  // On a slow machine a moment is no work at all: so many events are acknowledged in any case.
  const words = mode === 'accept' ? 20 : 1
  while (said.split('\n').length <= words) await once(worker.stdout, 'data')
  await delay(Math.random() * 150)
  expect(worker.exitCode).toBeNull()
  worker.kill('SIGKILL')
  await ended
  // A line that was cut off was still an acknowledgement only if it was whole.
  return said.split('\n').slice(0, -1)
}

it('loses no acknowledged event and applies none twice, however often accepting and applying are killed', async () => {
  await test.db.execute(`
    create table ledger (n bigint generated always as identity, event text, object text, created bigint);
    create table balances (object text primary key, cents bigint not null default 0);
    insert into balances (object) select 'sub_' || n from generate_series(0, 4) n`)
  const acknowledged = new Set<string>()
  for (let kill = 0; kill < 12; kill++) {
    // Each begins a little before where the last was killed: those events are repeats.
    const from = Math.max(0, acknowledged.size - 10)
    for (const id of await killedWorker('accept', from)) acknowledged.add(id)
    await killedWorker('apply', 0)
  }
  expect(acknowledged.size).toBeGreaterThan(100)

  const waiting = async () =>
    (await test.db.query<{ count: number }>(`select count(*)::int as count from caretaker.inbox where state = 'received'`))[0]?.count
  const last = spawn(process.execPath, [script, 'apply', test.url], { stdio: ['ignore', 'ignore', 'inherit'] })
  child = last
  while ((await waiting()) !== 0) {
    expect(last.exitCode).toBeNull()
    await delay(100)
  }
  last.kill('SIGKILL')
  await once(last, 'close')

  const stored = await test.db.query<{ event_id: string; state: string }>('select event_id, state from caretaker.inbox')
  const missing = [...acknowledged].filter((n) => !stored.some((row) => row.event_id === `evt_${n}`))
  expect(missing).toEqual([])
  expect(stored.filter((row) => row.state !== 'applied')).toEqual([])
  // Every stored event has one line in the ledger, and the balances are the sums of the amounts.
  expect(await test.db.query('select count(*)::int as lines, count(distinct event)::int as events from ledger')).toEqual([
    { lines: stored.length, events: stored.length },
  ])
  const sums = new Map<string, number>()
  for (const { event_id } of stored) {
    const n = Number(event_id.slice(4))
    sums.set(`sub_${n % 5}`, (sums.get(`sub_${n % 5}`) ?? 0) + n)
  }
  const balances = await test.db.query<{ object: string; cents: number }>('select object, cents::float8 as cents from balances')
  expect(new Map(balances.map((row) => [row.object, row.cents]))).toEqual(sums)
})
