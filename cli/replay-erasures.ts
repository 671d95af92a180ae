import { personElsewhere } from '../lib/catalog.ts'
import type { Context } from '../lib/platform/context.ts'
import { openDatabase } from '../lib/platform/db.ts'

export interface ReplayedErasures {
  /** Erasures the store has a journal of. */
  tombstones: number
  /** People the restored rows held and that were erased again. */
  erased: number
}

/**
 * Erased stays erased: what the backup still held of people who were erased since goes before the database is declared
 * open. Null where the policy says nothing of people.
 */
export async function replayErasures(ctx: Context, targetUrl: string): Promise<ReplayedErasures | null> {
  if (ctx.config.gdpr === undefined) return null
  const { replayTombstones } = await import('../lib/gdpr/index.ts')
  const db = openDatabase({ sessionUrl: targetUrl, ca: ctx.env.DATABASE_CA, maxConnections: 2 })
  try {
    return await replayTombstones({ ...ctx, db }, personElsewhere)
  } finally {
    await db.close()
  }
}

export function describeReplay(replayed: ReplayedErasures | null): string {
  if (replayed === null) return 'No erasures were replayed: the policy has no "gdpr".'
  if (replayed.erased > 0) return `${replayed.erased} people who had been erased after this backup were erased again.`
  return replayed.tombstones === 0 ? 'Nobody has been erased since.' : `Nobody of the ${replayed.tombstones} erased people was in it.`
}
