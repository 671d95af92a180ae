import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { guardedRequest } from '../../platform/guarded-request.ts'
import type { NotificationKind, NotificationPayload } from '../types.ts'
import type { ChannelKind } from './kinds.ts'

/** One thing to be told, whatever the channel makes of it. */
export interface Message {
  /** The notification's number: the same in every attempt. */
  id: string
  /** What a receiver tells repeats and endings by: the incident's id. */
  dedupKey: string
  kind: NotificationKind
  severity: string
  /** 0 for the most severe of `of`. */
  rank: number
  of: number
  payload: NotificationPayload
  /** Where to see it and to act; null where Caretaker has no public address. */
  link: string | null
  app: string
  environment: string
  /** When it was noted, not when it is sent. */
  at: Date
  /** What came before it of the same incident could not be delivered. */
  unheard: boolean
  /** Recipients that have it already, of an earlier attempt. */
  reached: readonly string[]
  /** There is no database to ask: about bounces, for one. */
  direct?: true
}

/** What became of one attempt. */
export type Outcome =
  | { state: 'delivered'; status: number | null }
  /** Not this time. `spoilt`: it is the message's own fault, and others may pass. */
  | { state: 'failed'; status: number | null; code: string; retryAfterMs?: number; spoilt?: true; reached?: readonly string[] }

export interface Channel {
  name: string
  kind: ChannelKind
  /** The least time between two messages, ms. */
  paceMs: number
  /**
   * Sends one message; never throws for what the other side does.
   * @throws {CaretakerError} `not_configured` for a channel that lacks a setting
   */
  send(ctx: Context, message: Message): Promise<Outcome>
}

const answerLimitMs = 10_000

/** What an HTTP answer means: 429 and 5xx come again, and what the receiver calls malformed is the message's own fault. */
function outcomeOf(
  answer: { status: number; retryAfter: string | null },
  now: Date,
  taken = answer.status >= 200 && answer.status < 300,
): Outcome {
  const { status } = answer
  if (taken) return { state: 'delivered', status }
  const retryAfterMs = status === 429 || status === 503 ? asked(answer.retryAfter, now) : undefined
  const spoilt = [400, 413, 415, 422].includes(status)
  return {
    state: 'failed',
    status,
    code: `http_${status}`,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(spoilt ? { spoilt } : {}),
  }
}

/** Seconds or a date, an hour at most. */
function asked(value: string | null, now: Date): number | undefined {
  if (value === null) return undefined
  const ms = /^\d{1,6}(\.\d+)?$/.test(value) ? Number(value) * 1_000 : new Date(value).getTime() - now.getTime()
  return Number.isNaN(ms) ? undefined : Math.min(3_600_000, Math.max(0, ms))
}

/** One POST of JSON to a provider's own address. */
export async function postJson(ctx: Context, url: string, body: unknown, headers: Record<string, string> = {}): Promise<Outcome> {
  let response: Response
  try {
    response = await ctx.fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
      // A message must not end elsewhere than where it was sent.
      redirect: 'error',
      signal: AbortSignal.any([ctx.signal, AbortSignal.timeout(answerLimitMs)]),
    })
  } catch (error) {
    return { state: 'failed', status: null, code: error instanceof Error && error.name === 'TimeoutError' ? 'timeout' : 'unreachable' }
  }
  await response.body?.cancel().catch(() => undefined)
  return outcomeOf({ status: response.status, retryAfter: response.headers.get('retry-after') }, ctx.clock.now())
}

/** A POST to an address that stands in a setting: to public addresses only, unless said otherwise. */
export async function postGuarded(
  ctx: Context,
  request: { url: string; body: string; headers: Record<string, string>; allowPrivate: boolean },
): Promise<Outcome> {
  try {
    const answer = await guardedRequest({
      url: request.url,
      method: 'POST',
      headers: { 'content-type': 'application/json', ...request.headers },
      body: Buffer.from(request.body),
      timeoutMs: answerLimitMs,
      allowPrivate: request.allowPrivate,
      signal: ctx.signal,
    })
    const retryAfter = answer.headers['retry-after']
    return outcomeOf({ status: answer.status, retryAfter: retryAfter ?? null }, ctx.clock.now())
  } catch (error) {
    if (!(error instanceof CaretakerError)) throw error
    return { state: 'failed', status: null, code: error.code }
  }
}

/** No longer than `length`, with a mark where something was left out. Never half a character, which a receiver may refuse as no JSON. */
export function clipped(text: string, length: number): string {
  if (text.length <= length) return text.toWellFormed()
  const cut = text.slice(0, length - 1)
  return `${/[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut}…`.toWellFormed()
}

/** In one line, without what steers a terminal or ends a header: what the app tells may hold anything. */
export function oneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ')
}
