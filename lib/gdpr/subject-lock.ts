import type { Context } from '../platform/context.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'

/**
 * Runs `work` while nobody else exports or erases the same person. The lock belongs to a connection: it needs no table,
 * and the server drops it when the process dies.
 * @throws {CaretakerError} `request_in_progress` when it is not free within `waitMs`
 */
export function withSubjectLock<T>(
  ctx: Pick<Context, 'db'>,
  subject: { table: string; id: string },
  work: () => Promise<T>,
  waitMs = 10_000,
): Promise<T> {
  return ctx.db.session(async (session) => {
    const name = `caretaker:gdpr:${subject.table}:${subject.id}`
    await session.execute(`set lock_timeout = ${Math.trunc(waitMs)}`)
    try {
      await session.query('select pg_advisory_lock(hashtextextended($1, 0))', [name])
    } catch (error) {
      if (sqlState(error) !== '55P03') throw error
      throw new CaretakerError('request_in_progress', 'Another export or erasure of this person is running; try again when it has ended.', {
        retryAfterSeconds: 30,
      })
    }
    try {
      return await work()
    } finally {
      await session.query('select pg_advisory_unlock(hashtextextended($1, 0))', [name]).catch(() => undefined)
    }
  })
}
