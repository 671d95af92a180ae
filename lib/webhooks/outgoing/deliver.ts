import type { OutgoingEvent } from '../../config/index.ts'
import { type Context, remainingMs } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { environmentCipher, type FieldCipher } from '../../platform/field-cipher.ts'
import { type GuardedAnswer, guardedRequest, type ResolvedAddress } from '../../platform/guarded-request.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { signWebhook } from '../../platform/standard-webhooks.ts'
import { caretakerVersion } from '../../platform/version.ts'
import { openMessage } from './emit.ts'
import {
  closeCircuit,
  countFailure,
  endUnsubscribed,
  giveUp,
  markGone,
  openCircuit,
  recordAttempt,
  selectCircuits,
  type TakenDelivery,
  takeDeliveries,
  takeTrial,
} from './queries.ts'
import { slackMessage } from './slack.ts'
import { findSubscriber, type Subscriber } from './subscribers.ts'

/** Attempts before a delivery is dead: with the delays below, about a day and a half. */
export const maxAttempts = 12
const firstDelayMs = 5_000
const delayGrowth = 4
const longestDelayMs = 6 * 3_600_000
/** A delivery that waited so long is not news any more, however few attempts it had. */
const giveUpAfterMs = 3 * 86_400_000
/** Failures one after the other that open a subscriber's circuit, and for how long. */
const failuresToOpen = 5
const firstOpenMs = 30_000
const longestOpenMs = 30 * 60_000
/** Until a subscriber without an address or a usable secret is looked at again. */
const unsetMs = 10 * 60_000
/** For a sender that died of it: the attempt's own time, and some. */
const leaseMarginMs = 30_000
const atOnce = 4

export interface DeliveryOutcome {
  delivered: number
  /** Attempts that failed and will be repeated. */
  failed: number
  dead: number
}

export interface DeliverInput {
  /** Deliveries to take at most, of each subscriber. Default 50. */
  limit?: number
  /** How names are resolved; the system's way by default. */
  resolve?: (hostname: string) => Promise<ResolvedAddress[]>
}

/**
 * Sends what is due, each subscriber's by itself, so that a slow one holds nobody else up. Each attempt is signed anew; the id stays,
 * for the receiver to tell repeats by. After five failures in a row a subscriber gets nothing for a while, then one delivery to try.
 * @throws {CaretakerError} `database_unavailable`; `not_configured` without ENCRYPTION_KEY
 */
export async function deliverMessages(ctx: Context, input: DeliverInput = {}): Promise<DeliveryOutcome> {
  const outcome: DeliveryOutcome = { delivered: 0, failed: 0, dead: 0 }
  const cipher = environmentCipher(ctx.env, 'Telling subscribers')
  const names = Object.keys(ctx.config.webhooks?.subscribers ?? {})
  outcome.dead += await endUnsubscribed(ctx.db, names, ctx.clock.now())
  const circuits = new Map((await selectCircuits(ctx.db)).map((circuit) => [circuit.name, circuit]))
  await Promise.all(
    names.map(async (name) => {
      // Not in one expression with the sum, which the others change while this one waits.
      const old = await endOld(ctx, name)
      outcome.dead += old
      const circuit = circuits.get(name)
      if (circuit?.goneAt !== null && circuit?.goneAt !== undefined) {
        const ended = await endAll(ctx, name, 'gone', null)
        outcome.dead += ended
        return
      }
      const now = ctx.clock.now()
      if (circuit?.openUntil !== null && circuit?.openUntil !== undefined && circuit.openUntil > now) return
      let subscriber: Subscriber
      try {
        subscriber = findSubscriber(ctx, name)
      } catch (error) {
        // The deliveries wait for the setting that is missing, and nobody looks every minute.
        ctx.log.error({ err: error, subscriber: name }, 'subscriber cannot be told')
        await openCircuit(ctx.db, name, new Date(ctx.clock.now().getTime() + unsetMs))
        return
      }
      const lease = () => new Date(ctx.clock.now().getTime() + subscriber.timeoutMs + leaseMarginMs)
      let limit = input.limit ?? 50
      if (circuit?.openUntil !== null && circuit?.openUntil !== undefined) {
        if (!(await takeTrial(ctx.db, name, now, lease()))) return
        limit = 1
      }
      await sendAll(ctx, { cipher, subscriber, lease, limit, resolve: input.resolve }, outcome)
    }),
  )
  return outcome
}

interface Sending {
  cipher: FieldCipher
  subscriber: Subscriber
  lease: () => Date
  limit: number
  resolve: DeliverInput['resolve']
}

async function sendAll(ctx: Context, sending: Sending, outcome: DeliveryOutcome): Promise<void> {
  let left = sending.limit
  let opened = false
  const sender = async () => {
    while (left > 0 && !opened && !ctx.signal.aborted && remainingMs(ctx) > sending.subscriber.timeoutMs + 1_000) {
      left--
      const [delivery] = await takeDeliveries(ctx.db, {
        subscriber: sending.subscriber.name,
        now: ctx.clock.now(),
        nextAttemptAt: sending.lease(),
        limit: 1,
      })
      if (delivery === undefined) return
      const result = await attempt(ctx, sending, delivery)
      if (result.state === 'delivered') outcome.delivered++
      else if (result.state === 'dead') outcome.dead++
      else outcome.failed++
      opened ||= result.opened
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, sending.limit) }, sender))
}

interface Attempted {
  state: 'delivered' | 'waiting' | 'dead'
  /** Nothing more is to be sent there for now. */
  opened: boolean
}

async function attempt(ctx: Context, { cipher, subscriber, resolve }: Sending, delivery: TakenDelivery): Promise<Attempted> {
  const { name } = subscriber
  let answer: GuardedAnswer | undefined
  let code: string
  try {
    answer = await post(ctx, subscriber, delivery, openMessage(cipher, delivery), resolve)
    code = `http_${answer.status}`
  } catch (error) {
    if (!(error instanceof CaretakerError)) throw error
    code = error.code
  }
  const now = ctx.clock.now()
  const status = answer?.status ?? null
  if (status !== null && status >= 200 && status < 300) {
    await recordAttempt(ctx.db, delivery, { state: 'delivered', status, code: null, now, nextAttemptAt: null })
    await closeCircuit(ctx.db, name)
    return { state: 'delivered', opened: false }
  }
  // https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: 410 says "send nothing any more".
  if (status === 410) {
    await ctx.db.transaction(async (tx) => {
      if (await markGone(tx, name, now)) await emitEvent(tx, 'webhooks.subscriber_gone', { subscriber: name })
    })
    await recordAttempt(ctx.db, delivery, { state: 'dead', status, code, now, nextAttemptAt: null })
    return { state: 'dead', opened: true }
  }
  const wait = Math.max(deliveryDelayMs(delivery.attempts), retryAfterMs(answer, now) ?? 0)
  const dead = delivery.attempts >= maxAttempts || code === 'address_refused'
  await ctx.db.transaction(async (tx) => {
    const result = { state: dead ? 'dead' : 'waiting', status, code, now, nextAttemptAt: new Date(now.getTime() + wait) } as const
    if ((await recordAttempt(tx, delivery, result)) && dead)
      await emitEvent(tx, 'webhooks.delivery_dead', { subscriber: name, deliveries: 1, type: delivery.type, code })
  })
  ctx.log.warn({ subscriber: name, type: delivery.type, attempts: delivery.attempts, code, dead }, 'webhook delivery failed')
  const opened = await noteFailure(ctx, name, now, retryAfterMs(answer, now))
  return { state: dead ? 'dead' : 'waiting', opened }
}

/** @returns whether the circuit is open now */
async function noteFailure(ctx: Context, name: string, now: Date, askedMs: number | null): Promise<boolean> {
  const failures = await countFailure(ctx.db, name)
  const own = failures < failuresToOpen ? 0 : Math.min(longestOpenMs, firstOpenMs * 2 ** (failures - failuresToOpen))
  const openMs = Math.max(own, askedMs ?? 0)
  if (openMs === 0) return false
  await openCircuit(ctx.db, name, new Date(now.getTime() + openMs))
  return true
}

function post(
  ctx: Context,
  subscriber: Subscriber,
  delivery: TakenDelivery,
  data: Record<string, unknown>,
  resolve: DeliverInput['resolve'],
): Promise<GuardedAnswer> {
  const body = Buffer.from(JSON.stringify(bodyOf(subscriber, { type: delivery.type, at: delivery.at, data })))
  return guardedRequest({
    url: subscriber.url,
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'user-agent': `Caretaker/${caretakerVersion}`,
      ...signWebhook(subscriber.keys, { id: delivery.messageId, timestamp: ctx.clock.now(), body }),
    },
    body,
    timeoutMs: subscriber.timeoutMs,
    allowPrivate: subscriber.allowPrivate,
    signal: ctx.signal,
    ...(resolve === undefined ? {} : { resolve }),
  })
}

/** @throws {CaretakerError} `internal` when the policy's function does: the attempt counts as failed */
function bodyOf({ name, policy }: Subscriber, event: OutgoingEvent): unknown {
  if (policy.body !== undefined) {
    try {
      const body = policy.body(event)
      if (body !== undefined) return body
    } catch (cause) {
      throw new CaretakerError('internal', `The policy's body of the subscriber "${name}" failed for ${event.type}.`, { cause })
    }
    throw new CaretakerError('internal', `The policy's body of the subscriber "${name}" returned nothing for ${event.type}.`)
  }
  if (policy.format === 'slack') return slackMessage(event)
  return { type: event.type, timestamp: event.at.toISOString(), data: event.data }
}

async function endOld(ctx: Context, name: string): Promise<number> {
  return endAll(ctx, name, 'expired', new Date(ctx.clock.now().getTime() - giveUpAfterMs))
}

function endAll(ctx: Context, name: string, code: string, createdBefore: Date | null): Promise<number> {
  return ctx.db.transaction(async (tx) => {
    const ended = await giveUp(tx, name, code, { createdBefore, now: ctx.clock.now() })
    if (ended > 0) await emitEvent(tx, 'webhooks.delivery_dead', { subscriber: name, deliveries: ended, code })
    return ended
  })
}

/** Grows fourfold from five seconds to six hours; the second half of it is random, so that a burst does not come back as one. */
export function deliveryDelayMs(attempts: number, random: () => number = Math.random): number {
  const delay = Math.min(longestDelayMs, firstDelayMs * delayGrowth ** (attempts - 1))
  return Math.round(delay / 2 + (delay / 2) * random())
}

/** How long the subscriber asks to be left alone (seconds or a date), at most an hour; null where it does not ask. */
function retryAfterMs(answer: GuardedAnswer | undefined, now: Date): number | null {
  const value = answer?.status === 429 || answer?.status === 503 ? answer.headers['retry-after'] : undefined
  if (value === undefined) return null
  const ms = /^\d{1,6}$/.test(value) ? Number(value) * 1_000 : new Date(value).getTime() - now.getTime()
  return Number.isNaN(ms) ? null : Math.min(3_600_000, Math.max(0, ms))
}
