import { setTimeout as delay } from 'node:timers/promises'
import type { Context } from '../platform/context.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'

export interface LockPatience {
  /** How often the work is tried before it gives up. */
  tries: number
  /** Milliseconds before the second try; doubles, up to two seconds. */
  firstPauseMs: number
  /** Asked before each pause: true ends the patience at once, because the invocation is about to end. */
  stop: () => boolean
}

/**
 * Lock not available, deadlock, and a row that another session has just moved to another partition: all of them mean
 * "someone else is at it, come again".
 */
const contended = new Set(['55P03', '40P01', '40001'])

export function isContention(error: unknown): boolean {
  const state = sqlState(error)
  return state !== undefined && contended.has(state)
}

/**
 * Runs `work`, and again when it could not get a lock within its `lock_timeout`. A short wait that is repeated is kinder
 * than a long one: everybody who comes after a waiting strong lock waits too.
 * @returns what `work` returns, or 'hand-over' when `stop` said so: the next invocation tries again
 * @throws {CaretakerError} `conflict` naming `what` when the patience ends
 */
export async function withLockRetry<T>(
  ctx: Pick<Context, 'signal'>,
  what: string,
  patience: LockPatience,
  work: (attempt: number) => Promise<T>,
): Promise<T | 'hand-over'> {
  let pause = patience.firstPauseMs
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(attempt)
    } catch (error) {
      if (!isContention(error)) throw error
      if (patience.stop()) return 'hand-over'
      if (attempt >= patience.tries)
        throw new CaretakerError(
          'conflict',
          `${what} could not be locked in ${attempt} tries. Look in pg_locks for a session that holds it, or run this at a quieter time.`,
          { cause: error },
        )
    }
    // Jitter: two runs that met once must not meet again at every try.
    await delay(pause * (0.5 + Math.random()), undefined, { signal: ctx.signal }).catch(() => undefined)
    pause = Math.min(pause * 2, 2_000)
  }
}
