import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { Pace } from '../../../lib/backup/shared-dump/participate.ts'
import { assistBackup, sharedBackup } from '../../../lib/backup/shared-dump/shared-backup.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { type Job, work } from '../../../lib/jobs/index.ts'
import { systemClock } from '../../../lib/platform/clock.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { createLog } from '../../../lib/platform/log.ts'
import type { ObjectStore } from '../../../lib/platform/objects.ts'

// One invocation of the worker, short-lived on purpose: `URL STORE LIFE_MS ENCRYPTION_KEY SLOWNESS`. Prints `wake` when it asks for another.
const [url, folder, lifeMs, encryptionKey, ...more] = process.argv.slice(2) as [string, string, string, string, ...string[]]
const slowness = Number(more[0] ?? 1)
const pace: Pace = { leaveMs: 2_500 * slowness, lastMs: 300 * slowness, partBytes: 200_000, leaseSeconds: Math.ceil(8 * slowness) }
const db = openDatabase({ sessionUrl: url })
const env = readEnv({ ENCRYPTION_KEY: encryptionKey })

/** A store that takes its time, so that a small dump outlives an invocation. */
async function slowStore(): Promise<ObjectStore> {
  const store = await openObjectStore(folder, env)
  return {
    ...store,
    async put(key, body, options) {
      if (key.includes('/data/')) await delay(700 * slowness)
      return store.put(key, body instanceof Readable ? body : Buffer.from(body), options)
    },
  }
}

const backup: Job = {
  name: 'backup',
  description: '',
  schedule: null,
  plan: async () => [],
  async run(ctx, run) {
    const report = await sharedBackup(ctx, run, pace)
    // As the job itself does: its progress is in the dump's own tables.
    return report === 'hand-over'
      ? { status: 'hand-over', progress: true }
      : { status: 'done', result: { id: report.id, rows: report.rows } }
  },
  assist: (ctx, callForHelp) => assistBackup(ctx, callForHelp, pace),
}

const wake = async () => {
  process.stdout.write('wake\n')
}
const report = await work(
  {
    config: defineConfig({ app: { name: 'Shared' }, backup: { encryption: 'none', workers: 2, connections: 1 } }),
    env,
    db,
    supabase: () => Promise.reject(new Error('none')),
    objects: slowStore,
    limiter: { hit: () => Promise.reject(new Error('none')) },
    log: createLog({ level: process.env.TEST_LOG ?? 'silent', destination: process.stderr }),
    sentry: { capture: () => undefined, flush: () => Promise.resolve(true) },
    clock: systemClock,
    fetch,
    actor: { type: 'system' },
    signal: new AbortController().signal,
    deadline: new Date(Date.now() + Number(lifeMs)),
  },
  [backup],
  { wake },
)
if (report.more) await wake()
await db.close()
process.exit(0)
