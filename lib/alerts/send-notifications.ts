import { setTimeout as delay } from 'node:timers/promises'
import { type Context, remainingMs } from '../platform/context.ts'
import { byDatabaseClock } from '../platform/database-clock.ts'
import { environmentOf } from '../platform/environment.ts'
import { CaretakerError } from '../platform/errors.ts'
import { emitEvent } from '../platform/outbox.ts'
import type { Channel, Message, Outcome } from './channels/channel.ts'
import { channelNames } from './channels/names.ts'
import { openChannel } from './channels/open-channel.ts'
import { severityMatrix, severityOf } from './incidents/severities.ts'
import { incidentLink, watcherKey } from './links.ts'
import {
  endOld,
  endUnlisted,
  keepChannel,
  leaveChannel,
  noteAttempt,
  noteFailure,
  noteSuccess,
  pauseChannel,
  supersede,
  type TakenNotification,
  takeChannel,
  takeNotification,
} from './sending-queries.ts'

export interface SendingOutcome {
  delivered: number
  /** Attempts that failed and will be repeated. */
  failed: number
  dead: number
  /** Left out, because what came after them says it. */
  superseded: number
}

export interface SendInput {
  /** How to wait between two messages of a channel; the system's way by default. */
  pause?: (ms: number) => Promise<unknown>
}

/** What has waited so long is not news; that it is over is told however late. */
const newsMs = 24 * 3_600_000
const firstDelayMs = 30_000
const longestDelayMs = 15 * 60_000
/** What the receiver calls malformed is tried a few times more, for a receiver that is. */
const spoiltAttempts = 5
/** Until a channel that lacks a setting is looked at again. */
const unsetMs = 5 * 60_000
/** For a sender that died of it: the longest attempt, and some. */
const leaseMs = 60_000
/** An attempt needs this much of the invocation, ms. */
const attemptMs = 12_000

/**
 * Sends what is due, each channel's by itself, so that a slow one holds nobody else up: one sender at a time, in order within an incident,
 * at the pace the channel takes. A channel that fails is left alone for a while, longer each time; what it was to take waits.
 * @throws {CaretakerError} `database_unavailable`
 */
export async function sendNotifications(given: Context, input: SendInput = {}): Promise<SendingOutcome> {
  const ctx = await byDatabaseClock(given)
  const environment = environmentOf(ctx)
  const names = channelNames(ctx)
  const dead = await endUnlisted(ctx.db, environment, names, ctx.clock.now())
  const outcome: SendingOutcome = { delivered: 0, failed: 0, dead, superseded: 0 }
  await Promise.all(
    names.map(async (name) => {
      const now = ctx.clock.now()
      if (!(await takeChannel(ctx.db, environment, name, now, new Date(now.getTime() + leaseMs)))) return
      try {
        const superseded = await supersede(ctx.db, environment, name)
        outcome.superseded += superseded
        await sendAll(ctx, environment, name, input.pause ?? ((ms) => delay(ms, undefined, { signal: ctx.signal })), outcome)
      } finally {
        await leaveChannel(ctx.db, environment, name)
      }
    }),
  )
  await expire(ctx, environment, outcome)
  return outcome
}

async function sendAll(
  ctx: Context,
  environment: string,
  name: string,
  pause: (ms: number) => Promise<unknown>,
  outcome: SendingOutcome,
): Promise<void> {
  let channel: Channel | undefined
  while (!ctx.signal.aborted && remainingMs(ctx) > attemptMs) {
    const now = ctx.clock.now()
    const taken = await takeNotification(ctx.db, { environment, channel: name, now, nextAttemptAt: new Date(now.getTime() + leaseMs) })
    if (taken === null) return
    let result: Outcome
    try {
      channel ??= await openChannel(ctx, name)
      result = await channel.send(ctx, messageOf(ctx, taken))
    } catch (error) {
      if (!(error instanceof CaretakerError) || error.code === 'database_unavailable') throw error
      ctx.log.error({ err: error, channel: name }, 'a channel of alerts cannot be told')
      result = { state: 'failed', status: null, code: error.code, ...(error.code === 'not_configured' ? { retryAfterMs: unsetMs } : {}) }
    }
    const paceMs = channel?.paceMs ?? 0
    if (!(await note(ctx, environment, name, taken, result, paceMs, outcome))) return
    await keepChannel(ctx.db, environment, name, new Date(ctx.clock.now().getTime() + leaseMs))
    if (paceMs > 0) await pause(paceMs)
  }
}

/** @returns whether the channel takes more now */
async function note(
  ctx: Context,
  environment: string,
  name: string,
  taken: TakenNotification,
  result: Outcome,
  paceMs: number,
  outcome: SendingOutcome,
): Promise<boolean> {
  const now = ctx.clock.now()
  if (result.state === 'delivered') {
    await ctx.db.transaction(async (tx) => {
      await noteAttempt(tx, taken, { state: 'delivered', status: result.status, code: null, now, nextAttemptAt: null, reached: null })
      await noteSuccess(tx, environment, name, now, new Date(now.getTime() + paceMs))
    })
    outcome.delivered++
    return true
  }
  const { status, code, spoilt, retryAfterMs } = result
  const dead = spoilt === true && taken.attempts >= spoiltAttempts && taken.kind !== 'resolved'
  const more = await ctx.db.transaction(async (tx) => {
    const failures = spoilt === true ? taken.attempts : await noteFailure(tx, environment, name, now)
    const nextAt = new Date(now.getTime() + Math.max(sendingDelayMs(failures), retryAfterMs ?? 0))
    const noted = await noteAttempt(tx, taken, {
      ...{ state: dead ? 'dead' : 'waiting', status, code, now, nextAttemptAt: nextAt },
      reached: result.reached ?? null,
    })
    // Told on the other channels, if there are any.
    if (noted && dead) await emitEvent(tx, 'alerts.notification_dead', { channel: name, kind: taken.kind, code })
    // What one message did wrong is no fault of the channel.
    if (spoilt !== true) await pauseChannel(tx, environment, name, nextAt)
    return spoilt === true
  })
  ctx.log.warn({ channel: name, kind: taken.kind, attempts: taken.attempts, code, dead }, 'a notification failed')
  if (dead) outcome.dead++
  else outcome.failed++
  return more
}

async function expire(ctx: Context, environment: string, outcome: SendingOutcome): Promise<void> {
  const now = ctx.clock.now()
  const ended = await ctx.db.transaction(async (tx) => {
    const channels = await endOld(tx, environment, new Date(now.getTime() - newsMs), now)
    for (const { channel } of channels) await emitEvent(tx, 'alerts.notification_dead', { channel, code: 'expired' })
    return channels
  })
  for (const { channel, count } of ended) {
    ctx.log.error({ channel, count }, 'notifications waited for a day and were given up')
    outcome.dead += count
  }
}

function messageOf(ctx: Context, taken: TakenNotification): Message {
  const matrix = severityMatrix(ctx.config)
  return {
    id: taken.id,
    dedupKey: taken.incident ?? watcherKey(ctx),
    kind: taken.kind,
    severity: taken.severity,
    rank: severityOf(ctx.config, taken.severity).rank,
    of: matrix.length,
    payload: taken.payload,
    link: taken.incident === null ? null : incidentLink(ctx, taken.incident),
    app: ctx.config.app.name,
    environment: environmentOf(ctx),
    at: taken.at,
    unheard: taken.unheard,
    reached: taken.reached,
  }
}

/** Doubles from half a minute to a quarter of an hour; the second half of it is random, so that a burst does not come back as one. */
export function sendingDelayMs(failures: number, random: () => number = Math.random): number {
  const ms = Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(failures - 1, 20))
  return Math.round(ms / 2 + (ms / 2) * random())
}
