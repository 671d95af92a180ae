import type { Context } from '../platform/context.ts'
import type { Transaction, TransactionOptions } from '../platform/db.ts'

/**
 * A transaction whose answers do not depend on who connected: dates are written as ISO and computed in UTC, and a
 * row-level policy that would hide rows makes the statement fail instead of silently leaving them out.
 */
export function pinnedTransaction<T>(
  ctx: Pick<Context, 'db'>,
  options: TransactionOptions,
  work: (tx: Transaction) => Promise<T>,
): Promise<T> {
  return ctx.db.transaction(async (tx) => {
    await tx.query(
      `select set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, YMD', true), set_config('row_security', 'off', true)`,
    )
    return work(tx)
  }, options)
}

/** Reads only: the server refuses any change, and gives no transaction id. */
export function reading<T>(ctx: Pick<Context, 'db'>, work: (tx: Transaction) => Promise<T>, statementTimeoutMs = 30_000): Promise<T> {
  return pinnedTransaction(ctx, { readOnly: true, statementTimeoutMs, lockTimeoutMs: 2_000 }, work)
}
