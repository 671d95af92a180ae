import { randomBytes } from 'node:crypto'
import { Writable } from 'node:stream'
import { defineConfig } from '../../lib/config/index.ts'
import { systemClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { Database } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { createLog } from '../../lib/platform/log.ts'

/** All contexts of a test file are one deployment: what one of them signs or encrypts, another one knows. */
export const testEncryptionKey = randomBytes(32).toString('hex')

/**
 * A complete Context over `db`. Override what a test is about: `{ ...testContext(db), clock: fixedClock(…) }`.
 * Logs go to `testContext.logLines(ctx)`, so that a test can hold them against secrets.
 */
export function testContext(db: Database, overrides: Partial<Context> = {}): Context {
  const lines: string[] = []
  const destination = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(chunk.toString())
      done()
    },
  })
  const ctx: Context = {
    config: defineConfig({ app: { name: 'Test' } }),
    env: readEnv({ ENCRYPTION_KEY: testEncryptionKey, CRON_SECRET: randomBytes(16).toString('hex'), LOG_LEVEL: 'debug' }),
    db,
    supabase: () => Promise.reject(new CaretakerError('not_configured', 'No Supabase in this test.')),
    objects: () => Promise.reject(new CaretakerError('not_configured', 'No object store in this test.')),
    limiter: { hit: (_key, limit) => Promise.resolve({ allowed: true, limit, remaining: limit, resetSeconds: 60 }) },
    log: createLog({ level: 'debug', destination }),
    sentry: { capture: () => undefined, flush: () => Promise.resolve(true) },
    clock: systemClock,
    fetch: globalThis.fetch,
    actor: { type: 'system' },
    signal: new AbortController().signal,
    deadline: new Date(Date.now() + 600_000),
    ...overrides,
  }
  logs.set(ctx.log, lines)
  return ctx
}

const logs = new WeakMap<object, string[]>()

/** The lines a test context has logged so far. */
export function logLines(ctx: Context): readonly string[] {
  return logs.get(ctx.log) ?? []
}
