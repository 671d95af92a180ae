import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { JobPlan, JobVerb } from '../../platform/job.ts'
import { listBackups } from '../list-backups.ts'
import { drillBackup } from './drill-backup.ts'

/** The weekly drill of the newest backup. One that is not proven fails the job, by the name of what does not hold. */
export const backupVerifyJob: JobVerb = async (ctx) => {
  const report = await drillBackup(ctx)
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
  const newest = (await listBackups(ctx)).find((backup) => backup.problem === undefined)
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
