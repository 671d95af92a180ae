import type { Context } from '../../platform/context.ts'
import { hasCode } from '../../platform/errors.ts'
import { formatInstant } from './instant.ts'
import { planRestore } from './plan-restore.ts'

/** The newest moment that the full backups and increments in the store bring back, as an ISO time; null where there is none. */
export async function coveredUntil(ctx: Pick<Context, 'objects'>): Promise<string | null> {
  try {
    return formatInstant((await planRestore(ctx, { at: 'latest' })).newest)
  } catch (error) {
    if (hasCode(error, 'object_missing')) return null
    throw error
  }
}
