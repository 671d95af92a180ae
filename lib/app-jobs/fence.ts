import type { AppContext } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import type { Row, Transaction } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'

/**
 * What stands between a function of the policy and the world. A function cannot be stopped from outside; but once the
 * fence is closed nothing that it still does reaches the database, the network or the run.
 */
export interface Fence {
  readonly db: AppContext['db']
  readonly fetch: typeof globalThis.fetch
  /** Aborted when the time is over, and when the run's own signal is. */
  readonly signal: AbortSignal
  readonly deadline: Date
  /** @throws {CaretakerError} `timeout` once the fence is closed */
  check(): void
  /** Calls `then` when the transaction has committed; not at all when it is rolled back. */
  afterCommit(tx: Transaction, then: () => void): void
  /** The result of `work`; when the signal is aborted first, what it gives within two seconds after that, and then `timeout`. */
  within<T>(work: Promise<T>): Promise<T>
  timedOut(): boolean
  close(): void
}

/** How long a function may take to end after its signal was aborted. */
const graceMs = 2_000

/** A fence whose signal is aborted after `timeMs`; what the function does to end itself still passes. */
export function fenced(ctx: Context, timeMs: number): Fence {
  const stop = new AbortController()
  const over = new AbortController()
  const endsAtMs = ctx.clock.monotonicMs() + timeMs
  // Timers take 32 bits: a command line has days.
  const timer = setTimeout(() => stop.abort(timeIsOver()), Math.min(timeMs, 2 ** 31 - 1))
  const signal = AbortSignal.any([ctx.signal, stop.signal])
  const commits = new WeakMap<Transaction, (() => void)[]>()
  const check = () => {
    if (over.signal.aborted) throw timeIsOver()
  }
  // The server ends what the function leaves running when its time is over.
  const limits = () => ({ statementTimeoutMs: Math.max(1, Math.trunc(endsAtMs + graceMs - ctx.clock.monotonicMs())) })

  const transaction: AppContext['db']['transaction'] = async (work, options) => {
    check()
    const then: (() => void)[] = []
    const result = await ctx.db.transaction(
      async (tx) => {
        const guarded: Transaction = {
          kind: 'transaction',
          query: async <T extends Row>(sql: string, params?: readonly unknown[]) => {
            check()
            return tx.query<T>(sql, params)
          },
          execute: async (sql, params) => {
            check()
            return tx.execute(sql, params)
          },
        }
        commits.set(guarded, then)
        const made = await work(guarded)
        // Nothing of a function whose time is over is committed.
        check()
        return made
      },
      { ...options, statementTimeoutMs: Math.min(options?.statementTimeoutMs ?? Number.POSITIVE_INFINITY, limits().statementTimeoutMs) },
    )
    for (const one of then) one()
    return result
  }

  return {
    db: {
      transaction,
      query: <T extends Row>(sql: string, params?: readonly unknown[]) => transaction((tx) => tx.query<T>(sql, params)),
      execute: (sql, params) => transaction((tx) => tx.execute(sql, params)),
    },
    fetch: async (input, init) => {
      check()
      const own = [signal, over.signal, ...(init?.signal == null ? [] : [init.signal])]
      return ctx.fetch(input, { ...init, signal: AbortSignal.any(own) })
    },
    signal,
    deadline: new Date(ctx.clock.now().getTime() + timeMs),
    check,
    afterCommit(tx, then) {
      commits.get(tx)?.push(then)
    },
    async within(work) {
      // Whoever it still answers to, nobody waits for it any more.
      work.catch(() => undefined)
      let grace: NodeJS.Timeout | undefined
      let abort: (() => void) | undefined
      const abandoned = new Promise<never>((_resolve, reject) => {
        abort = () => {
          grace = setTimeout(() => reject(timeIsOver()), graceMs)
        }
        if (signal.aborted) abort()
        else signal.addEventListener('abort', abort, { once: true })
      })
      try {
        return await Promise.race([work, abandoned])
      } finally {
        if (grace !== undefined) clearTimeout(grace)
        if (abort !== undefined) signal.removeEventListener('abort', abort)
      }
    },
    timedOut: () => stop.signal.aborted,
    close() {
      clearTimeout(timer)
      over.abort(timeIsOver())
    },
  }
}

function timeIsOver(): CaretakerError {
  return new CaretakerError('timeout', 'The time of this function is over.')
}
