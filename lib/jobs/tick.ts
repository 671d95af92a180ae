import type { Context } from '../platform/context.ts'
import { emitEvent } from '../platform/outbox.ts'
import type { Job } from './job.ts'
import { claimIfIdle, ledger } from './ledger.ts'
import { slotsBetween } from './slots.ts'

export interface TickReport {
  /** Slots claimed now. */
  claimed: { job: string; slot: Date; late: boolean }[]
  /** Slots that nobody claimed in time and that the policy says to skip. */
  skipped: { job: string; slot: Date }[]
  /** Runs are waiting: a worker should be woken. */
  wake: boolean
}

/** A slot claimed later than this after its time was missed by whoever should have fired it, ms. */
const startGraceMs = 5 * 60_000

/**
 * Once a minute: claims every slot that is due and that no other firing has claimed, catches up on what was missed as
 * each job's policy says, and finds work that waits. Harmless twice at once, late, or on two hosts.
 */
export async function tick(ctx: Context, jobs: readonly Job[]): Promise<TickReport> {
  return ledger(async () => {
    const now = ctx.clock.now()
    const report: TickReport = { claimed: [], skipped: [], wake: false }
    const since = await watch(ctx, jobs.filter(isScheduled), now)
    for (const job of jobs) {
      if (isScheduled(job)) await claimDue(ctx, job, since.get(job.name) ?? now, now, report)
      if (job.pending !== undefined && (await job.pending(ctx))) await claimIfIdle(ctx, job.name)
    }
    const [open] = await ctx.db.query<{ open: boolean }>(
      `select exists (select from caretaker.runs where state in ('queued', 'dispatched', 'running')) as open`,
    )
    report.wake = open?.open === true
    return report
  })
}

type Scheduled = Job & { schedule: NonNullable<Job['schedule']> }

function isScheduled(job: Job): job is Scheduled {
  return job.schedule !== null
}

/**
 * Since when each job's slots are to be claimed. A job is watched from when it was first seen, and anew when its schedule
 * changes or when ticks went on without it: other slots were nobody's. All in one statement, so that of two ticks at
 * once the second sees either none or all of what the first has seen.
 */
async function watch(ctx: Context, jobs: readonly Scheduled[], now: Date): Promise<Map<string, Date>> {
  const rows = await ctx.db.query<{ job: string; since: Date }>(
    `with last as (select max(seen_at) as tick from caretaker.watched_jobs)
     insert into caretaker.watched_jobs as w (job, schedule, since, seen_at)
     select job, schedule, $3::timestamptz, $3::timestamptz from unnest($1::text[], $2::text[]) as wanted(job, schedule) order by job
     on conflict (job) do update set
       since = case when w.schedule = excluded.schedule and coalesce(w.seen_at > (select tick from last) - interval '10 minutes', true)
         then w.since else excluded.since end,
       seen_slot = case when w.schedule = excluded.schedule and coalesce(w.seen_at > (select tick from last) - interval '10 minutes', true)
         then w.seen_slot end,
       schedule = excluded.schedule,
       seen_at = greatest(w.seen_at, excluded.seen_at)
     returning job, coalesce(seen_slot, since) as since`,
    [jobs.map((job) => job.name), jobs.map(({ schedule }) => `${schedule.cron} ${schedule.timezone}`), now],
  )
  return new Map(rows.map((row) => [row.job, row.since]))
}

async function claimDue(ctx: Context, job: Scheduled, since: Date, now: Date, report: TickReport): Promise<void> {
  const due = slotsBetween(job.schedule, since, now)
  if (due.length === 0) return
  const late = (slot: Date) => now.getTime() - slot.getTime() > startGraceMs
  const missed = due.filter(late)
  const run = new Set(
    job.schedule.missed === 'all' ? due : job.schedule.missed === 'last' ? due.slice(-1) : due.filter((slot) => !late(slot)),
  )
  await ctx.db.transaction(async (tx) => {
    for (const slot of due) {
      const wanted = run.has(slot)
      const inserted = await tx.execute(
        `insert into caretaker.runs (job, slot, kind, state, actor, finished_at)
         values ($1, $2::timestamptz, $3, $4, $5::jsonb, case when $4 = 'skipped' then now() end) on conflict (job, slot) do nothing`,
        [
          job.name,
          slot,
          late(slot) ? 'caught-up' : 'planned',
          wanted ? 'queued' : 'skipped',
          JSON.stringify({ type: 'system', job: 'tick' }),
        ],
      )
      if (inserted === 0) continue
      if (wanted) report.claimed.push({ job: job.name, slot, late: late(slot) })
      else report.skipped.push({ job: job.name, slot })
    }
    const unclaimed = [...report.claimed, ...report.skipped].filter((entry) => entry.job === job.name && missed.includes(entry.slot))
    if (unclaimed.length > 0)
      await emitEvent(tx, 'job.missed', { job: job.name, slots: unclaimed.length, first: unclaimed[0]?.slot, policy: job.schedule.missed })
    await tx.execute(
      `update caretaker.watched_jobs set seen_slot = greatest(coalesce(seen_slot, $2::timestamptz), $2::timestamptz) where job = $1`,
      [job.name, due.at(-1)],
    )
  })
}
