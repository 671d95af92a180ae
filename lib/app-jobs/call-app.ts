import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { type CallPolicy, durationMs } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { remainingMs } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { PlanLine } from '../platform/job.ts'
import { parseWebhookSecrets, signWebhook, type WebhookKey } from '../platform/standard-webhooks.ts'
import type { Counts, TaskProgress } from '../platform/task.ts'
import { caretakerVersion } from '../platform/version.ts'
import { backoffMs, longestPauseMs, retryAfterMs } from './backoff.ts'
import { readCounts } from './read-counts.ts'

const defaultTimeout = '30 seconds'
const defaultRetries = 3
const secretName = 'APP_WEBHOOK_SECRET'
/** Kept free before the deadline, for the checkpoint and the answer. */
const marginMs = 3_000
/** Less than this is not worth beginning: the next invocation has its whole time. */
const leastMs = 1_000

/** Where a call is. */
interface CallProgress {
  attempts: number
  /** Attempts that the end of the invocation cut short; they do not count as the app's. */
  cutShort: number
  /** Invocations that ended while the next attempt had to wait. */
  waits: number
  /** When the next attempt may be made, milliseconds since 1970. */
  notBeforeMs: number
  /** How it ended, when it did not end well: a retry of the run says it again instead of calling again. */
  ended: { code: 'upstream_failed' | 'timeout'; detail: string } | null
}

/** Without the query, which may hold what is nobody else's business. */
export function callLabel(call: CallPolicy): string {
  return `call ${call.method ?? 'POST'} ${call.path.replace(/[?#].*$/, '')}`
}

/**
 * Calls the app, signed as Standard Webhooks say, and again while it fails in a way that may pass: no answer, 5xx, 408, 409,
 * 425 and 429. `webhook-id` is the same for every attempt at a slot, so that the app can tell a repetition from a new slot.
 * Attempts are counted in the checkpoint, over all invocations and retries of the run.
 * @returns the status it answered with, how many attempts it took, and the counts of a JSON answer such as `{ "rows": 12 }`
 * @throws {CaretakerError} `upstream_failed` for any other answer and when the retries are used up, `timeout` when it does not
 * answer in time, `not_configured` without a secret to sign with
 */
export async function callApp(ctx: Context, call: CallPolicy, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const label = callLabel(call)
  const url = callUrl(ctx, call)
  const keys = parseWebhookSecrets(ctx.env.APP_WEBHOOK_SECRET, secretName)
  const state: CallProgress = {
    attempts: 0,
    cutShort: 0,
    waits: 0,
    notBeforeMs: 0,
    ended: null,
    ...(progress.inner as Partial<CallProgress> | null),
  }
  const body = call.method === 'GET' ? undefined : JSON.stringify(call.body ?? defaultBody(progress))
  const retries = call.retries ?? defaultRetries
  const end = async (code: 'upstream_failed' | 'timeout', detail: string): Promise<never> => {
    state.ended = { code, detail }
    await progress.save(state, progress.counts)
    throw new CaretakerError(code, detail)
  }
  if (state.ended !== null) throw new CaretakerError(state.ended.code, state.ended.detail)
  for (;;) {
    if (!(await waitUntil(ctx, state.notBeforeMs))) {
      // Waiting is what there is to do: a checkpoint that does not change would look like a run that is stuck.
      state.waits++
      await progress.save(state, progress.counts)
      return 'hand-over'
    }
    const policyMs = durationMs(call.timeout ?? defaultTimeout)
    const leftMs = remainingMs(ctx) - marginMs
    if (leftMs < leastMs || progress.stop()) return 'hand-over'
    // Counted before it is made: what a kill interrupts may have reached the app.
    state.attempts++
    await progress.save(state, progress.counts)
    const answer = await attempt(ctx, { url, call, body, keys, timeoutMs: Math.min(policyMs, leftMs) }, progress)
    if (answer.kind === 'done') return { status: answer.status, attempts: state.attempts, ...answer.counts }
    if (ctx.signal.aborted) throw ctx.signal.reason
    if (answer.kind === 'silence' && leftMs < policyMs) {
      // It was not the app's timeout that was over, but the invocation: the next one has its whole time.
      state.cutShort++
      state.attempts--
      if (state.cutShort > 1)
        await end(
          'timeout',
          `${label}: ${answer.why} in what an invocation has, twice. Give it a shorter "timeout", and let the app answer 202 and go on by itself.`,
        )
      await progress.save(state, progress.counts)
      return 'hand-over'
    }
    if (answer.kind === 'refused') return end('upstream_failed', `${label}: ${answer.why}.`)
    ctx.log.warn({ task: label, attempt: state.attempts, why: answer.why }, 'the app could not be called')
    if (state.attempts > retries)
      return end(
        answer.kind === 'silence' ? 'timeout' : 'upstream_failed',
        `${label}: ${answer.why}${retries === 0 ? '' : `, the last of ${state.attempts} times`}.`,
      )
    const asked = answer.kind === 'retry' ? answer.afterMs : undefined
    if (asked !== undefined && asked > longestPauseMs)
      return end(
        'upstream_failed',
        `${label}: ${answer.why} and asks to be left alone for ${Math.ceil(asked / 60_000)} minutes; within a slot ${longestPauseMs / 60_000} are waited.`,
      )
    const pause = asked === undefined ? backoffMs(state.attempts, Math.random()) : asked
    state.notBeforeMs = ctx.clock.now().getTime() + pause
    await progress.save(state, progress.counts)
  }
}

/** What would be called, and by whom it could not be: nothing is sent. */
export function planCall(ctx: Pick<Context, 'config' | 'env'>, call: CallPolicy): PlanLine {
  const warnings: string[] = []
  try {
    parseWebhookSecrets(ctx.env.APP_WEBHOOK_SECRET, secretName)
  } catch (error) {
    if (!(error instanceof CaretakerError)) throw error
    warnings.push(`cannot be signed: ${error.detail}`)
  }
  const url = new URL(callUrl(ctx, call))
  return {
    action: `${callLabel(call)}, signed, with up to ${call.retries ?? defaultRetries} retries`,
    target: `${url.origin}${url.pathname}`,
    count: 1,
    unit: 'objects',
    ...(warnings.length === 0 ? {} : { warnings }),
  }
}

/** `app.url` may have a path of its own. */
function callUrl(ctx: Pick<Context, 'config'>, call: CallPolicy): string {
  if (!call.path.startsWith('/')) return call.path
  const { url } = ctx.config.app
  if (url === undefined) throw new CaretakerError('policy_invalid', `${callLabel(call)} needs "app.url", or a whole URL as its path.`)
  return url.replace(/\/+$/, '') + call.path
}

function defaultBody({ run }: TaskProgress): unknown {
  return { type: 'job.due', timestamp: run.slot.toISOString(), data: { job: run.job, slot: run.slot.toISOString() } }
}

/** The same for the same slot of the same step, whoever makes the call and however often. */
function messageId({ run, label }: TaskProgress): string {
  return `job_${createHash('sha256')
    .update(JSON.stringify([run.job, run.slot.toISOString(), label]))
    .digest('hex')
    .slice(0, 32)}`
}

/** False when the invocation ends first. */
async function waitUntil(ctx: Context, atMs: number): Promise<boolean> {
  for (;;) {
    const ms = atMs - ctx.clock.now().getTime()
    if (ms <= 0) return true
    const left = remainingMs(ctx) - marginMs
    if (left < leastMs || ctx.signal.aborted) return false
    await delay(Math.min(ms, left - leastMs + 1), undefined, { signal: ctx.signal }).catch(() => undefined)
  }
}

type Answer =
  | { kind: 'done'; status: number; counts: Counts }
  | { kind: 'retry'; why: string; afterMs: number | undefined }
  | { kind: 'silence'; why: string }
  | { kind: 'refused'; why: string }

interface Attempt {
  url: string
  call: CallPolicy
  body: string | undefined
  keys: readonly WebhookKey[]
  timeoutMs: number
}

/** Answers that may be different a moment later. */
const passing = new Set([408, 409, 425, 429])

async function attempt(ctx: Context, { url, call, body, keys, timeoutMs }: Attempt, progress: TaskProgress): Promise<Answer> {
  const timeout = AbortSignal.timeout(Math.max(1, Math.trunc(timeoutMs)))
  try {
    const response = await ctx.fetch(url, {
      method: call.method ?? 'POST',
      headers: {
        ...signWebhook(keys, { id: messageId(progress), timestamp: ctx.clock.now(), body: body ?? '' }),
        'user-agent': `Caretaker/${caretakerVersion}`,
        'caretaker-job': progress.run.job,
        'caretaker-slot': progress.run.slot.toISOString(),
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body }),
      // A signature is for the address it was made for.
      redirect: 'manual',
      signal: AbortSignal.any([ctx.signal, timeout]),
    })
    return await judge(ctx, response)
  } catch {
    // What a driver of the network says may name hosts and addresses; the kind of failure is enough.
    return timeout.aborted
      ? { kind: 'silence', why: `the app did not answer within ${Math.round(timeoutMs / 1_000)} seconds` }
      : { kind: 'retry', why: 'the app could not be reached', afterMs: undefined }
  }
}

async function judge(ctx: Context, response: Response): Promise<Answer> {
  const { status } = response
  // It has said that it is done: an answer that breaks off later takes nothing of that back.
  if (response.ok) return { kind: 'done', status, counts: await readCounts(response).catch(() => ({})) }
  await response.body?.cancel().catch(() => undefined)
  if (status === 0 || (status >= 300 && status < 400))
    return {
      kind: 'refused',
      why: `the app answered ${status === 0 ? 'with a redirect' : `${status}, a redirect`}, which a signed call does not follow; give the final address`,
    }
  if (status >= 500 || passing.has(status))
    return { kind: 'retry', why: `the app answered ${status}`, afterMs: retryAfterMs(response.headers.get('retry-after'), ctx.clock.now()) }
  const hint = status === 401 || status === 403 ? `; does it verify the signature with the same ${secretName}?` : ''
  return { kind: 'refused', why: `the app answered ${status}, which a repetition would not change${hint}` }
}
