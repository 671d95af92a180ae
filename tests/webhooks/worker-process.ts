import { defineConfig } from '../../lib/config/index.ts'
import { systemClock } from '../../lib/platform/clock.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { processInbox, receiveWebhook } from '../../lib/webhooks/index.ts'
import { signStripe, stripeEvent } from '../doubles/stripe.ts'
import { testContext } from '../support/context.ts'

/*
 * A worker to be killed: `node worker-process.ts accept|apply DATABASE_URL FROM`. `accept` takes events evt_FROM… and says
 * each id on stdout once it was acknowledged; `apply` applies what waits until it is killed.
 */

const [mode, url = '', from = '0'] = process.argv.slice(2)
const secret = 'whsec_test_of_the_endpoint'
const db = openDatabase({ sessionUrl: url, maxConnections: 4 })
const ctx = testContext(db, {
  clock: systemClock,
  env: readEnv({ ENCRYPTION_KEY: 'ef'.repeat(32), STRIPE_WEBHOOK_SECRET: secret }),
  config: defineConfig({
    app: { name: 'Test' },
    webhooks: {
      stripe: {
        on: {
          'invoice.paid': async (event, tx) => {
            await tx.execute('insert into ledger (event, object, created) values ($1, $2, $3)', [
              event.id,
              event.data.object.id,
              event.created,
            ])
            await tx.execute('update balances set cents = cents + $2::int where object = $1', [
              event.data.object.id,
              event.data.object.amount,
            ])
          },
        },
      },
    },
  }),
})

if (mode === 'accept') {
  const accept = async (n: number) => {
    const body = stripeEvent({ id: `evt_${n}`, created: 1_795_000_000 + n, object: { id: `sub_${n % 5}`, amount: n } })
    const signed = signStripe(body, secret, Math.floor(ctx.clock.now().getTime() / 1000))
    await receiveWebhook(ctx, 'stripe', { headers: new Headers({ 'stripe-signature': signed }), body: Buffer.from(body) })
    process.stdout.write(`${n}\n`)
  }
  for (let n = Number(from); ; n += 4) await Promise.all([accept(n), accept(n + 1), accept(n + 2), accept(n + 3)])
}
process.stdout.write('ready\n')
for (;;) {
  const done = await Promise.all([processInbox(ctx, { limit: 20 }), processInbox(ctx, { limit: 20 })])
  if (done.some((outcome) => outcome.failed > 0 || outcome.dead > 0)) throw new Error('a handler failed')
  if (done.every((outcome) => outcome.applied === 0)) await new Promise((resolve) => setTimeout(resolve, 20))
}
