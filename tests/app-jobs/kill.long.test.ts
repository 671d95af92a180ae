import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Webhook } from 'standardwebhooks'
import { afterEach, expect, it } from 'vitest'
import { useTestDatabase } from '../support/database.ts'

const script = fileURLToPath(new URL('./slots.child.ts', import.meta.url))
const test = useTestDatabase()
const slots = 30
let child: ChildProcess | undefined
afterEach(() => {
  child?.kill('SIGKILL')
})

it('does each slot once, however often the worker is killed, with an app that remembers what it was told', async () => {
  await test.db.execute(`
    create table by_function (job text);
    create table by_pieces (job text, piece int);
    create table by_statement (job text);
    create table by_report (job text primary key, pieces int)`)
  const secret = `whsec_${Buffer.alloc(32, 5).toString('base64')}`
  const told: { id: string; job: string }[] = []
  const app = createServer((request, response) => {
    void buffer(request).then((body) => {
      new Webhook(secret).verify(body, request.headers as Record<string, string>)
      told.push({ id: String(request.headers['webhook-id']), job: String(request.headers['caretaker-job']) })
      // Every fifth answer never comes, every fourth is a failure that passes.
      if (told.length % 5 === 0) request.socket.destroy()
      else if (told.length % 4 === 0) response.writeHead(503, { 'retry-after': '0' }).end()
      else response.writeHead(200).end()
    })
  })
  app.listen(0, '127.0.0.1')
  await once(app, 'listening')
  const url = `http://127.0.0.1:${(app.address() as AddressInfo).port}`

  let kills = 0
  for (let all = false; !all; ) {
    const worker = spawn(process.execPath, [script, test.url, url, secret, String(slots)], { stdio: ['ignore', 'pipe', 'inherit'] })
    child = worker
    let said = ''
    worker.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    const ended = once(worker, 'close')
    await once(worker.stdout, 'data')
    // The last ones are left alone: the test must end on a slow machine too. The first ones die in the middle, on a fast one too.
    const before = told.length
    if (kills < 4) while (told.length < before + 2 && worker.exitCode === null) await delay(1)
    else if (kills < 15) await Promise.race([delay(Math.random() * 300), ended])
    else await ended
    worker.kill('SIGKILL')
    await ended
    kills++
    all = said.includes('all')
    if (kills > 16) throw new Error('the worker does not get through')
  }
  app.close()

  expect(kills).toBeGreaterThan(3)
  const jobs = Array.from({ length: slots }, (_, slot) => `slot-${slot}`).sort()
  const of = async (table: string) => (await test.db.query<{ job: string }>(`select job from ${table}`)).map((row) => row.job).sort()
  expect(await of('by_function')).toEqual(jobs)
  expect(await of('by_statement')).toEqual(jobs)
  expect(await of('by_report')).toEqual(jobs)
  expect(await of('by_pieces')).toEqual(jobs.flatMap((job) => [job, job, job]))
  expect(await test.db.query('select distinct pieces from by_report')).toEqual([{ pieces: 3 }])
  // At least once on the wire, with one id a slot: once for whoever remembers it.
  const ids = new Map(told.map(({ id, job }) => [id, job]))
  expect([...ids.values()].sort()).toEqual(jobs)
  expect(told.length).toBeGreaterThan(slots)
})
