import { setTimeout as delay } from 'node:timers/promises'
import { defineConfig } from '../../../lib/config/index.ts'
import { runSteps } from '../../../lib/maintenance/index.ts'
import { openDatabase, type Session } from '../../../lib/platform/db.ts'
import { testContext } from '../../support/context.ts'
import { openRun } from '../job-run.ts'
import { familyRules } from './families.ts'
import { trafficRules } from './traffic.ts'

/** A worker in a process of its own, to be killed: runs every rule once in the run named by the arguments, then exits. */
const [url, job] = process.argv.slice(2)
if (url === undefined || job === undefined) throw new Error('kills.child URL JOB')
const db = openDatabase({ sessionUrl: url, maxConnections: 3 })
const run = await openRun(db, job)
// Makes the instants where a kill hurts most as long as the work itself: between the work and its commit, and between
// taking a partition away and dropping it.
const slow = async () => {
  await delay(15)
}
const slowSession = (session: Session): Session => ({
  ...session,
  async execute(sql, params) {
    if (sql === 'commit') await slow()
    const rows = await session.execute(sql, params)
    if (/detach partition/.test(sql)) await delay(60)
    return rows
  },
})
const slowToCommit: typeof db = {
  ...db,
  transaction: (work, options) =>
    db.transaction(async (tx) => {
      const result = await work(tx)
      if (options?.readOnly !== true) await slow()
      return result
    }, options),
  session: (work) => db.session((session) => work(slowSession(session))),
}
const config = defineConfig({
  app: { name: 'Test' },
  // Families and partitions first in every other slot: what comes last is reached least often.
  retention: /[02468]$/.test(job) ? [...trafficRules, ...familyRules] : [...familyRules, ...trafficRules].reverse(),
  maintenance: { limits: { maxShare: 1 } },
})
process.stdout.write('working\n')
const outcome = await runSteps(testContext(slowToCommit, { config }), [{ retention: 'all' }], run)
await db.close()
process.stdout.write(`${outcome.status}\n`)
