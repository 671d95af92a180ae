import type { Context } from '../platform/context.ts'
import { remainingMs } from '../platform/context.ts'
import type { Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import type { TaskProgress } from '../platform/task.ts'
import { withLockRetry } from './lock-retry.ts'

/** How long one try waits for its lock, milliseconds. Everybody who comes after a waiting strong lock waits too. */
const lockTimeoutMs = 2_000
/** Kept free before the deadline, for the checkpoint and the answer. */
const marginMs = 3_000
/** Less than this is not worth beginning: the next invocation has its whole time. */
const leastBudgetMs = 5_000

interface Attempt {
  /** How often the statement ran out of an invocation's time. */
  ranOut: number
}

interface LoneStatement {
  /** For messages. */
  label: string
  sql: string
  /**
   * The statement waits for locks that keep nobody else waiting (SHARE UPDATE EXCLUSIVE, and the end of transactions that
   * are older than it): it may wait as long as it has time. One that is given up halfway has done its work for nothing.
   */
  patient?: boolean
}

/**
 * Runs one statement that PostgreSQL refuses inside a transaction, alone on a session of its own, tried again while
 * its lock is taken. What does not fit into the rest of this invocation gets one whole invocation, and then fails; what
 * does not fit into the rest of its step's budget fails at once.
 * @returns 'hand-over' when it should be tried by the next invocation
 * @throws {CaretakerError} `conflict` when the lock stays taken, `timeout` when a whole invocation or the budget is not enough,
 * `job_failed` when PostgreSQL only warned that it did nothing
 */
export async function runAlone(ctx: Context, statement: LoneStatement, progress: TaskProgress): Promise<'done' | 'hand-over'> {
  const { label, sql, patient = false } = statement
  const ranOut = (progress.inner as Attempt | null)?.ranOut ?? 0
  const warnings: string[] = []
  let bound = 'invocation' as 'invocation' | 'budget'
  try {
    return await withLockRetry(ctx, label, { tries: 5, firstPauseMs: 250, stop: progress.stop }, async () => {
      const left = remainingMs(ctx) - marginMs
      if (left < leastBudgetMs) return 'hand-over'
      const budget = progress.budgetMs()
      bound = budget < left ? 'budget' : 'invocation'
      await ctx.db.session(async (session) => {
        const listening = listenForRefusals(session, warnings)
        try {
          await session.execute(`set lock_timeout = ${patient ? 0 : lockTimeoutMs}`)
          await session.execute(`set statement_timeout = ${Math.max(1, Math.trunc(Math.min(left, budget)))}`)
          // Settings that Supabase gives its roles, and that would end this early.
          await session.execute('set idle_in_transaction_session_timeout = 0')
          await session.execute(sql)
        } finally {
          listening.end()
        }
      })
      // PostgreSQL answers VACUUM of a table that one may not vacuum with a warning and "VACUUM".
      if (warnings.length > 0) throw new CaretakerError('job_failed', `${label}: PostgreSQL did nothing: ${warnings.join('; ')}`)
      return 'done'
    })
  } catch (error) {
    // 57014: the statement timeout set above, or an operator's cancel.
    if (sqlState(error) !== '57014') throw error
    const timedOut = error instanceof Error && error.message.includes('statement timeout')
    if (!timedOut) throw new CaretakerError('timeout', `${label} was cancelled by somebody before it was done.`, { cause: error })
    if (bound === 'budget')
      throw new CaretakerError('timeout', `${label} was ended, because its step's budget was spent.`, { cause: error })
    if (ranOut > 0)
      throw new CaretakerError(
        'timeout',
        `${label} was cancelled before it was done, twice: it needs more time than one invocation has. Run it from a machine of your own: caretaker jobs run ${progress.run.job}.`,
        { cause: error },
      )
    await progress.save({ ranOut: ranOut + 1 } satisfies Attempt, progress.counts)
    return 'hand-over'
  }
}

function listenForRefusals(session: Session, warnings: string[]): { end(): void } {
  const hear = (notice: { severity?: string | undefined; message?: string | undefined }) => {
    const message = notice.message ?? ''
    // A partition may be a foreign table, which has nothing to vacuum.
    if (notice.severity !== 'WARNING' || /cannot vacuum non-tables/.test(message)) return
    if (/permission denied|skipping|only .* can/i.test(message)) warnings.push(message)
  }
  session.client.on('notice', hear)
  return {
    end() {
      session.client.removeListener('notice', hear)
    },
  }
}
