import type { WebhookDelivery, WebhookEvent, WebhookHandler } from '../config/index.ts'
import { canonicalJson } from '../platform/audit.ts'
import { type Context, remainingMs } from '../platform/context.ts'
import type { Transaction } from '../platform/db.ts'
import { CaretakerError, hasCode, sqlState } from '../platform/errors.ts'
import { environmentCipher, type FieldCipher } from '../platform/field-cipher.ts'
import { emitEvent } from '../platform/outbox.ts'
import type { CurrentObject } from './current-object.ts'
import { type SourcePolicy, sourcePolicies } from './handlers.ts'
import { minimise } from './minimise.ts'
import { emitToSubscribers } from './outgoing/emit.ts'
import { openPayload } from './payload.ts'
import {
  type ClaimedEvent,
  claimEvent,
  countAttempt,
  ignoreUnhandled,
  lockObject,
  markApplied,
  type ObjectProgress,
  recordFailure,
  selectPayload,
} from './queries.ts'
import { isObject } from './sources/json.ts'

/** Attempts before an event is a dead letter: with the delays below, about two and a half hours. */
export const maxAttempts = 12
const firstDelayMs = 5_000
const longestDelayMs = 3_600_000
/** How long one handler may take: less than the shortest function, so that a slow one fails rather than being cut off. */
const handlerLimitMs = 25_000
/** How many events of one source are applied before the next source has its turn. */
const turnLength = 20

export interface InboxOutcome {
  applied: number
  /** Kept and acknowledged: the policy has no handler for the type, or the event came too late to say anything. */
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
 * twelve attempts. An event that comes after a later one of its object gets the object as that one told it; one that
 * cannot be told from another of the same instant gets it as the provider has it now, where the provider can be asked.
 * @throws {CaretakerError} `database_unavailable`; `not_configured` without ENCRYPTION_KEY
 */
export async function processInbox(ctx: Context, input: ProcessInput = {}): Promise<InboxOutcome> {
  const limit = input.limit ?? 100
  const signal = input.signal ?? ctx.signal
  const ids = input.ids ?? null
  const cipher = environmentCipher(ctx.env, 'The webhook inbox')
  const outcome: InboxOutcome = { applied: 0, ignored: 0, failed: 0, dead: 0 }
  const goOn = () => !signal.aborted && remainingMs(ctx) > 1_000 && taken(outcome) < limit

  const lanes = [...sourcePolicies(ctx)].map(([source, policy]) => ({ source, policy, types: [...policy.handlers.keys()] }))
  for (const { source, types } of lanes)
    if (goOn()) outcome.ignored += await ignoreUnhandled(ctx.db, { source, types, now: ctx.clock.now(), ids }, limit - taken(outcome))
  // A few of each in turn: somebody's STOP does not wait for ten thousand invoices.
  let open = lanes.filter(({ types }) => types.length > 0)
  while (open.length > 0 && goOn()) {
    const more: typeof open = []
    for (const lane of open) {
      let result: Result = 'taken'
      for (let turn = 0; turn < turnLength && result !== 'none' && goOn(); turn++) {
        result = await applyNext(ctx, { cipher, source: lane.source, policy: lane.policy, ids, countFirst: input.afterDeath === true })
        if (result !== 'none' && result !== 'taken') outcome[result]++
      }
      if (result !== 'none') more.push(lane)
    }
    open = more
  }
  return outcome
}

function taken(outcome: InboxOutcome): number {
  return outcome.applied + outcome.ignored + outcome.failed + outcome.dead
}

/** `taken`: another worker was faster. */
type Result = keyof InboxOutcome | 'none' | 'taken'

interface Work {
  cipher: FieldCipher
  source: string
  policy: SourcePolicy
  ids: readonly string[] | null
  countFirst: boolean
}

/** What has been done for an event that the next transaction takes again. */
interface Prepared {
  id: string
  /** Its attempt is counted already, and no other worker takes it before. */
  countedUntil?: Date
  /** The object as it is now, looked up when its progress stood there; undefined where it cannot be looked up. */
  current?: { progress: number; found: CurrentObject | undefined }
}

/** Why a transaction ended without applying its event: something has to be done outside of it first. */
type Wanted = { claimed: ClaimedEvent; count: true } | { claimed: ClaimedEvent; lookUp: WebhookEvent; progress: number }

async function applyNext(ctx: Context, work: Work): Promise<Result> {
  let prepared: Prepared | undefined
  for (;;) {
    const attempt: { claimed?: ClaimedEvent } = {}
    const attemptsWith = (claimed: ClaimedEvent) => claimed.attempts + (prepared?.countedUntil === undefined ? 1 : 0)
    try {
      const result = await ctx.db.transaction((tx) => applyInTransaction(ctx, tx, work, prepared, attempt), {
        statementTimeoutMs: handlerLimitMs,
      })
      if (typeof result === 'string') return result
      const { claimed } = result
      if ('count' in result) {
        // Twelve attempts were begun and none of them came back to say how it ended.
        if (claimed.attempts >= maxAttempts) return fail(ctx, claimed, claimed.attempts, new WorkerDied())
        const until = new Date(ctx.clock.now().getTime() + retryDelayMs(claimed.attempts + 1))
        if (!(await countAttempt(ctx.db, claimed, until))) return 'taken'
        prepared = { id: claimed.id, countedUntil: until }
      } else {
        // Nobody is asked anything from inside a transaction.
        const found = await (await work.policy.current?.())?.(ctx, work.source, result.lookUp)
        prepared = { ...prepared, id: claimed.id, current: { progress: result.progress, found } }
      }
    } catch (error) {
      // A lost database is nobody's failed attempt: whether the commit arrived is known when it is back.
      if (attempt.claimed === undefined || hasCode(error, 'database_unavailable')) throw error
      return fail(ctx, attempt.claimed, attemptsWith(attempt.claimed), error)
    }
  }
}

async function applyInTransaction(
  ctx: Context,
  tx: Transaction,
  work: Work,
  prepared: Prepared | undefined,
  attempt: { claimed?: ClaimedEvent },
): Promise<Result | Wanted> {
  const { cipher, source, policy } = work
  const now = ctx.clock.now()
  const due = prepared === undefined ? { now, ids: work.ids } : { now: prepared.countedUntil ?? now, ids: [prepared.id] }
  const claimed = await claimEvent(tx, { source, types: [...policy.handlers.keys()], ...due })
  if (claimed === undefined) return prepared === undefined ? 'none' : 'taken'
  attempt.claimed = claimed
  const counted = prepared?.countedUntil !== undefined
  if (!counted && (work.countFirst || claimed.attempts > 0)) return { claimed, count: true }
  const attempts = claimed.attempts + (counted ? 0 : 1)
  const handler = policy.handlers.get(claimed.type)
  if (handler === undefined) throw new CaretakerError('internal', `An event of type ${claimed.type} was claimed that has no handler.`)
  const sent = openPayload(cipher, claimed)
  if (sent === null) throw new CaretakerError('not_found', 'The payload of the event was pruned.')

  const { objectTag } = claimed
  if (objectTag === null) {
    await runHandler(ctx, handler, sent, tx, { source, attempt: attempts, receivedAt: claimed.receivedAt, late: false, current: false })
    await markApplied(tx, { id: claimed.id, attempts, at: now, state: 'applied' })
    return 'applied'
  }
  const progress = await lockObject(tx, source, objectTag)
  const standing = await standingOf(tx, work, claimed, sent, progress)
  const found = prepared?.current?.progress === progress.position ? prepared.current.found : undefined
  if (standing.lookUp && policy.current !== undefined && prepared?.current?.progress !== progress.position)
    return { claimed, lookUp: sent, progress: progress.position }
  // What is gone cannot have changed since the newest that was told of it.
  const gone = found?.object === null
  const late = claimed.position < (gone ? progress.newestPosition : progress.position)
  const { thin } = standing
  const object = found?.object ?? standing.newest
  if (late && object === undefined && policy.late === 'skip') {
    await markApplied(tx, { id: claimed.id, attempts, at: now, state: 'ignored' })
    return 'ignored'
  }
  const event = object === undefined || thin ? sent : withObject(sent, object, policy.minimise)
  await runHandler(ctx, handler, event, tx, {
    source,
    attempt: attempts,
    receivedAt: claimed.receivedAt,
    late,
    current: object !== undefined,
    ...(thin && object !== undefined ? { object } : {}),
  })
  const stateTag = event === sent ? standing.stateTag : stateOf(cipher, event)
  const position = Math.max(claimed.position, gone ? 0 : (found?.position ?? 0))
  const own = claimed.position
  await markApplied(tx, { id: claimed.id, attempts, at: now, state: 'applied', progress: { source, objectTag, position, stateTag, own } })
  return 'applied'
}

interface Standing {
  /** It names its object and does not hold it. */
  thin: boolean
  stateTag: Buffer
  /** Whether only the provider knows how its object is. */
  lookUp: boolean
  /** Its object as a later event told it. */
  newest: Record<string, unknown> | undefined
}

/** Where an event stands against what was applied of its object before. */
async function standingOf(
  tx: Transaction,
  { cipher, policy }: Work,
  claimed: ClaimedEvent,
  sent: WebhookEvent,
  progress: ObjectProgress,
): Promise<Standing> {
  const thin = !isObject(sent.data?.object)
  const stateTag = stateOf(cipher, sent)
  if (!policy.snapshots) return { thin: false, stateTag, lookUp: false, newest: undefined }
  if (claimed.position >= progress.position) {
    const tied = claimed.position === progress.position && progress.stateTag !== null && !progress.stateTag.equals(stateTag)
    return { thin, stateTag, lookUp: tied || thin, newest: undefined }
  }
  const row = progress.newestId === null ? undefined : await selectPayload(tx, progress.newestId)
  const told = row === undefined ? undefined : openPayload(cipher, row)?.data?.object
  const newest = isObject(told) && claimed.position < progress.newestPosition ? told : undefined
  const lookedUpSince = progress.newestPosition < progress.position
  return { thin, stateTag, lookUp: thin || lookedUpSince || newest === undefined, newest }
}

/** What an event says of its object, as a keyed hash: of two events with the same one, it does not matter which came first. */
function stateOf(cipher: FieldCipher, event: WebhookEvent): Buffer {
  return cipher.tag('webhook object state', canonicalJson(event.data?.object ?? event))
}

function withObject(event: WebhookEvent, object: Record<string, unknown>, fields: readonly string[] | undefined): WebhookEvent {
  const updated = { ...event, data: { ...event.data, object } }
  return fields === undefined ? updated : (minimise(updated, fields) as WebhookEvent)
}

class WorkerDied extends Error {
  override readonly name = 'worker_died'
}

/** Runs the handler on a transaction that is closed to it afterwards, also when it is still at work by then. */
async function runHandler(
  ctx: Context,
  handler: WebhookHandler,
  event: WebhookEvent,
  tx: Transaction,
  delivery: Omit<WebhookDelivery, 'emit'>,
): Promise<void> {
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
    const emit = async (type: string, data: Readonly<Record<string, unknown>>) =>
      void (await emitToSubscribers(ctx, fenced, { type, data }))
    await Promise.race([handler(event, fenced, { ...delivery, emit }), late])
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
