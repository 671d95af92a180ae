import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { emitToSubscribers } from '../../../lib/webhooks/index.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const script = fileURLToPath(new URL('./deliver.child.ts', import.meta.url))
const test = useTestDatabase()
const messages = 400
let sender: ChildProcess | undefined

afterEach(() => void sender?.kill('SIGKILL'))

it('every message arrives, with one id however often its sender is killed', async () => {
  const arrived = new Map<string, number>()
  const server = createServer((request, response) => {
    const id = String(request.headers['webhook-id'])
    request.resume().on('end', () => {
      arrived.set(id, (arrived.get(id) ?? 0) + 1)
      // Some answers come late, so that a kill falls between what arrived and what was noted.
      setTimeout(() => response.writeHead(200).end(), Math.random() * 20)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const receiver = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const ctx = testContext(test.db, {
    env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32) }),
    config: defineConfig({
      app: { name: 'Test' },
      webhooks: { subscribers: { n8n: { url: receiver, events: ['*'], allowPrivate: true } } },
    }),
  })
  const ids = new Set<string>()
  for (let n = 0; n < messages; n++) {
    const id = await test.db.transaction((tx) => emitToSubscribers(ctx, tx, { type: 'order.paid', data: { n } }))
    if (id !== null) ids.add(id)
  }
  const start = async (turn: number) => {
    // Each a minute later by its clock: what the one before had begun is due again.
    const started = spawn(process.execPath, [script, test.url, receiver, String(turn * 60_000)], { stdio: ['ignore', 'pipe', 'inherit'] })
    sender = started
    await once(started.stdout, 'data')
    return started
  }
  const states = async () =>
    Object.fromEntries(
      (
        await test.db.query<{ state: string; count: number }>(
          'select state, count(*)::int as count from caretaker.deliveries group by state',
        )
      ).map(({ state, count }) => [state, count]),
    ) as { waiting?: number; delivered?: number }
  let begun = 0
  for (let kill = 0; kill < 8; kill++) {
    const victim = await start(kill)
    const before = arrived.size
    while (arrived.size < before + 20) await delay(2)
    victim.kill('SIGKILL')
    await once(victim, 'close')
    begun += arrived.size - ((await states()).delivered ?? 0)
  }
  const last = await start(8)
  while (((await states()).waiting ?? 0) > 0) {
    expect(last.exitCode).toBeNull()
    await delay(50)
  }
  last.kill('SIGKILL')
  await once(last, 'close')
  server.close()
  expect(await states()).toEqual({ delivered: messages })
  expect(new Set(arrived.keys())).toEqual(ids)
  // Some had arrived when their sender was killed, and came again under the same id.
  expect(begun).toBeGreaterThan(0)
  expect([...arrived.values()].reduce((sum, times) => sum + times, 0)).toBeLessThan(messages + 8 * 8)
})
