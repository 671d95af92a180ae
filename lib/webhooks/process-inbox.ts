import type { WebhookHandler } from '../config/index.ts'
import { type Context, remainingMs } from '../platform/context.ts'
import type { Transaction } from '../platform/db.ts'
import { CaretakerError, hasCode, sqlState } from '../platform/errors.ts'
import { environmentCipher, type FieldCipher } from '../platform/field-cipher.ts'
import { emitEvent } from '../platform/outbox.ts'
import { handlersBySource } from './handlers.ts'
import { openPayload, type WebhookEvent } from './payload.ts'
import { type ClaimedEvent, claimEvent, countAttempt, ignoreUnhandled, markApplied, recordFailure } from './queries.ts'

/** Attempts before an event is a dead letter: with the delays below, about two and a half hours. */
export const maxAttempts = 12
const firstDelayMs = 5_000
const longestDelayMs = 3_600_000
/** How long one handler may take: less than the shortest function, so that a slow one fails rather than being cut off. */
const handlerLimitMs = 25_000

export interface InboxOutcome {
  applied: number
  /** Kept and acknowledged: the policy has no handler for the type. */
  ignored: number
  /** Attempts that failed and will be repeated. */
  failed: number
  dead: number
}

export interface ProcessInput {
  /** Events to take at most. Default 100. */
  limit?: number
  /** Only these inbox numbers. */
  ids?: readonly string[]
  /** Stops between two events. Default: the context's. */
  signal?: AbortSignal
  /**
   * A worker died at this inbox: count every attempt before it is made, so that the event it may have died of comes to
   * an end. Events that failed or were counted before always are.
   */
  afterDeath?: boolean
}

/**
 * Applies due events with the policy's handlers, one transaction each: the claim, the handler's effects and the mark
 * stand or fall together, so a kill at any instant leaves an event either applied or due. Any number of workers may
 * run at once. An event whose handler throws, or ends the process, is due again after a growing delay, and dead after
 * twelve attempts.
 * @throws {CaretakerError} `database_unavailable`; `not_configured` without ENCRYPTION_KEY
 */
export async function processInbox(ctx: Context, input: ProcessInput = {}): Promise<InboxOutcome> {
  const limit = input.limit ?? 100
  const signal = input.signal ?? ctx.signal
  const ids = input.ids ?? null
  const cipher = environmentCipher(ctx.env, 'The webhook inbox')
  const outcome: InboxOutcome = { applied: 0, ignored: 0, failed: 0, dead: 0 }
  const goOn = () => !signal.aborted && remainingMs(ctx) > 1_000 && taken(outcome) < limit

  for (const [source, handlers] of handlersBySource(ctx.config)) {
    const types = [...handlers.keys()]
    if (goOn()) outcome.ignored += await ignoreUnhandled(ctx.db, { source, types, now: ctx.clock.now(), ids }, limit - taken(outcome))
    while (types.length > 0 && goOn()) {
      const result = await applyNext(ctx, { cipher, source, handlers, ids, countFirst: input.afterDeath === true })
      if (result === 'none') break
      if (result !== 'taken') outcome[result]++
    }
  }
  return outcome
}

function taken(outcome: InboxOutcome): number {
  return outcome.applied + outcome.ignored + outcome.failed + outcome.dead
}

/** `taken`: another worker was faster. */
type Result = 'applied' | 'failed' | 'dead' | 'none' | 'taken'

interface Work {
  cipher: FieldCipher
  source: string
  handlers: ReadonlyMap<string, WebhookHandler>
  ids: readonly string[] | null
  countFirst: boolean
}

async function applyNext(
  ctx: Context,
  { cipher, source, handlers, ids, countFirst }: Work,
  /** The event whose attempt is counted already, and until when no other worker takes it. */
  counted?: { id: string; until: Date },
): Promise<Result> {
  let claimed: ClaimedEvent | undefined
  let suspect: ClaimedEvent | undefined
  try {
    const result = await ctx.db.transaction(
      async (tx): Promise<Result> => {
        const due = counted === undefined ? { now: ctx.clock.now(), ids } : { now: counted.until, ids: [counted.id] }
        claimed = await claimEvent(tx, { source, types: [...handlers.keys()], ...due })
        if (claimed === undefined) return counted === undefined ? 'none' : 'taken'
        if (counted === undefined && (countFirst || claimed.attempts > 0)) {
          suspect = claimed
          return 'none'
        }
        const handler = handlers.get(claimed.type)
        if (handler === undefined) throw new CaretakerError('internal', `An event of type ${claimed.type} was claimed that has no handler.`)
        await runHandler(ctx, handler, openPayload(cipher, claimed), tx)
        await markApplied(tx, claimed.id, claimed.attempts + (counted === undefined ? 1 : 0), ctx.clock.now())
        return 'applied'
      },
      { statementTimeoutMs: handlerLimitMs },
    )
    if (suspect === undefined) return result
  } catch (error) {
    // A lost database is nobody's failed attempt: whether the commit arrived is known when it is back.
    if (claimed === undefined || hasCode(error, 'database_unavailable')) throw error
    return fail(ctx, claimed, claimed.attempts + (counted === undefined ? 1 : 0), error)
  }
  // Twelve attempts were begun and none of them came back to say how it ended.
  if (suspect.attempts >= maxAttempts) return fail(ctx, suspect, suspect.attempts, new WorkerDied())
  const until = new Date(ctx.clock.now().getTime() + retryDelayMs(suspect.attempts + 1))
  if (!(await countAttempt(ctx.db, suspect, until))) return 'taken'
  return applyNext(ctx, { cipher, source, handlers, ids, countFirst }, { id: suspect.id, until })
}

class WorkerDied extends Error {
  override readonly name = 'worker_died'
}

/** Runs the handler on a transaction that is closed to it afterwards, also when it is still at work by then. */
async function runHandler(ctx: Context, handler: WebhookHandler, event: WebhookEvent, tx: Transaction): Promise<void> {
  let open = true
  const guard = () => {
    if (!open)
      throw new CaretakerError('internal', `The handler of ${event.type} used its transaction after it had ended: await every query.`)
  }
  const fenced: Transaction = {
    kind: 'transaction',
    async query(sql, params) {
      guard()
      return tx.query(sql, params)
    },
    async execute(sql, params) {
      guard()
      return tx.execute(sql, params)
    },
  }
  const limitMs = Math.min(handlerLimitMs, remainingMs(ctx))
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new CaretakerError('timeout', `The handler of ${event.type} took longer than ${Math.round(limitMs / 1000)} seconds.`)),
      limitMs,
    )
  })
  try {
    await Promise.race([handler(event, fenced), late])
  } finally {
    clearTimeout(timer)
    open = false
  }
}

async function fail(ctx: Context, event: ClaimedEvent, attempts: number, thrown: unknown): Promise<Result> {
  const dead = attempts >= maxAttempts
  const error = { code: failureCode(thrown), at: ctx.clock.now().toISOString() }
  const nextAttemptAt = new Date(ctx.clock.now().getTime() + retryDelayMs(attempts))
  const counted = await ctx.db.transaction(async (tx) => {
    const updated = await recordFailure(tx, event, { state: dead ? 'dead' : 'received', attempts, nextAttemptAt, error })
    if (updated && dead)
      await emitEvent(tx, 'webhooks.dead', {
        inboxId: event.id,
        source: event.source,
        eventId: event.eventId,
        type: event.type,
        code: error.code,
        attempts,
      })
    return updated
  })
  // Not the message: handlers quote what they were given, and that is personal data.
  const where = { inboxId: event.id, source: event.source, type: event.type, attempts, code: error.code, frames: stackFrames(thrown) }
  if (counted && dead) ctx.log.error(where, 'webhook event is a dead letter')
  else ctx.log.warn(where, 'webhook event failed')
  return counted && dead ? 'dead' : 'failed'
}

/** Doubles from five seconds to an hour; the second half of it is random, so that a burst does not come back as one. */
export function retryDelayMs(attempts: number, random: () => number = Math.random): number {
  const delay = Math.min(longestDelayMs, firstDelayMs * 2 ** (attempts - 1))
  return Math.round(delay / 2 + (delay / 2) * random())
}

/** A Caretaker code, `sql_SQLSTATE`, or the kind of error. Never its message. */
function failureCode(thrown: unknown): string {
  if (thrown instanceof CaretakerError) return thrown.code
  const state = sqlState(thrown)
  if (state !== undefined) return `sql_${state}`
  return thrown instanceof Error && /^\w{1,60}$/.test(thrown.name) ? thrown.name : 'unknown'
}

function stackFrames(thrown: unknown): string[] {
  const stack = thrown instanceof Error ? (thrown.stack ?? '') : ''
  return stack
    .split('\n')
    .filter((line) => /^\s+at /.test(line))
    .slice(0, 8)
    .map((line) => line.trim())
}
