import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { readSubjectMap } from '../policy.ts'
import { eraseRows } from './erase-rows.ts'
import { retrying } from './retry.ts'
import { findErased, readTombstones } from './tombstone.ts'

/**
 * Erases from `ctx.db` (a restored database that is not open yet) everybody who has been erased since: the rows only, for
 * files, Auth and processors were done the first time. Repeating it finds nothing more to do.
 * @returns how many people were erased again
 */
export async function replayTombstones(ctx: Context): Promise<{ tombstones: number; erased: number }> {
  const objects = await ctx.objects()
  const tombstones = await readTombstones(objects)
  if (tombstones.length === 0) return { tombstones: 0, erased: 0 }
  const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Erasing again who was erased after the backup')
  const map = await readSubjectMap(ctx)
  const ids = await findErased(ctx.db, map, key, tombstones)
  for (const id of ids) {
    if (ctx.signal.aborted)
      throw new CaretakerError('timeout', 'Stopped while erasures were replayed; run it again before the database is opened.')
    await retrying(ctx, () =>
      ctx.db.transaction(
        (tx) => eraseRows(tx, map, id, { leaveTo: new Set(), requestId: undefined, now: ctx.clock.now(), onTable: () => undefined }),
        { lockTimeoutMs: 5_000 },
      ),
    )
  }
  return { tombstones: tombstones.length, erased: ids.length }
}
