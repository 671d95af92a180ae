import { canonicalJson } from '../platform/audit.ts'
import type { Context } from '../platform/context.ts'
import type { Transaction } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { JobOutcome, JobResult } from '../platform/job.ts'
import { describeError } from '../platform/log.ts'
import { emitEvent } from '../platform/outbox.ts'
import type { Run } from './ledger.ts'
import type { PgBoss } from './pg-boss.ts'
import { bossDatabase, queueName } from './queue.ts'

/** The queue's own name for one taking. */
export interface Lease {
  id: string
  retryCount: number
}

export interface RunError {
  code: string
  detail: string
}

/** Hand-overs in a row that get nothing done, after which a run has failed. */
export const mostFruitless = 10

/** How one taking of a run ends. `fruitless`: the checkpoint is what it was when the run was taken. */
export type Ending =
  | { status: 'done'; result: JobResult }
  | { status: 'hand-over'; fruitless: boolean }
  /** Stopped from outside: neither progress nor the lack of it. */
  | { status: 'interrupted' }

/**
 * Ends a taking in the ledger and in the queue, in one transaction.
 * @returns the run's new state: a hand-over too many fails it
 * @throws {CaretakerError} `lease_lost` when another worker has taken the run
 */
export async function settle(ctx: Context, boss: PgBoss, run: Run, lease: Lease, ending: Ending): Promise<'done' | 'queued' | 'failed'> {
  return ctx.db.transaction(async (tx) => {
    const state = await end(tx, run, ending)
    if (state === null) throw new CaretakerError('lease_lost', `Another worker has taken over ${run.job}.`)
    await boss.complete(queueName, lease, null, { db: bossDatabase(tx) })
    return state
  })
}

async function end(tx: Transaction, run: Run, ending: Ending): Promise<'done' | 'queued' | 'failed' | null> {
  const mine = 'where id = $1::uuid and attempt = $2::int and state = $3'
  if (ending.status === 'done') {
    const done = await tx.execute(
      `update caretaker.runs set state = 'done', result = $4::jsonb, error = null, finished_at = clock_timestamp() ${mine}`,
      [run.id, run.attempt, 'running', JSON.stringify(ending.result)],
    )
    return done > 0 ? 'done' : null
  }
  const fruitless = ending.status === 'interrupted' ? run.fruitless : ending.fruitless ? run.fruitless + 1 : 0
  if (fruitless >= mostFruitless) {
    const error: RunError = {
      code: 'job_stalled',
      detail: `${run.job} handed over ${fruitless} times in a row without getting anything done.`,
    }
    return (await markFailed(tx, run, error)) ? 'failed' : null
  }
  const queued = await tx.execute(
    `update caretaker.runs set state = 'queued', dispatch = dispatch + 1, fruitless = $4::int, heartbeat_at = now() ${mine}`,
    [run.id, run.attempt, 'running', fruitless],
  )
  return queued > 0 ? 'queued' : null
}

/** Ends a taking that threw: for good if it was the `last`, else until the queue tries it again. False when the lease was lost. */
export async function fail(ctx: Context, boss: PgBoss, run: Run, lease: Lease, error: RunError, last: boolean): Promise<boolean> {
  return ctx.db.transaction(async (tx) => {
    if (last) {
      const closed = await markFailed(tx, run, error)
      if (closed) await boss.complete(queueName, lease, error, { db: bossDatabase(tx) })
      return closed
    }
    const kept = await tx.execute(
      `update caretaker.runs set state = 'dispatched', error = $3::jsonb, heartbeat_at = now() where id = $1::uuid and attempt = $2::int and state = 'running'`,
      [run.id, run.attempt, JSON.stringify(error)],
    )
    if (kept > 0) await boss.fail(queueName, lease, error, { db: bossDatabase(tx) })
    return kept > 0
  })
}

/** Fails a run for good, with the event that says so. False when it is not this taking's any more. */
export async function markFailed(tx: Transaction, run: Run, error: RunError): Promise<boolean> {
  const closed = await tx.execute(
    `update caretaker.runs set state = 'failed', error = $3::jsonb, finished_at = clock_timestamp()
     where id = $1::uuid and attempt = $2::int and state in ('dispatched', 'running')`,
    [run.id, run.attempt, JSON.stringify(error)],
  )
  if (closed > 0) await emitEvent(tx, 'job.failed', { job: run.job, slot: run.slot, run: run.id, error })
  return closed > 0
}

/** What the ledger may keep of an error: coded ones in full, others by their kind, because their text may quote rows. */
export function publicError(error: unknown): RunError {
  if (error instanceof CaretakerError) return { code: error.code, detail: storable(error.detail) }
  const described = describeError(error)
  return { code: 'job_failed', detail: storable(`${String(described.type)}: ${String(described.message)}`) }
}

/** Without what jsonb refuses, half a surrogate pair and NUL: a run whose error cannot be stored would never end. */
function storable(text: string): string {
  return text.toWellFormed().replaceAll('\0', '')
}

/** Errors that the same attempt would only repeat. */
export function isFinal(error: unknown): boolean {
  return (
    error instanceof CaretakerError &&
    ['policy_invalid', 'not_configured', 'job_unknown', 'invalid_input', 'env_invalid', 'retention_refused'].includes(error.code)
  )
}

/** The outcome of a verb as the end of its taking. */
export function endingOf(outcome: JobOutcome, before: unknown, after: unknown): Ending {
  if (outcome.status === 'done') return outcome
  return { status: 'hand-over', fruitless: outcome.progress !== true && canonicalJson(before) === canonicalJson(after) }
}
