import { type Checker, healthy, notConfigured, unhealthy } from '../checker.ts'

/** A day, and two hours for a host that fires late and a backup that takes its time. */
const overdueHours = 26

/** The last full backup ended well, not long ago. What the database remembers; `backup list` reads the store itself. */
export const backup: Checker = async (ctx, _check, signal) => {
  if (ctx.config.backup === undefined) return notConfigured
  const [row] = await ctx.db.probe<{ hours: number | null; watched: number | null; failed: boolean }>(
    `select extract(epoch from now() - max(finished_at) filter (where state = 'done'))::float8 / 3600 as hours,
       (select extract(epoch from now() - min(since))::float8 / 3600 from caretaker.watched_jobs where job = 'backup') as watched,
       coalesce((select state = 'failed' from caretaker.runs where job = 'backup' and state in ('done', 'failed') order by finished_at desc limit 1), false) as failed
     from caretaker.runs where job = 'backup'`,
    [],
    signal,
  )
  const hours = row?.hours ?? null
  const measures = { hoursSinceBackup: hours === null ? 'none yet' : Math.round(hours * 10) / 10 }
  if (row?.failed === true) return unhealthy('backup_failed', measures)
  // The first one is due when the job has been watched for as long.
  const age = hours ?? row?.watched ?? null
  return age === null || age > overdueHours ? unhealthy('backup_overdue', measures) : healthy(measures)
}
