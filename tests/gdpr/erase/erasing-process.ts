import { createClient } from '@supabase/supabase-js'
import policy from '../../../examples/canai/caretaker.config.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { eraseSubject } from '../../../lib/gdpr/index.ts'
import { systemClock } from '../../../lib/platform/clock.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { CaretakerError } from '../../../lib/platform/errors.ts'
import { createLog } from '../../../lib/platform/log.ts'

// Erases SUBJECT in a process of its own, so that it can be killed. Says when it is ready to begin, and what became of it.
const { SUBJECT = '', STORE = '', PROCESSOR = '', TEST_SUPABASE_URL = '', TEST_SERVICE_KEY = '', ...source } = process.env
const env = readEnv(source)
const db = openDatabase({ sessionUrl: env.DATABASE_URL ?? '' })
const objects = await openObjectStore(STORE, env)
const supabase = createClient(TEST_SUPABASE_URL, TEST_SERVICE_KEY, { auth: { persistSession: false, autoRefreshToken: false } })
await db.query('select 1')
process.stdout.write('ready\n')
const outcome = await eraseSubject(
  {
    config: defineConfig({
      ...policy,
      gdpr: { ...policy.gdpr, subject: { table: 'auth.users', id: 'id', email: 'email' }, processors: [{ name: 'crm', url: PROCESSOR }] },
    }),
    env,
    db,
    supabase: () => Promise.resolve(supabase),
    objects: () => Promise.resolve(objects),
    limiter: { hit: () => Promise.reject(new CaretakerError('internal', 'not used')) },
    log: createLog({ level: 'silent' }),
    sentry: { capture: () => undefined, flush: () => Promise.resolve(true) },
    clock: systemClock,
    fetch,
    actor: { type: 'cli' },
    signal: new AbortController().signal,
    deadline: new Date(Date.now() + 60_000),
  },
  { subject: SUBJECT },
).catch((error: unknown) => {
  if (error instanceof CaretakerError && error.code === 'upstream_failed') return { status: error.code }
  throw error
})
process.stdout.write(`${outcome.status}\n`)
await db.close()
