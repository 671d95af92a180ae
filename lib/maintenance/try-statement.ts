import type { Context } from '../platform/context.ts'
import { sqlState } from '../platform/errors.ts'
import { errorAt, type Issue } from './issue.ts'

/** The part of pg's connection that sends a Parse message. */
interface Wire {
  parse(message: { text: string; name: string }): void
  sync(): void
}

/**
 * Has PostgreSQL parse and analyse one statement without running it: the protocol's Parse message and nothing after it.
 * Finds syntax errors, unknown tables and columns of a query or change, and a second statement. Needs no privilege on
 * the tables. Statements such as CREATE are only checked for their syntax.
 */
export async function tryStatement(ctx: Pick<Context, 'db'>, sql: string, path: string): Promise<Issue[]> {
  try {
    await ctx.db.session(async (session) => {
      // Analysing a change locks its table against DDL until the transaction ends, which is at once.
      await session.execute('set lock_timeout = 2000')
      await session.execute('set default_transaction_read_only = on')
      await new Promise<void>((resolve, reject) => {
        const parsing = {
          submit: (wire: Wire) => {
            wire.parse({ text: sql, name: '' })
            wire.sync()
          },
          // Stands for both ends: after an error nobody hears of the ReadyForQuery that follows it.
          handleError: reject,
          handleReadyForQuery: () => resolve(),
        }
        session.client.query(parsing as unknown as { submit: (connection: unknown) => void } & Parameters<typeof session.client.query>[0])
      })
    })
    return []
  } catch (error) {
    const state = sqlState(error)
    // Locked just now: the statement itself may be fine.
    if (state === '55P03') return []
    if (state === undefined || !(error instanceof Error)) throw error
    return [errorAt(path, `PostgreSQL refuses the statement: ${error.message}`)]
  }
}
