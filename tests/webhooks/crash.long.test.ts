import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { receiveWebhook } from '../../lib/webhooks/index.ts'
import { signStripe, stripeEvent } from '../doubles/stripe.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

const script = fileURLToPath(new URL('./crashing-worker.child.ts', import.meta.url))
const test = useTestDatabase()
const secret = 'whsec_test_of_the_endpoint'

async function send(id: string, created: number) {
  const ctx = testContext(test.db, {
    env: readEnv({ ENCRYPTION_KEY: 'ef'.repeat(32), STRIPE_WEBHOOK_SECRET: secret }),
    config: defineConfig({ app: { name: 'Test' }, webhooks: { stripe: { on: {} } } }),
  })
  const body = stripeEvent({ id, created, object: { id: `of_${id}` } })
  const headers = new Headers({ 'stripe-signature': signStripe(body, secret, ctx.clock.now().getTime() / 1000) })
  await receiveWebhook(ctx, 'stripe', { headers, body: Buffer.from(body) })
}

/** @returns the exit code */
async function takeOnce(attempt: number): Promise<number> {
  const worker = spawn(process.execPath, [script, test.url, String(attempt)], { stdio: ['ignore', 'inherit', 'inherit'] })
  const [code] = (await once(worker, 'exit')) as [number]
  return code
}

it('an event that ends the process is counted, lets the others pass, and ends as a dead letter', { timeout: 600_000 }, async () => {
  await test.db.execute('create table tried (event text)')
  await send('evt_fatal', 1_795_000_000)
  await send('evt_good', 1_795_000_001)
  const fatal = async () =>
    (
      await test.db.query<{ state: string; attempts: number; error: unknown }>(
        `select state, attempts, error from caretaker.inbox where event_id = 'evt_fatal'`,
      )
    )[0]

  // Nothing told the first worker; the second knows that one died, and notes what it is about to try.
  expect(await takeOnce(1)).toBe(70)
  expect(await fatal()).toMatchObject({ state: 'received', attempts: 0 })
  expect(await takeOnce(2)).toBe(70)
  expect(await fatal()).toMatchObject({ state: 'received', attempts: 1 })
  // Its next attempt is some seconds away; an hour here, as a process may take seconds to start. What stood behind it is applied.
  expect(
    await test.db.query(
      `update caretaker.inbox set next_attempt_at = next_attempt_at + interval '1 hour' where next_attempt_at > received_at + interval '1 second' returning event_id`,
    ),
  ).toEqual([{ event_id: 'evt_fatal' }])
  expect(await takeOnce(3)).toBe(0)
  expect(await test.db.query('select event from tried')).toEqual([{ event: 'evt_good' }])

  // Once counted it is counted in every run, first takings too.
  let crashes = 1
  for (; crashes < 20; crashes++) {
    await test.db.execute(`update caretaker.inbox set next_attempt_at = now() - interval '1 second' where state = 'received'`)
    if ((await takeOnce(1)) === 0) break
  }
  expect(crashes).toBe(12)
  expect(await fatal()).toMatchObject({ state: 'dead', attempts: 12, error: { code: 'worker_died' } })
  expect(await test.db.query(`select payload->>'code' as code from caretaker.outbox where topic = 'webhooks.dead'`)).toEqual([
    { code: 'worker_died' },
  ])
})
