import type { Context } from '../platform/context.ts'
import { coveredUntil } from './increments/index.ts'
import { type BackupSummary, listBackups } from './list-backups.ts'
import { connectedDatabase, databaseKey } from './select-backup.ts'
import { ownTrust } from './signing/index.ts'

/** What it would cost if the database died now. */
export interface Loss {
  /** The newest moment that backups and increments bring back; null where there is no backup to count on. */
  coveredUntil: string | null
  /** What was committed in so long would be lost (RPO), ms. */
  lostMs: number | null
  /** How long until the database is open again (RTO), ms: as the last proven drill took, in proportion to the size. null before there was one. */
  openAgainMs: number | null
  /** The drill that measured it. */
  drill: { backup: string; at: string; restoreMs: number } | null
}

/** What it would cost if the database this deployment is connected to died now, by what the store holds of it. */
export async function lossNow(ctx: Pick<Context, 'objects' | 'config' | 'env' | 'db' | 'clock'>): Promise<Loss> {
  const own = await connectedDatabase(ctx)
  const backups = await listBackups(ctx, ownTrust(ctx))
  return lossOf(
    ctx,
    backups.filter((backup) => backup.trusted && databaseKey({ name: backup.database, instance: backup.instance }) === own),
  )
}

/** The same, of the backups of one database, newest first. */
export async function lossOf(
  ctx: Pick<Context, 'objects' | 'config' | 'env' | 'db' | 'clock'>,
  backups: readonly BackupSummary[],
): Promise<Loss> {
  const [newest] = backups
  if (newest === undefined) return { coveredUntil: null, lostMs: null, openAgainMs: null, drill: null }
  // Increments reach further than the backup itself.
  const covered = (await coveredUntil(ctx, { name: newest.database, instance: newest.instance })) ?? newest.createdAt
  const lostMs = Math.max(0, ctx.clock.now().getTime() - Math.max(Date.parse(newest.createdAt), Date.parse(covered)))
  const drilled = backups.find((backup) => backup.proven?.proven === true)
  if (drilled?.proven === undefined) return { coveredUntil: covered, lostMs, openAgainMs: null, drill: null }
  const { at, restoreMs } = drilled.proven
  const openAgainMs = Math.round((restoreMs * newest.storedBytes) / Math.max(1, drilled.storedBytes))
  return { coveredUntil: covered, lostMs, openAgainMs, drill: { backup: drilled.id, at, restoreMs } }
}
