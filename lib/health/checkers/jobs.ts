import { type Checker, healthy, unhealthy } from '../checker.ts'

const namesShown = 20
/** A run that nobody took for so long: no worker comes. */
const stuckMinutes = 15

/** The last run of every job ended well, and whatever is queued is taken: pg_cron's users learn of it when it is too late. */
export const jobs: Checker = async (ctx, _check, signal) => {
  const rows = await ctx.db.probe<{ job: string; failed: boolean; stuck: boolean; queued: number }>(
    `select job,
       coalesce((array_agg(state order by finished_at desc) filter (where state in ('done', 'failed')))[1] = 'failed', false) as failed,
       coalesce(bool_or(state in ('queued', 'dispatched') and queued_at < now() - make_interval(mins => $1::int)), false) as stuck,
       (count(*) filter (where state in ('queued', 'dispatched')))::int as queued
     from caretaker.runs where queued_at > now() - interval '40 days' group by job order by job`,
    [stuckMinutes],
    signal,
  )
  const failed = rows.filter((row) => row.failed).map(({ job }) => job)
  const stuck = rows.filter((row) => row.stuck).map(({ job }) => job)
  const measures = {
    queued: rows.reduce((sum, { queued }) => sum + queued, 0),
    failed: failed.slice(0, namesShown),
    stuck: stuck.slice(0, namesShown),
  }
  if (stuck.length > 0) return unhealthy('queue_stuck', measures)
  return failed.length > 0 ? unhealthy('job_failed', measures) : healthy(measures)
}
