import { randomInt } from 'node:crypto'
import { backupDatabase, pruneIncrements, takeIncrement } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { systemClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import { createLog } from '../../../lib/platform/log.ts'

// Takes increments, full backups and their retention without end, until it is killed: node FILE DATABASE_URL STORE RECIPIENT ENCRYPTION_KEY KEEP
const [, , url = '', store = '', recipient = '', encryptionKey, keep = '7 days'] = process.argv
const env = readEnv({ ENCRYPTION_KEY: encryptionKey })
const ctx: Context = {
  config: defineConfig({ app: { name: 'Kill' }, backup: { recipients: [recipient], increments: { keep } } }),
  env,
  db: openDatabase({ sessionUrl: url }),
  supabase: () => Promise.reject(new Error('not here')),
  objects: () => openObjectStore(store, env),
  limiter: { hit: (_key, limit) => Promise.resolve({ allowed: true, limit, remaining: limit, resetSeconds: 60 }) },
  log: createLog({ level: 'silent' }),
  sentry: { capture: () => undefined, flush: () => Promise.resolve(true) },
  clock: systemClock,
  fetch: globalThis.fetch,
  actor: { type: 'system' },
  signal: new AbortController().signal,
  deadline: new Date(systemClock.now().getTime() + 3_600_000),
}
process.stdout.write('ready')
for (;;) {
  try {
    const report = await takeIncrement(ctx, { segmentChanges: 200 })
    // Killed within a second, it does not come far: what is next is left to chance.
    if (report.fullNeeded !== null || randomInt(3) === 0) await backupDatabase(ctx)
    await pruneIncrements(ctx)
  } catch (error) {
    // The one before it, which was killed, may still hold the slot.
    if (!hasCode(error, 'conflict')) throw error
  }
}
