import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { getResponse } from 'msw'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { listIncidents, listNotifications } from '../../../lib/alerts/index.ts'
import { useTestDatabase } from '../../support/database.ts'
import { doubles } from '../../support/doubles.ts'
import { type Dependency, startDependency } from './dependency.ts'
import { Killed, mortal } from './mortal.ts'
import { type Operations, operations, steps } from './operations.ts'

const test = useTestDatabase()
let dependency: Dependency
let child: ChildProcess | undefined

beforeAll(async () => {
  dependency = await startDependency()
})
afterAll(() => dependency.close())
afterEach(() => {
  child?.kill('SIGKILL')
})

const policy = () => ({
  health: { checks: { app: { kind: 'url', url: dependency.url, timeoutMs: 20_000 } } },
  alerts: { channels: { slack: {}, pagerduty: {} }, keepFiringFor: '1 minute', remindEvery: '30 days' },
})

/** A minute in which the process is killed at its step number `at`; whether it was, and not before it was done. */
async function deadlyMinute({ ctx, clock }: Operations, at: number): Promise<boolean> {
  clock.advance(60_000)
  const victim = mortal(ctx, at)
  for (const step of Object.values(steps)) {
    await step(victim.ctx).catch((error: unknown) => {
      // A checker may take its own death for its dependency's; it can tell nobody.
      if (!victim.dead()) throw error
      if (!(error instanceof Killed)) ctx.log.debug({ err: error }, 'died')
    })
    if (victim.dead()) return true
  }
  return false
}

it('killed at any step, it tells of a cause and of its end, one incident and one page', async () => {
  let doubleMessages = 0
  let deaths = 0
  for (let at = 1, dies = true; dies; at++) {
    const made = operations(test.db, policy())
    doubles.use(...made.handlers)
    await dependency.set('well')
    await made.minutes()
    await dependency.set('failing')
    const diedOpening = await deadlyMinute(made, at)
    await made.minutes(2)
    await dependency.set('well')
    await made.minutes()
    const diedEnding = await deadlyMinute(made, at)
    await made.minutes(3)
    dies = diedOpening || diedEnding
    deaths += Number(diedOpening) + Number(diedEnding)

    const where = `killed at step ${at}`
    expect(await listIncidents(made.ctx), where).toMatchObject([{ number: 1, component: 'app', state: 'resolved', reopened: 0 }])
    expect(made.pagerDuty.incidents, where).toMatchObject([{ state: 'resolved' }])
    const said = await made.said()
    // Slack knows no repeats: what it was told in the very moment of a death it is told again, once.
    expect(said.length - 2, where).toBeLessThanOrEqual(Number(diedOpening) + Number(diedEnding))
    doubleMessages += said.length - 2
    expect([...new Set(said)], where).toEqual(['opened app', 'resolved app'])
    expect(
      (await listNotifications(made.ctx, { limit: 100 })).map(({ state }) => state),
      where,
    ).toEqual(Array(4).fill('delivered'))
    doubles.resetHandlers()
  }
  expect(deaths).toBeGreaterThan(40)
  expect(doubleMessages).toBeGreaterThan(0)
  expect(doubleMessages).toBeLessThan(deaths / 2)
})

it('kill -9, again and again, while something breaks and is mended: everything is told, each page once', async () => {
  const made = operations(test.db, policy())
  // What the doubles would take in this process, over a port of this machine for the other one.
  const receiver = createServer((request, response) => {
    void buffer(request).then(async (body) => {
      const url = `https://${String(request.headers['x-host'])}${request.url ?? '/'}`
      const headers = { 'content-type': String(request.headers['content-type']) }
      const answer = await getResponse(made.handlers, new Request(url, { method: 'POST', headers, body }))
      response.writeHead(answer?.status ?? 404).end(await answer?.text())
    })
  })
  receiver.listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  const script = fileURLToPath(new URL('./operate.child.ts', import.meta.url))
  const startedAt = Date.now()
  let kills = 0

  /** Processes one after the other, the first ones killed, until `done`. */
  async function operate(killed: number, done: () => Promise<boolean>): Promise<void> {
    for (let left = killed; ; left--) {
      const process_ = spawn(
        process.execPath,
        [
          script,
          test.url,
          `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`,
          dependency.url,
          made.ctx.env.CARETAKER_ENVIRONMENT ?? '',
          String(startedAt),
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      )
      child = process_
      const ended = once(process_, 'close')
      await Promise.race([once(process_.stdout, 'data'), ended])
      if (left > 0) await delay(Math.random() * 150)
      else for (let patience = 0; !(await done()) && process_.exitCode === null && patience < 2_000; patience++) await delay(50)
      process_.kill('SIGKILL')
      await ended
      if (left <= 0) return
      kills++
    }
  }
  const isOver = async (state: string) => {
    const [incident] = await listIncidents(made.ctx)
    const waiting = (await listNotifications(made.ctx, { limit: 100 })).filter((one) => one.state === 'waiting')
    return incident !== undefined && (incident.state === 'resolved') === (state === 'resolved') && waiting.length === 0
  }

  await dependency.set('failing')
  await operate(6, () => isOver('open'))
  await dependency.set('well')
  await operate(6, () => isOver('resolved'))
  receiver.close()

  expect(kills).toBe(12)
  const incidents = await listIncidents(made.ctx)
  expect(incidents).toMatchObject([{ component: 'app', state: 'resolved' }])
  expect(new Set(made.pagerDuty.incidents.filter(({ summary }) => !summary.includes('Watching')).map(({ key }) => key)).size).toBe(1)
  expect(made.pagerDuty.incidents.every(({ state }) => state === 'resolved')).toBe(true)
  const said = (await made.said()).filter((one) => !one.includes('Watching again'))
  expect(said[0]).toBe('opened app')
  expect(said.at(-1)).toBe('resolved app')
  // Beyond the two only what was told in the moment of a death, told again.
  expect(said.length - new Set(said).size).toBeLessThanOrEqual(kills)
})
