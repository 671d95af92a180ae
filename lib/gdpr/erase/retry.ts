import { setTimeout as wait } from 'node:timers/promises'
import type { Context } from '../../platform/context.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { databaseRefusal } from '../database-refusal.ts'
import { ChangedMeanwhile } from './erase-rows.ts'

/** Serialisation failure, deadlock, lock not available; a foreign key that a concurrent insert broke. */
const passing = new Set(['40001', '40P01', '55P03', '23503'])
const attempts = 8

/** Runs a transaction again when another one was in its way, with growing pauses. Every other error passes. */
export async function retrying<T>(ctx: Pick<Context, 'signal'>, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      const state = sqlState(error)
      if (state === '57014')
        throw new CaretakerError(
          'timeout',
          'The erasure ran into its time limit and was rolled back; nothing was changed. Run it where there is more time: caretaker gdpr erase.',
          { cause: error },
        )
      const again = error instanceof ChangedMeanwhile || (state !== undefined && passing.has(state))
      if (!again) throw databaseRefusal(error, 'erasure')
      if (attempt === attempts)
        throw new CaretakerError(
          'conflict',
          `Other transactions held or changed this person's rows during ${attempts} attempts; nothing was changed. Try again later.`,
          { cause: error, retryAfterSeconds: 60 },
        )
      await wait(50 * 2 ** attempt * (0.5 + Math.random()), undefined, { signal: ctx.signal }).catch((cause: unknown) => {
        throw new CaretakerError('timeout', 'The erasure was stopped while it waited for other transactions; nothing was changed.', {
          cause,
        })
      })
    }
  }
}
