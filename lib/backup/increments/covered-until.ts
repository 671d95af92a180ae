import type { Context } from '../../platform/context.ts'
import { hasCode } from '../../platform/errors.ts'
import { databaseKey } from '../select-backup.ts'
import { ownTrust } from '../signing/index.ts'
import { formatInstant } from './instant.ts'
import { readReaches } from './plan-restore.ts'

/**
 * The newest moment that the full backups and increments in the store bring back of a database, as an ISO time; null where there
 * is none.
 */
export async function coveredUntil(
  ctx: Pick<Context, 'objects' | 'config' | 'env' | 'db'>,
  database: { name: string; instance?: string | null | undefined },
): Promise<string | null> {
  try {
    const { bases, newest } = await readReaches(ctx, await ctx.objects(), { database: databaseKey(database) }, ownTrust(ctx))
    return bases.length === 0 ? null : formatInstant(newest)
  } catch (error) {
    // There are backups to count on, and none of this database.
    if (hasCode(error, 'invalid_input')) return null
    throw error
  }
}
