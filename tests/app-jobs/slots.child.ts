import { appTasks } from '../../lib/app-jobs/index.ts'
import { type AppJobFunction, defineConfig, type JobStep } from '../../lib/config/index.ts'
import { runSteps } from '../../lib/maintenance/index.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { openRun } from '../maintenance/job-run.ts'
import { testContext } from '../support/context.ts'

/*
 * A worker to be killed: `node slots.child.ts DATABASE_URL APP_URL SECRET SLOTS`. Works the jobs slot-0, slot-1, … one after
 * the other, each with a function, a call, a statement and a report, and goes on where the last one was killed.
 */

const [url = '', app = '', secret = '', slots = '0'] = process.argv.slice(2)
const db = openDatabase({ sessionUrl: url, maxConnections: 4 })

const once: AppJobFunction = async (context, run) => {
  await context.db.transaction(async (tx) => {
    await tx.execute('insert into by_function values ($1)', [run.job])
    await run.finish(tx, { rows: 1 })
  })
}
const inPieces: AppJobFunction = async (context, run) => {
  for (let piece = Number(run.checkpoint ?? 0); piece < 3; piece++)
    await context.db.transaction(async (tx) => {
      await tx.execute('insert into by_pieces values ($1, $2)', [run.job, piece])
      await run.save(piece + 1, tx)
    })
}

process.stdout.write('ready\n')
for (let slot = 0; slot < Number(slots); slot++) {
  const job = `slot-${slot}`
  const ctx = testContext(db, {
    env: readEnv({ APP_WEBHOOK_SECRET: secret }),
    config: defineConfig({
      app: { name: 'Test', url: app },
      reports: { slots: { sql: `select '${job}' as job, count(*)::int as pieces from by_pieces where job = '${job}'`, into: 'by_report' } },
    }),
  })
  const steps: JobStep[] = [
    { run: once },
    { run: inPieces },
    { call: { path: '/work', retries: 20 } },
    { sql: `insert into by_statement values ('${job}')` },
    { report: 'slots' },
  ]
  await runSteps(ctx, steps, await openRun(db, job), appTasks)
}
process.stdout.write('all\n')
await db.close()
