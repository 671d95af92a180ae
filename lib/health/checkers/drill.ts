import { type Checker, healthy, notConfigured, unhealthy } from '../checker.ts'

/** A week, and a day. */
const overdueDays = 8

/** A backup has been restored and compared within the week. A backup that was never restored is a hope. */
export const drill: Checker = async (ctx, _check, signal) => {
  if (ctx.config.backup === undefined || ctx.config.backup.drill === false) return notConfigured
  const [row] = await ctx.db.probe<{ days: number | null; watched: number | null; failed: boolean }>(
    `select extract(epoch from now() - max(finished_at) filter (where state = 'done'))::float8 / 86400 as days,
       (select extract(epoch from now() - min(since))::float8 / 86400 from caretaker.watched_jobs where job = 'backup-verify') as watched,
       coalesce((select state = 'failed' from caretaker.runs where job = 'backup-verify' and state in ('done', 'failed') order by finished_at desc limit 1), false) as failed
     from caretaker.runs where job = 'backup-verify'`,
    [],
    signal,
  )
  const days = row?.days ?? null
  const measures = { daysSinceDrill: days === null ? 'none yet' : Math.round(days * 10) / 10 }
  if (row?.failed === true) return unhealthy('drill_failed', measures)
  // The first one is due when the job has been watched for as long.
  const age = days ?? row?.watched ?? null
  return age === null || age > overdueDays ? unhealthy('drill_overdue', measures) : healthy(measures)
}
