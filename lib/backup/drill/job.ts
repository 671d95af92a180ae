import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { JobPlan, JobVerb } from '../../platform/job.ts'
import { type BackupSummary, listBackups } from '../list-backups.ts'
import { noteLoss } from '../loss.ts'
import { connectedDatabase, databaseKey } from '../select-backup.ts'
import { ownTrust, signerOf } from '../signing/index.ts'
import { drillBackup } from './drill-backup.ts'
import { hasDrillIdentity } from './identity.ts'

/**
 * The weekly drill of the newest backup. One that is not proven fails the job, by the name of what does not hold. A backup that an
 * earlier drill has proven is not restored again: the identity for it was destroyed then.
 */
export const backupVerifyJob: JobVerb = async (ctx) => {
  const newest = await newestOwn(ctx)
  if (newest?.proven?.proven === true && newest.encrypted && !(await hasDrillIdentity(await ctx.objects(), newest.id))) {
    ctx.log.warn({ backup: newest.id, provenAt: newest.proven.at }, 'there is no backup since the last drill')
    return { status: 'done', result: { id: newest.id, proven: true, provenAt: newest.proven.at, newerBackup: false } }
  }
  // Where nothing is signed, what is not signed is all there is to drill.
  const report = await drillBackup(ctx, { database: await connectedDatabase(ctx), trustUnsigned: signerOf(ctx.env) === null })
  await noteLoss(ctx)
  if (!report.proven) {
    const failed = report.assertions.filter((one) => !one.holds).map((one) => `"${one.name}" does not hold`)
    const schema = report.schemaEqual === false ? [`the schema differs at: ${report.schemaDifference ?? ''}`] : []
    throw new CaretakerError('restore_mismatch', `The drill of backup ${report.id} did not prove it: ${[...schema, ...failed].join('; ')}.`)
  }
  return { status: 'done', result: { ...report } }
}

/** Which backup a drill would restore now. */
export const planBackupVerify: JobPlan = async (ctx) => {
  requireEnv(ctx.env, 'DRILL_DATABASE_URL', 'A drill')
  const newest = await newestOwn(ctx)
  return [
    {
      action:
        newest === undefined
          ? 'restore the newest backup (there is none yet) into the scratch database'
          : `restore backup ${newest.id} into the scratch database`,
      target: 'DRILL_DATABASE_URL',
      count: newest?.rows ?? null,
      unit: 'rows',
    },
  ]
}

/** The newest backup of the database this deployment is connected to that can be read and believed. */
async function newestOwn(ctx: Context): Promise<BackupSummary | undefined> {
  const own = await connectedDatabase(ctx)
  const backups = await listBackups(ctx, ownTrust(ctx))
  return backups.find(
    (backup) => backup.problem === undefined && backup.trusted && databaseKey({ name: backup.database, instance: backup.instance }) === own,
  )
}
