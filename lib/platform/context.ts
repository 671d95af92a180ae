import type { SupabaseClient } from '@supabase/supabase-js'
import type { Policy } from '../config/index.ts'
import type { Actor } from './actor.ts'
import type { Clock } from './clock.ts'
import type { Database } from './db.ts'
import type { Env } from './env.ts'
import type { RateLimiter } from './limiter.ts'
import type { Log } from './log.ts'
import type { ObjectStore } from './objects.ts'
import type { Sentry } from './sentry.ts'

/**
 * Everything a verb needs, all of it required. Tests pass `{ ...testContext(), clock: fixedClock(…) }`.
 * `supabase()` and `objects()` are functions because their clients cost a cold start: they are made at first use,
 * and throw `not_configured` where their settings are missing.
 */
export interface Context {
  readonly config: Policy
  readonly env: Env
  readonly db: Database
  readonly supabase: () => Promise<SupabaseClient>
  readonly objects: () => Promise<ObjectStore>
  readonly limiter: RateLimiter
  readonly log: Log
  /** Where defects are reported; does nothing where SENTRY_DSN is not set. */
  readonly sentry: Sentry
  readonly clock: Clock
  readonly fetch: typeof globalThis.fetch
  readonly actor: Actor
  /** Aborted when the caller is gone or the process is told to stop. */
  readonly signal: AbortSignal
  /** When the host will end this invocation. Work that cannot finish before it saves a checkpoint and hands over. */
  readonly deadline: Date
}

/** Milliseconds left before the host ends this invocation (never negative). */
export function remainingMs(ctx: Pick<Context, 'clock' | 'deadline'>): number {
  return Math.max(0, ctx.deadline.getTime() - ctx.clock.now().getTime())
}
