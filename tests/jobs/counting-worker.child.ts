import { defineConfig } from '../../lib/config/index.ts'
import { type Job, work } from '../../lib/jobs/index.ts'
import { systemClock } from '../../lib/platform/clock.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { createLog } from '../../lib/platform/log.ts'

// A worker of its own process, to be killed: counts from 1 to 40, one row and one checkpoint a transaction. Stands still behind the number
// that is its second argument, until somebody wakes it.
const db = openDatabase({ sessionUrl: process.argv[2] as string })
const standsStillBehind = Number(process.argv[3] ?? 0)
const counting: Job = {
  name: 'count',
  description: '',
  schedule: null,
  plan: async () => [],
  async run(ctx, run) {
    for (let number = ((run.checkpoint as number | null) ?? 0) + 1; number <= 40; number++) {
      await ctx.db.transaction(async (tx) => {
        await tx.execute('insert into counted (number) values ($1::int)', [number])
        await run.save(number, tx)
      })
      if (number === standsStillBehind) process.kill(process.pid, 'SIGSTOP')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return { status: 'done', result: { counted: 40 } }
  },
}
await work(
  {
    config: defineConfig({ app: { name: 'child' } }),
    env: readEnv({}),
    db,
    supabase: () => Promise.reject(new Error('none')),
    objects: () => Promise.reject(new Error('none')),
    limiter: { hit: () => Promise.reject(new Error('none')) },
    log: createLog({ level: 'silent' }),
    sentry: { capture: () => undefined, flush: () => Promise.resolve(true) },
    clock: systemClock,
    fetch,
    actor: { type: 'system' },
    signal: new AbortController().signal,
    deadline: new Date(Date.now() + 120_000),
  },
  [counting],
)
await db.close()
process.exit(0)
