import { defineConfig } from '../../../lib/config/index.ts'
import { systemClock } from '../../../lib/platform/clock.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { deliverMessages } from '../../../lib/webhooks/index.ts'
import { testContext } from '../../support/context.ts'

/* A sender to be killed: `node deliver.child.ts DATABASE_URL RECEIVER_URL AHEAD_MS`. Its clock is ahead by so much. */

const [url = '', receiver = '', ahead = '0'] = process.argv.slice(2)
const db = openDatabase({ sessionUrl: url, maxConnections: 5 })
const ctx = testContext(db, {
  clock: { ...systemClock, now: () => new Date(systemClock.now().getTime() + Number(ahead)) },
  env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32) }),
  deadline: new Date(systemClock.now().getTime() + Number(ahead) + 600_000),
  config: defineConfig({
    app: { name: 'Test' },
    webhooks: { subscribers: { n8n: { url: receiver, events: ['*'], allowPrivate: true, timeout: '5 seconds' } } },
  }),
})
process.stdout.write('ready\n')
for (;;) {
  const { delivered } = await deliverMessages(ctx)
  if (delivered === 0) await new Promise((resolve) => setTimeout(resolve, 20))
}
