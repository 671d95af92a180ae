import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { claimManually, findRun } from '../../lib/jobs/index.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { hurriedQueue } from './jobs.ts'

const test = useTestDatabase()

it('ends with the same result however often its worker is killed', { timeout: 900_000 }, async () => {
  await test.db.execute('create table counted (number int)')
  const ctx = testContext(test.db)
  const start = () =>
    spawn(process.execPath, [new URL('counting-worker.child.ts', import.meta.url).pathname, test.url], { stdio: 'inherit' })
  // pg-boss is installed by the first worker; kill that one too.
  const run = await claimManually(ctx, 'count')
  for (let kill = 0; kill < 3; kill++) {
    const child = start()
    await delay(400 + Math.random() * 600)
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    if ((await findRun(test.db, run.id))?.state === 'done') break
  }
  // The tick after a death wakes a worker, which stays until the dead one's heartbeat has lapsed: one is enough.
  const last = start()
  await once(last, 'exit')
  expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', result: { counted: 40 } })
  const rows = await test.db.query<{ number: number }>('select number from counted order by number')
  expect(rows.map((row) => row.number)).toEqual(Array.from({ length: 40 }, (_, index) => index + 1))
})

it('lets a worker that was stopped for a while, and taken for dead, change nothing when it goes on', { timeout: 900_000 }, async () => {
  await test.db.execute('drop table if exists counted; create table counted (number int)')
  const ctx = testContext(test.db)
  await hurriedQueue(ctx)
  // Not so hurried that a slow machine's pauses are deaths as well.
  await test.db.execute('update pgboss.queue set heartbeat_seconds = 5')
  const run = await claimManually(ctx, 'count')
  const child = new URL('counting-worker.child.ts', import.meta.url).pathname
  const start = (...more: string[]) => spawn(process.execPath, [child, test.url, ...more], { stdio: 'inherit' })
  // It stops itself behind its fifth number: whoever tells it from outside may come too early or too late.
  const stopped = start('5')
  for (;;) {
    expect(stopped.exitCode).toBeNull()
    const [row] = await test.db.query<{ count: number }>('select count(*)::int as count from counted')
    if ((row?.count ?? 0) >= 5) break
    await delay(10)
  }
  const successor = start()
  await once(successor, 'exit')
  expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', attempt: 2, result: { counted: 40 } })
  stopped.kill('SIGCONT')
  const [code] = (await once(stopped, 'exit')) as [number | null]
  expect(code).toBe(0)
  expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', attempt: 2, result: { counted: 40 }, error: null })
  const rows = await test.db.query<{ number: number }>('select number from counted order by number')
  expect(rows.map((row) => row.number)).toEqual(Array.from({ length: 40 }, (_, index) => index + 1))
})
