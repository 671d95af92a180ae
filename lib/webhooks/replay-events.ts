import { appendAudit } from '../platform/audit.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { makeDue, selectEntry } from './queries.ts'

export interface Replayed {
  id: string
  source: string
  eventId: string
  type: string
}

/**
 * Makes dead, ignored or waiting events due now, with their attempts counted anew: all of them or, when one cannot be,
 * none. `processInbox` applies them.
 * @throws {CaretakerError} `not_found`; `conflict` for an event that is applied (again, its effects would be there twice) or whose payload was pruned
 */
export function replayEvents(ctx: Context, ids: readonly string[]): Promise<Replayed[]> {
  return ctx.db.transaction(async (tx) => {
    const replayed: Replayed[] = []
    // In one order, so that two replays at once cannot each wait for the other's row.
    for (const id of [...new Set(ids)].sort()) {
      const entry = await selectEntry(tx, id, 'for update')
      if (entry === undefined) throw new CaretakerError('not_found', `There is no webhook event "${id}" in the inbox.`)
      if (entry.state === 'applied')
        throw new CaretakerError(
          'conflict',
          `Event ${entry.eventId} (${entry.type}) was applied at ${entry.appliedAt?.toISOString() ?? 'an unknown time'}; replaying it would repeat its effects.`,
        )
      if (entry.payload.byteLength === 0)
        throw new CaretakerError('conflict', `Event ${entry.eventId} (${entry.type}) cannot be replayed: its payload was pruned.`)
      await makeDue(tx, entry.id, ctx.clock.now())
      replayed.push({ id: entry.id, source: entry.source, eventId: entry.eventId, type: entry.type })
    }
    for (const entry of replayed)
      await appendAudit(tx, ctx, {
        action: 'webhooks.replayed',
        target: `inbox/${entry.id}`,
        detail: { source: entry.source, eventId: entry.eventId, type: entry.type },
      })
    return replayed
  })
}
