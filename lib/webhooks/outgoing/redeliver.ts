import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { type DeliveryEntry, type DeliveryState, lockDeliveries, makeDeliveryDue, reopenSubscriber, selectDeliveries } from './queries.ts'

export const deliveryStates = ['waiting', 'delivered', 'dead'] as const satisfies readonly DeliveryState[]

/** Deliveries, newest first. `limit` defaults to 50, at most 1,000. */
export function listDeliveries(
  ctx: Context,
  filter: { state?: DeliveryState; subscriber?: string; type?: string; limit?: number } = {},
): Promise<DeliveryEntry[]> {
  const limit = Math.min(1_000, Math.max(1, filter.limit ?? 50))
  return selectDeliveries(ctx.db, { state: filter.state ?? null, subscriber: filter.subscriber ?? null, type: filter.type ?? null, limit })
}

/**
 * Makes deliveries due now, by their number or all of one message, with their attempts counted anew; delivered ones too: the id is
 * the same, and the receiver tells repeats by it. All of them or, when one cannot be, none.
 * @throws {CaretakerError} `not_found`; `conflict` for a subscriber the policy does not have any more
 */
export function redeliver(ctx: Context, ids: readonly string[]): Promise<DeliveryEntry[]> {
  return ctx.db.transaction(async (tx) => {
    const due: DeliveryEntry[] = []
    for (const id of [...new Set(ids)].sort()) {
      const found = await lockDeliveries(tx, id)
      if (found.length === 0)
        throw new CaretakerError('not_found', `There is no delivery "${id.slice(0, 80)}". \`webhooks deliveries\` shows what there is.`)
      for (const delivery of found) {
        if (ctx.config.webhooks?.subscribers?.[delivery.subscriber] === undefined)
          throw new CaretakerError('conflict', `Delivery ${delivery.id} is for "${delivery.subscriber}", which the policy no longer has.`)
        await makeDeliveryDue(tx, delivery.id, ctx.clock.now())
        await reopenSubscriber(tx, delivery.subscriber)
        due.push(delivery)
      }
    }
    for (const { id, messageId, subscriber, type } of due)
      await appendAudit(tx, ctx, { action: 'webhooks.redelivered', target: `deliveries/${id}`, detail: { messageId, subscriber, type } })
    return due
  })
}
