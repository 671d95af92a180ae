import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { getResponse } from 'msw'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { webhooks } from '../../lib/routes/webhooks.ts'
import { processInbox, receiveWebhook } from '../../lib/webhooks/index.ts'
import { type StripeState, signStripe, stripeApi, stripeState } from '../doubles/stripe.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { testServer } from '../support/serve.ts'
import { generator, shuffled, stripeHistory } from './stripe-history.ts'
import { appTables, historyPolicy, tablesAsText } from './stripe-tables.ts'

/*
 * A whole history, shuffled, every event sent one to five times by eight clients at once, with the worker killed again and
 * again. WEBHOOK_EVENTS=10000 WEBHOOK_KILLS=50 is the full measure; by default it is a fifth of it.
 */

const events = Number(process.env.WEBHOOK_EVENTS ?? 2_000)
const kills = Number(process.env.WEBHOOK_KILLS ?? 15)
const secret = 'whsec_test_of_the_endpoint'
const script = fileURLToPath(new URL('./history-worker.child.ts', import.meta.url))
const test = useTestDatabase()
const history = stripeHistory(events, 42)
let stripe: StripeState
let server: Server
let worker: ChildProcess | undefined

beforeEach(async () => {
  stripe = stripeState()
  stripe.objects = history.objects
  // Long after the last event: what is looked up is how everything ended.
  stripe.now = () => new Date(((history.events.at(-1)?.created ?? 0) + 60) * 1_000)
  const handlers = stripeApi(stripe)
  doubles.use(...handlers)
  server = createServer((request, response) => {
    void getResponse(
      handlers,
      new Request(`https://api.stripe.com${request.url}`, { headers: request.headers as Record<string, string> }),
    ).then(async (answer) => {
      response.writeHead(answer?.status ?? 404, Object.fromEntries(answer?.headers ?? []))
      response.end(await answer?.text())
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
})

afterEach(() => {
  worker?.kill('SIGKILL')
  server.close()
})

function context(db: Context['db']): Context {
  return testContext(db, {
    clock: systemClock,
    config: historyPolicy,
    env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), STRIPE_WEBHOOK_SECRET: secret, STRIPE_SECRET_KEY: stripe.key }),
    deadline: new Date(Date.now() + 3_600_000),
  })
}

async function startWorker(): Promise<ChildProcess> {
  const started = spawn(process.execPath, [script, test.url, `http://127.0.0.1:${(server.address() as AddressInfo).port}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  worker = started
  await once(started.stdout ?? started, 'data')
  return started
}

it('ends in the tables of the ordered single pass', { timeout: 900_000 }, async () => {
  const ordered = await createTestDatabase()
  try {
    await ordered.db.execute(appTables)
    await test.db.execute(appTables)
    const single = context(ordered.db)
    for (let from = 0; from < history.events.length; from += 200) {
      const batch = history.events.slice(from, from + 200)
      for (const event of batch) {
        const body = JSON.stringify(event)
        await receiveWebhook(single, 'stripe', { headers: signature(body), body: Buffer.from(body) })
      }
      for (let open = true; open; ) {
        const { applied, ignored, failed, dead } = await processInbox(single)
        expect({ failed, dead }).toEqual({ failed: 0, dead: 0 })
        open = applied + ignored > 0
      }
    }

    const ctx = context(test.db)
    const { request, settled } = testServer(webhooks({ wake: () => Promise.resolve() }), ctx)
    const random = generator(9)
    const sent = shuffled(
      history.events.flatMap((event) => Array.from({ length: 1 + Math.floor(random() * 5) }, () => event)),
      11,
    )
    let next = 0
    let duplicates = 0
    // How many may have been sent by now, and who waits for more.
    let allowed = 0
    let more = Promise.withResolvers<void>()
    const allow = (lives: number) => {
      allowed = lives >= kills ? sent.length : Math.floor((sent.length * lives) / kills)
      more.resolve()
      more = Promise.withResolvers()
    }
    const client = async () => {
      for (let event = sent[next++]; event !== undefined; event = sent[next++]) {
        while (next > allowed && allowed < sent.length) await more.promise
        const body = JSON.stringify(event)
        const headers = {
          'content-type': 'application/json; charset=utf-8',
          'stripe-signature': signature(body).get('stripe-signature') ?? '',
        }
        const answer = await request('/api/webhooks/stripe', { method: 'POST', body, headers })
        expect(answer.status).toBe(200)
        if (((await answer.json()) as { duplicate: boolean }).duplicate) duplicates++
      }
    }
    const clients = Promise.all(Array.from({ length: 8 }, client))

    const waiting = async () =>
      (await test.db.query<{ count: number }>(`select count(*)::int as count from caretaker.inbox where state = 'received'`))[0]?.count ?? 0
    let killedAtWork = 0
    for (let kill = 0; kill < kills; kill++) {
      const victim = await startWorker()
      // The next share of all that is sent: however fast both sides are, there is work for each life.
      allow(kill + 1)
      await delay(100 + Math.random() * 300)
      expect(victim.exitCode).toBeNull()
      if ((await waiting()) > 0) killedAtWork++
      victim.kill('SIGKILL')
      await once(victim, 'close')
    }
    await clients
    await settled()
    expect(killedAtWork).toBeGreaterThan(0)
    expect(duplicates).toBe(sent.length - history.events.length)

    const last = await startWorker()
    while ((await waiting()) > 0) {
      expect(last.exitCode).toBeNull()
      await delay(50)
    }
    const states = await test.db.query('select state, count(*)::int as count from caretaker.inbox group by state order by state')
    const handled = await ordered.db.query('select state, count(*)::int as count from caretaker.inbox group by state order by state')
    expect(states).toEqual(handled)
    expect(await tablesAsText(test.db)).toEqual(await tablesAsText(ordered.db))
    // Both ended as Stripe did.
    const subscriptions = await test.db.query<{ id: string; status: string }>('select id, status from app_subscriptions order by id')
    for (const { id, status } of subscriptions) expect([id, history.objects.get(id)?.status]).toEqual([id, status])
    expect(subscriptions.length).toBeGreaterThan(10)
  } finally {
    worker?.kill('SIGKILL')
    await ordered.drop()
  }
})

function signature(body: string): Headers {
  return new Headers({ 'stripe-signature': signStripe(body, secret, Math.floor(Date.now() / 1000)) })
}
