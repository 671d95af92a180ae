import type { Context } from '../platform/context.ts'
import type { Row, Transaction } from '../platform/db.ts'
import { emitEvent } from '../platform/outbox.ts'
import { tellMissed } from './due.ts'
import { isScheduled, type Job } from './job.ts'
import { defaultStartGraceMs, longestRunGraceMs, runGraceMs } from './slots.ts'

/** A run for which something is wrong that has not been said yet. */
export interface Lapse {
  job: string
  slot: Date
  run: string
}

export interface Lapses {
  /** Still waiting after the start grace: no worker comes, or the run before it does not end. */
  overdue: Lapse[]
  /** Skipped because they could not start in time. */
  superseded: Lapse[]
  /** At work for longer than the run grace. */
  overran: Lapse[]
  /** Begun, and nobody has worked on it for ten minutes. */
  abandoned: Lapse[]
}

/** Longer than a retry waits (five minutes at most) and than a worker stays away after a hand-over, seconds. */
const abandonedSeconds = 600

/**
 * What is wrong with runs that were claimed: each is said once, with an event in the transaction that notes it. All by the
 * database's clock. Runs of jobs that this policy does not know are left to the deployment that does.
 */
export async function findLapses(ctx: Context, jobs: readonly Job[]): Promise<Lapses> {
  const superseded = await skipSuperseded(ctx, jobs)
  return {
    superseded,
    overdue: await findOverdue(ctx, jobs),
    overran: await findOverrun(ctx, jobs),
    abandoned: await findAbandoned(ctx, jobs),
  }
}

const graceOf = (job: Job) => (job.schedule?.startGraceMs ?? defaultStartGraceMs) / 1_000

/**
 * A slot that was claimed in time and could not start in time is missed as well: no worker came, or the run before it took
 * too long. Where the policy lets only the last one run, the others give way to it.
 */
async function skipSuperseded(ctx: Context, jobs: readonly Job[]): Promise<Lapse[]> {
  const waiting = jobs.filter(isScheduled).filter(({ schedule }) => schedule.missed !== 'all')
  return ctx.db.transaction(async (tx) => {
    // A worker that takes the run at this moment waits for its row, and then finds that there is nothing to take.
    const rows = await tx.query<Lapse & Row>(
      `update caretaker.runs r set state = 'skipped', finished_at = clock_timestamp(), result = '{"skipped":"superseded"}'
       from unnest($1::text[], $2::float8[], $3::text[]) as j(name, grace, missed)
       where r.job = j.name and r.state in ('queued', 'dispatched') and r.attempt = 0 and r.kind <> 'manual'
         and r.queued_at < clock_timestamp() - make_interval(secs => j.grace)
         and (j.missed = 'skip' or exists (
           select from caretaker.runs newer where newer.job = r.job and newer.slot > r.slot and newer.kind <> 'manual'))
       returning r.job, r.slot, r.id::text as run`,
      [waiting.map(({ name }) => name), waiting.map(graceOf), waiting.map(({ schedule }) => schedule.missed)],
    )
    for (const job of waiting) {
      const slots = rows.filter((row) => row.job === job.name).sort((a, b) => a.slot.getTime() - b.slot.getTime())
      await tellMissed(
        tx,
        job.name,
        job.schedule,
        slots.map(({ slot }) => ({ slot, state: 'skipped' })),
      )
    }
    return rows
  })
}

async function findOverdue(ctx: Context, jobs: readonly Job[]): Promise<Lapse[]> {
  return ctx.db.transaction(async (tx) => {
    const rows = await tx.query<Lapse & { busy: boolean } & Row>(
      `update caretaker.runs r set overdue_at = clock_timestamp()
       from unnest($1::text[], $2::float8[]) as j(name, grace)
       where r.job = j.name and r.state in ('queued', 'dispatched') and r.attempt = 0 and r.overdue_at is null
         and r.queued_at < clock_timestamp() - make_interval(secs => j.grace)
       returning r.job, r.slot, r.id::text as run,
         exists (select from caretaker.runs busy where busy.job = r.job and busy.state = 'running') as busy`,
      [jobs.map(({ name }) => name), jobs.map(graceOf)],
    )
    await tell(
      tx,
      'job.overdue',
      rows.map(({ busy, ...lapse }) => ({ ...lapse, reason: busy ? 'the run before it is still at work' : 'no worker has taken it' })),
    )
    return rows.map(({ job, slot, run }) => ({ job, slot, run }))
  })
}

async function findOverrun(ctx: Context, jobs: readonly Job[]): Promise<Lapse[]> {
  const open = await ctx.db.query<Lapse & { ms: number } & Row>(
    `select job, slot, id::text as run, extract(epoch from clock_timestamp() - started_at)::float8 * 1000 as ms from caretaker.runs
     where state in ('queued', 'dispatched', 'running') and started_at is not null and overran_at is null and job = any ($1::text[])`,
    [jobs.map(({ name }) => name)],
  )
  const over = open.filter(({ job, slot, ms }) => {
    const schedule = jobs.find(({ name }) => name === job)?.schedule
    return ms > (schedule === null || schedule === undefined ? longestRunGraceMs : runGraceMs(schedule, slot))
  })
  if (over.length === 0) return []
  return ctx.db.transaction(async (tx) => {
    const rows = await tx.query<Lapse & { seconds: number } & Row>(
      `update caretaker.runs set overran_at = clock_timestamp()
       where id = any ($1::uuid[]) and state in ('queued', 'dispatched', 'running') and overran_at is null
       returning job, slot, id::text as run, floor(extract(epoch from clock_timestamp() - started_at))::float8 as seconds`,
      [over.map(({ run }) => run)],
    )
    await tell(tx, 'job.overran', rows)
    return rows.map(({ job, slot, run }) => ({ job, slot, run }))
  })
}

async function findAbandoned(ctx: Context, jobs: readonly Job[]): Promise<Lapse[]> {
  return ctx.db.transaction(async (tx) => {
    const rows = await tx.query<Lapse & Row>(
      `update caretaker.runs set abandoned_at = clock_timestamp()
       where state in ('queued', 'dispatched', 'running') and attempt > 0 and abandoned_at is null and job = any ($1::text[])
         and coalesce(heartbeat_at, queued_at) < clock_timestamp() - make_interval(secs => $2::int)
       returning job, slot, id::text as run`,
      [jobs.map(({ name }) => name), abandonedSeconds],
    )
    await tell(tx, 'job.abandoned', rows)
    return rows
  })
}

async function tell(tx: Transaction, topic: string, lapses: readonly Lapse[]): Promise<void> {
  for (const lapse of lapses) await emitEvent(tx, topic, { ...lapse })
}
