import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { selectReplayable } from './queries.ts'
import { replayEvents } from './replay-events.ts'

/**
 * Makes up to `limit` dead events due now, the oldest first. One by one: what another is doing with one of them keeps none of
 * the others back. Returns how many are due again, how many can still be replayed, and how many cannot, because their payload was pruned.
 */
export async function replayDead(ctx: Context, limit: number): Promise<{ replayed: number; left: number; pruned: number }> {
  const { ids, replayable, pruned } = await selectReplayable(ctx.db, limit)
  let replayed = 0
  for (const id of ids)
    await replayEvents(ctx, [id]).then(
      () => replayed++,
      (error: unknown) => {
        if (!(error instanceof CaretakerError)) throw error
      },
    )
  return { replayed, left: replayable - ids.length, pruned }
}
