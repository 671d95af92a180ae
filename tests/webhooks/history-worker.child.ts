import { systemClock } from '../../lib/platform/clock.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { processInbox } from '../../lib/webhooks/index.ts'
import { testContext } from '../support/context.ts'
import { historyPolicy } from './stripe-tables.ts'

/*
 * A worker to be killed: `node history-worker.child.ts DATABASE_URL STRIPE_URL`. Applies what waits until it is killed, two
 * events at a time, and asks the Stripe at STRIPE_URL where it has to. Says "ready" once it works.
 */

const [url = '', stripe = ''] = process.argv.slice(2)
const db = openDatabase({ sessionUrl: url, maxConnections: 3 })
const ctx = testContext(db, {
  clock: systemClock,
  config: historyPolicy,
  env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), STRIPE_SECRET_KEY: 'sk_test_51Caretaker' }),
  fetch: (input, init) => {
    const { pathname, search } = new URL(String(input))
    return fetch(new URL(pathname + search, stripe), init)
  },
})
process.stdout.write('ready\n')
for (;;) {
  const done = await Promise.all([processInbox(ctx, { limit: 20 }), processInbox(ctx, { limit: 20 })])
  if (done.some((outcome) => outcome.failed > 0 || outcome.dead > 0)) throw new Error('a handler failed')
  if (done.every((outcome) => outcome.applied === 0)) await new Promise((resolve) => setTimeout(resolve, 20))
}
