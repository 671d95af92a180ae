import type { Context } from '../platform/context.ts'
import type { Row, Transaction } from '../platform/db.ts'
import { emitEvent } from '../platform/outbox.ts'
import { tellMissed } from './due.ts'
import type { Job } from './job.ts'
import type { RunKind, RunState } from './ledger.ts'
import { defaultStartGraceMs, longestRunGraceMs, runGraceMs } from './slots.ts'

/** A run for which something is wrong that has not been said yet. */
export interface Lapse {
  job: string
  slot: Date
  run: string
}

export interface Lapses {
  /** Skipped because they could not start in time. */
  superseded: Lapse[]
  /** Still waiting after the start grace: no worker comes, or the run before it does not end. */
  overdue: Lapse[]
  /** At work for longer than the run grace. */
  overran: Lapse[]
  /** Begun, and nobody has worked on it for ten minutes. */
  abandoned: Lapse[]
}

/** Longer than a retry waits (five minutes at most) and than a worker stays away after a hand-over, ms. */
const abandonedMs = 600_000

/** A run that has not ended. How long things have taken is by the database's clock, ms. */
interface OpenRun extends Row {
  id: string
  job: string
  slot: Date
  kind: RunKind
  state: RunState
  attempt: number
  waitedMs: number
  workedMs: number | null
  silentMs: number
  /** What has been said of it. */
  overdue: boolean
  overran: boolean
  abandoned: boolean
}

/**
 * What is wrong with runs that were claimed: each is said once, with an event in the transaction that notes it. Runs of jobs
 * that this policy does not know are left to the deployment that does.
 * @returns the lapses found now, and whether any run is open
 */
export async function findLapses(ctx: Context, jobs: readonly Job[]): Promise<Lapses & { open: boolean }> {
  const open = await ctx.db.query<OpenRun>(
    `select id::text as id, job, slot, kind, state, attempt, overdue_at is not null as overdue, overran_at is not null as overran,
       abandoned_at is not null as abandoned, (extract(epoch from now - queued_at) * 1000)::float8 as "waitedMs",
       (extract(epoch from now - started_at) * 1000)::float8 as "workedMs",
       (extract(epoch from now - coalesce(heartbeat_at, queued_at)) * 1000)::float8 as "silentMs"
     from caretaker.runs, clock_timestamp() as now where state in ('queued', 'dispatched', 'running')`,
  )
  const byName = new Map(jobs.map((job) => [job.name, job]))
  const known = open.flatMap((run) => {
    const job = byName.get(run.job)
    return job === undefined ? [] : [{ run, job }]
  })
  const late = known.filter(({ run, job }) => run.attempt === 0 && run.waitedMs > (job.schedule?.startGraceMs ?? defaultStartGraceMs))
  const superseded = await skipSuperseded(ctx, late)
  const skipped = new Set(superseded.map(({ run }) => run))
  const waiting = late.filter(({ run }) => !run.overdue && !skipped.has(run.id))
  const busy = new Set(open.flatMap(({ job, state }) => (state === 'running' ? [job] : [])))
  const long = known.filter(({ run, job }) => !run.overran && run.workedMs !== null && run.workedMs > mayTakeMs(job, run.slot))
  const left = known.filter(({ run }) => run.attempt > 0 && !run.abandoned && run.silentMs > abandonedMs)
  return {
    open: open.length > 0,
    superseded,
    overdue: await tell(ctx, waiting, 'overdue_at', 'attempt = 0', 'job.overdue', ({ run }) => ({
      reason: busy.has(run.job) ? 'the run before it is still at work' : 'no worker has taken it',
    })),
    overran: await tell(ctx, long, 'overran_at', 'true', 'job.overran', ({ run }) => ({
      seconds: Math.floor((run.workedMs ?? 0) / 1_000),
    })),
    abandoned: await tell(ctx, left, 'abandoned_at', stillSilent, 'job.abandoned', () => ({})),
  }
}

const stillSilent = `coalesce(heartbeat_at, queued_at) < clock_timestamp() - make_interval(secs => ${abandonedMs / 1_000})`

interface Found {
  run: OpenRun
  job: Job
}

function mayTakeMs({ schedule }: Job, slot: Date): number {
  return schedule === null ? longestRunGraceMs : runGraceMs(schedule, slot)
}

/**
 * A slot that was claimed in time and could not start in time is missed as well: no worker came, or the run before it took
 * too long. Where the policy lets only the last one run, the others give way to it.
 */
async function skipSuperseded(ctx: Context, late: readonly Found[]): Promise<Lapse[]> {
  const candidates = late.filter(({ run, job }) => run.kind !== 'manual' && job.schedule !== null && job.schedule.missed !== 'all')
  if (candidates.length === 0) return []
  return ctx.db.transaction(async (tx) => {
    // A worker that takes the run at this moment waits for its row, and then finds that there is nothing to take.
    const rows = await tx.query<Lapse & Row>(
      `update caretaker.runs r set state = 'skipped', finished_at = clock_timestamp(), result = '{"skipped":"superseded"}'
       from unnest($1::uuid[], $2::text[]) as c(id, missed)
       where r.id = c.id and r.state in ('queued', 'dispatched') and r.attempt = 0
         and (c.missed = 'skip' or exists (
           select from caretaker.runs newer where newer.job = r.job and newer.slot > r.slot and newer.kind <> 'manual'))
       returning r.job, r.slot, r.id::text as run`,
      [candidates.map(({ run }) => run.id), candidates.map(({ job }) => job.schedule?.missed)],
    )
    for (const job of new Set(candidates.map((found) => found.job))) {
      const slots = rows.filter((row) => row.job === job.name).sort((a, b) => a.slot.getTime() - b.slot.getTime())
      const skipped = slots.map(({ slot }) => ({ slot, state: 'skipped' }))
      if (job.schedule !== null) await tellMissed(tx, job.name, job.schedule, skipped)
    }
    return rows
  })
}

/** Notes in `column` what is said now, if it is `still` so, with one event a job, of its oldest run; two ticks at once say it once. */
async function tell(
  ctx: Context,
  found: readonly Found[],
  column: 'overdue_at' | 'overran_at' | 'abandoned_at',
  still: string,
  topic: string,
  detail: (found: Found) => Record<string, unknown>,
): Promise<Lapse[]> {
  if (found.length === 0) return []
  return ctx.db.transaction(async (tx: Transaction) => {
    const rows = await tx.query<{ id: string }>(
      `update caretaker.runs set ${column} = clock_timestamp()
       where id = any ($1::uuid[]) and state in ('queued', 'dispatched', 'running') and ${column} is null and ${still} returning id::text as id`,
      [found.map(({ run }) => run.id)],
    )
    const noted = new Set(rows.map(({ id }) => id))
    const said = found.filter(({ run }) => noted.has(run.id)).sort((a, b) => a.run.slot.getTime() - b.run.slot.getTime())
    // A queue of one job's runs is one thing to hear of, not one for each run in it.
    for (const [, [first, ...others]] of Map.groupBy(said, ({ run }) => run.job))
      if (first !== undefined)
        await emitEvent(tx, topic, { ...lapseOf(first), ...detail(first), ...(others.length === 0 ? {} : { runs: others.length + 1 }) })
    return said.map(lapseOf)
  })
}

function lapseOf({ run }: Found): Lapse {
  return { job: run.job, slot: run.slot, run: run.id }
}
