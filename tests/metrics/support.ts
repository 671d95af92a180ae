import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { Batch, type SeriesIdentity } from '../../lib/metrics/batch.ts'
import { storeBatch } from '../../lib/metrics/store-batch.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { Database } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { testContext, testEncryptionKey } from '../support/context.ts'

let made = 0

/** A context of an environment of its own, so that tests over one database do not see each other's figures. */
export function metricsContext(
  db: Database,
  given: { policy?: Partial<PolicyInput>; env?: Record<string, string>; at?: string; overrides?: Partial<Context> } = {},
) {
  const clock = fixedClock(given.at ?? '2026-11-21T12:00:00Z')
  const ctx = testContext(db, {
    clock,
    config: defineConfig({ app: { name: 'Test' }, ...given.policy }),
    env: readEnv({ ENCRYPTION_KEY: testEncryptionKey, CARETAKER_ENVIRONMENT: `metrics-${++made}`, ...given.env }),
    ...given.overrides,
  })
  return Object.assign(ctx, { clock, environment: ctx.env.CARETAKER_ENVIRONMENT as string })
}

export type MetricsContext = ReturnType<typeof metricsContext>

export const at = (time: string) => new Date(`2026-11-21T${time}Z`)

/** Stores values as if they had been told at `time`. */
export async function tell(
  ctx: MetricsContext,
  series: Partial<SeriesIdentity> & { name: string },
  values: readonly number[],
  time: Date,
  now = time,
): Promise<void> {
  const batch = new Batch()
  for (const value of values) batch.add({ labels: {}, kind: 'counter', source: 'caretaker', ...series }, value, time)
  await storeBatch(ctx.db, ctx.environment, batch, { now })
}

export const request = (status: number | string, labels: Record<string, string> = {}) => ({
  name: 'http_requests_total',
  labels: { method: 'GET', route: '/health', status: String(status), ...labels },
})
