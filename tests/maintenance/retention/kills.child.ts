import { setTimeout as delay } from 'node:timers/promises'
import { defineConfig } from '../../../lib/config/index.ts'
import { runSteps } from '../../../lib/maintenance/index.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { testContext } from '../../support/context.ts'
import { openRun } from '../job-run.ts'
import { trafficRules } from './traffic.ts'

/** A worker in a process of its own, to be killed: runs every rule once in the run named by the arguments, then exits. */
const [url, job] = process.argv.slice(2)
if (url === undefined || job === undefined) throw new Error('retention.child URL JOB')
const db = openDatabase({ sessionUrl: url, maxConnections: 3 })
const run = await openRun(db, job)
const slowToCommit: typeof db = {
  ...db,
  transaction: (work, options) =>
    db.transaction(async (tx) => {
      const result = await work(tx)
      // Makes the instant between the work and its commit, where a kill hurts most, as long as the work itself.
      await delay(15)
      return result
    }, options),
}
const ctx = testContext(slowToCommit, { config: defineConfig({ app: { name: 'Test' }, retention: trafficRules }) })
process.stdout.write('working\n')
const outcome = await runSteps(ctx, [{ retention: 'all' }], run)
await db.close()
process.stdout.write(`${outcome.status}\n`)
