import type { Context } from '../../platform/context.ts'
import { hasCode } from '../../platform/errors.ts'
import { databaseKey } from '../select-backup.ts'
import { ownTrust } from '../signing/index.ts'
import { formatInstant } from './instant.ts'
import { planRestore } from './plan-restore.ts'

/**
 * The newest moment that the full backups and increments in the store bring back of a database, as an ISO time; null where there
 * is none.
 */
export async function coveredUntil(
  ctx: Pick<Context, 'objects' | 'config' | 'env' | 'db'>,
  database: { name: string; instance?: string | null | undefined },
): Promise<string | null> {
  try {
    const plan = await planRestore(ctx, { at: 'latest', database: databaseKey(database) }, ownTrust(ctx))
    return formatInstant(plan.newest)
  } catch (error) {
    if (hasCode(error, 'object_missing')) return null
    throw error
  }
}
