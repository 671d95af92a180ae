import type { Context } from '../platform/context.ts'
import { type Loss, saveCoverage } from './coverage.ts'
import { coveredUntil } from './increments/covered-until.ts'
import { type BackupSummary, listBackups } from './list-backups.ts'
import { connectedDatabase, databaseKey } from './select-backup.ts'
import { ownTrust } from './signing/index.ts'

type LossContext = Pick<Context, 'objects' | 'config' | 'env' | 'db' | 'clock'>

/** What it would cost if the database this deployment is connected to died now, by what the store holds of it. */
export async function lossNow(ctx: LossContext): Promise<Loss> {
  const own = await connectedDatabase(ctx)
  const backups = await listBackups(ctx, ownTrust(ctx))
  return lossOf(
    ctx,
    backups.filter((backup) => backup.trusted && databaseKey({ name: backup.database, instance: backup.instance }) === own),
  )
}

/** The same, of the backups of one database, newest first. */
export async function lossOf(ctx: LossContext, backups: readonly BackupSummary[]): Promise<Loss> {
  const [newest] = backups
  if (newest === undefined) return { coveredUntil: null, lostMs: null, openAgainMs: null, drilledAt: null }
  // Increments reach further than the backup itself.
  const covered = (await coveredUntil(ctx, { name: newest.database, instance: newest.instance })) ?? newest.createdAt
  const lostMs = Math.max(0, ctx.clock.now().getTime() - Math.max(Date.parse(newest.createdAt), Date.parse(covered)))
  const drilled = backups.find((backup) => backup.proven?.proven === true)
  if (drilled?.proven === undefined) return { coveredUntil: covered, lostMs, openAgainMs: null, drilledAt: null }
  const { at, restoreMs } = drilled.proven
  const openAgainMs = Math.round((restoreMs * newest.storedBytes) / Math.max(1, drilled.storedBytes))
  return { coveredUntil: covered, lostMs, openAgainMs, drilledAt: at }
}

/** Writes down what a loss would cost, after a backup, an increment or a drill; what fails here fails nothing else. */
export async function noteLoss(ctx: LossContext & Pick<Context, 'log'>): Promise<void> {
  try {
    await saveCoverage(ctx.db, await lossNow(ctx))
  } catch (error) {
    ctx.log.warn({ err: error }, 'what a loss of the database would cost was not written down')
  }
}
