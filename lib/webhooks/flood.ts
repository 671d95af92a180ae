import type { Context } from '../platform/context.ts'
import { emitEvent } from '../platform/outbox.ts'

const windowMs = 60_000
/** Refusals of one source in a minute, as this instance sees them, before senders are told to come back later. */
const refusalsPerWindow = 30
/** A burst is told of at most this often, by whichever instance sees it first. */
const reportEveryMs = 600_000

export interface Flood {
  /** Seconds until refusals are answered one by one again; null while there are few. */
  retryAfterSeconds: number | null
  /** A burst began, or goes on since long: tell of it. */
  report: boolean
}

interface Counter {
  windowStart: number
  refusals: number
  reportedAt: number
}

/**
 * Counts requests whose signature was refused, in memory: knowing that there is a flood costs no query. A request with a
 * good signature is never held back by it, because others that share the provider's addresses can cause one at will.
 */
export function floodGuard(): { refused(source: string, now: Date): Flood } {
  const counters = new Map<string, Counter>()
  return {
    refused(source, now) {
      const at = now.getTime()
      const counter = counters.get(source) ?? { windowStart: at, refusals: 0, reportedAt: Number.NEGATIVE_INFINITY }
      counters.set(source, counter)
      if (at - counter.windowStart >= windowMs) Object.assign(counter, { windowStart: at, refusals: 0 })
      counter.refusals++
      if (counter.refusals <= refusalsPerWindow) return { retryAfterSeconds: null, report: false }
      const report = at - counter.reportedAt >= reportEveryMs
      if (report) counter.reportedAt = at
      return { retryAfterSeconds: Math.max(1, Math.ceil((counter.windowStart + windowMs - at) / 1_000)), report }
    },
  }
}

/** Puts `webhooks.signatures_refused` into the outbox, once in ten minutes however many instances saw it. @returns whether it was put there */
export function reportFlood(ctx: Context, source: string): Promise<boolean> {
  return ctx.db.transaction(async (tx) => {
    // Two instances at once would both find none; the lock lets the second see the first's.
    await tx.query('select pg_advisory_xact_lock(hashtextextended($1::text, 0))', [`caretaker:webhooks:flood:${source}`])
    const since = new Date(ctx.clock.now().getTime() - reportEveryMs)
    const [known] = await tx.query(
      `select from caretaker.outbox where topic = 'webhooks.signatures_refused' and payload ->> 'source' = $1::text and at > $2::timestamptz limit 1`,
      [source, since],
    )
    if (known !== undefined) return false
    await emitEvent(tx, 'webhooks.signatures_refused', { source, moreThan: refusalsPerWindow, withinSeconds: windowMs / 1_000 })
    return true
  })
}
