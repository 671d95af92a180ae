import { defineConfig } from '../../lib/config/index.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { processInboxJob } from '../../lib/webhooks/process.ts'
import { testContext } from '../support/context.ts'

/*
 * One taking of the job by a worker whose handler ends the process at one event, as running out of memory does:
 * `node crashing-worker.child.ts DATABASE_URL ATTEMPT`.
 */

const [url = '', attempt = '1'] = process.argv.slice(2)
const db = openDatabase({ sessionUrl: url, maxConnections: 3 })
const ctx = testContext(db, {
  env: readEnv({ ENCRYPTION_KEY: 'ef'.repeat(32) }),
  config: defineConfig({
    app: { name: 'Test' },
    webhooks: {
      stripe: {
        on: {
          'invoice.paid': async (event, tx) => {
            await tx.execute('insert into tried (event) values ($1)', [event.id])
            if (event.id === 'evt_fatal') process.exit(70)
          },
        },
      },
    },
  }),
})
await processInboxJob(ctx, {
  id: '00000000-0000-4000-8000-000000000000',
  job: 'webhooks',
  slot: new Date(),
  attempt: Number(attempt),
  params: {},
  checkpoint: null,
  save: () => Promise.resolve(),
  shouldHandOver: () => false,
  callForHelp: () => Promise.resolve(),
})
await db.close()
