import type { Context } from '../platform/context.ts'
import { remainingMs } from '../platform/context.ts'
import type { Session, Transaction, TransactionOptions } from '../platform/db.ts'

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

interface SessionOptions {
  lockTimeoutMs: number
  /** False: a table is read along an index wherever that is possible at all. */
  seqScan?: boolean
}

/** What `pinnedTransaction` does for one transaction, for a session that makes many. */
export async function pinSession(ctx: Pick<Context, 'clock' | 'deadline'>, session: Session, options: SessionOptions): Promise<void> {
  const settings = [
    `set timezone = 'UTC'`,
    `set datestyle = 'ISO, YMD'`,
    'set row_security = off',
    `set lock_timeout = ${Math.trunc(options.lockTimeoutMs)}`,
    // No statement has a use that outlives the invocation; Supabase gives its roles two minutes.
    `set statement_timeout = ${Math.max(10_000, Math.trunc(remainingMs(ctx)))}`,
    // A process that is frozen in the middle of a transaction keeps its locks.
    'set idle_in_transaction_session_timeout = 60000',
    ...(options.seqScan === false ? ['set enable_seqscan = off'] : []),
  ]
  await session.client.query(settings.join('; '))
}
