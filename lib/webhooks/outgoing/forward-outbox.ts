import type { Context } from '../../platform/context.ts'
import { hasCode } from '../../platform/errors.ts'
import { emitToSubscribers } from './emit.ts'
import { markForwarded, takeUnforwarded } from './queries.ts'

const batch = 100
/** What happened before there were subscribers is not news to them. */
const newsMs = 24 * 3_600_000

/** A subscriber that cannot be reached would be told so, and that telling it failed, without end. */
const ownTroubles = /^webhooks\.(delivery|subscriber)_/

/**
 * Makes messages of the events in the outbox that subscribers want: Caretaker's own and those of the app's SQL
 * (`select caretaker.emit('order.paid', …)`).
 * @returns how many events were looked at; less than `batch` says that none is left
 */
export function forwardOutbox(ctx: Context): Promise<{ taken: number; more: boolean }> {
  return ctx.db.transaction(async (tx) => {
    const now = ctx.clock.now()
    const events = await takeUnforwarded(tx, batch)
    for (const { id, topic, payload, at } of events) {
      if (ownTroubles.test(topic) || at.getTime() <= now.getTime() - newsMs) continue
      try {
        await emitToSubscribers(ctx, tx, { type: topic, data: payload, at })
      } catch (error) {
        // Refused before anything was asked of the database. One that is too large must not keep all behind it waiting.
        if (!hasCode(error, 'invalid_input')) throw error
        ctx.log.error({ err: error, outboxId: id, topic }, 'event not forwarded')
      }
    }
    if (events.length > 0)
      await markForwarded(
        tx,
        events.map((event) => event.id),
        now,
      )
    return { taken: events.length, more: events.length === batch }
  })
}
