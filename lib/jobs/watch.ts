import { durationMs } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import type { Row, Transaction } from '../platform/db.ts'
import { claimVerdicts, judge, type Verdict } from './due.ts'
import type { ScheduledJob } from './job.ts'
import { ledger } from './ledger.ts'
import { currentSlot, slotsBetween, type Timing } from './slots.ts'
import { deploymentName, planningTime } from './time.ts'

/** A row of `caretaker.watched_jobs`: how far a deployment has seen to a job's slots. */
interface Watch extends Row {
  deployment: string
  job: string
  /** The expression and the zone, as they were. */
  schedule: string
  /** Slots before are nobody's. */
  since: Date
  /** Every slot up to this one has been seen to. */
  seen_slot: Date | null
  /** When a tick of the deployment last had the job in its policy. */
  seen_at: Date | null
}

const watchColumns = 'deployment, job, schedule, since, seen_slot, seen_at'

/** A job that the deployment's ticks have gone on without for so long was out of its policy meanwhile, ms. */
const outOfPolicyMs = 10 * 60_000
/** A deployment takes over from another with the same schedule where that one was heard of within this time, ms. */
const takeOverMs = 86_400_000
/** Slots claimed by one tick for one job; what is more waits for the next tick. */
const mostSlots = 1_000

/** What this deployment's earlier ticks and the others' have seen. */
export interface Watches {
  readonly mine: ReadonlyMap<string, Watch>
  readonly others: readonly Watch[]
  /** When this deployment ticked last; null at its first tick. */
  readonly lastTick: Date | null
}

export async function readWatches(ctx: Context, now: Date): Promise<Watches> {
  const rows = await ctx.db.query<Watch>(
    `select ${watchColumns} from caretaker.watched_jobs where deployment = $1 or seen_at > $2::timestamptz`,
    [deploymentName(ctx), new Date(now.getTime() - takeOverMs)],
  )
  const mine = rows.filter((row) => row.deployment === deploymentName(ctx))
  const ticks = mine.flatMap((row) => row.seen_at?.getTime() ?? [])
  return {
    mine: new Map(mine.map((row) => [row.job, row])),
    others: rows.filter((row) => row.deployment !== deploymentName(ctx)),
    lastTick: ticks.length === 0 ? null : new Date(Math.max(...ticks)),
  }
}

/** Whether this deployment has not ticked for ten minutes: its host has no clock that calls every minute. */
export async function needsTick(ctx: Context): Promise<boolean> {
  return ledger(async () => {
    const now = await planningTime(ctx)
    const { lastTick } = await readWatches(ctx, now)
    return lastTick === null || now.getTime() - lastTick.getTime() > outOfPolicyMs
  })
}

/** Notes that this deployment's policy has these jobs now. The failing ones too: they are not out of the policy. */
export async function markSeen(ctx: Context, jobs: readonly ScheduledJob[], now: Date): Promise<void> {
  await ctx.db.execute(
    `update caretaker.watched_jobs set seen_at = greatest(seen_at, $3::timestamptz) where deployment = $1 and job = any ($2::text[])`,
    [deploymentName(ctx), jobs.map((job) => job.name), now],
  )
}

/**
 * Sees to every slot of a job that has become due since a tick of this deployment last did: claimed, or skipped as the policy
 * says, unless somebody else has claimed it. Where the schedule has changed, the slots of the old one count up to now: a
 * deploy loses none. Two ticks at once wait for each other at the job's row; the second finds nothing to do.
 */
export async function seeToDue(ctx: Context, job: ScheduledJob, watches: Watches, now: Date): Promise<Verdict[]> {
  const text = scheduleText(job.schedule)
  const before = watches.mine.get(job.name)
  if (before !== undefined && before.schedule === text && !wasOut(before, watches.lastTick)) {
    // Nearly always there is nothing, and a transaction for each job and minute is much.
    const newest = currentSlot(job.schedule, now)
    if (newest === null || newest <= (before.seen_slot ?? before.since)) return []
  }
  return ctx.db.transaction(async (tx) => {
    const row = await lockWatch(tx, ctx, job, text, watches, now)
    const claimed: Verdict[] = []
    let after = row.seen_slot ?? row.since
    if (wasOut(row, watches.lastTick)) after = now
    const horizon = new Date(now.getTime() - lookBackMs(ctx))
    if (after < horizon) after = horizon
    if (row.schedule !== text) {
      const old = parseSchedule(row.schedule)
      for (let from: Date | null = after; old !== null && from !== null; ) {
        const part = await claimBetween(tx, ctx, job, old, from, now)
        claimed.push(...part.claimed)
        from = part.until
      }
      after = now
    }
    const { claimed: own, until } = await claimBetween(tx, ctx, job, job.schedule, after, now)
    claimed.push(...own)
    await tx.execute(
      `update caretaker.watched_jobs set schedule = $3, since = $4::timestamptz, seen_slot = $5::timestamptz,
         seen_at = greatest(seen_at, $6::timestamptz) where deployment = $1 and job = $2`,
      [row.deployment, job.name, text, after === now ? now : row.since, until ?? (after === now ? null : row.seen_slot), now],
    )
    return claimed
  })
}

/** The watch of a job, locked; a new one goes on where another deployment with the same schedule is. */
async function lockWatch(tx: Transaction, ctx: Context, job: ScheduledJob, text: string, watches: Watches, now: Date): Promise<Watch> {
  const key = [deploymentName(ctx), job.name]
  if (!watches.mine.has(job.name)) {
    const [sibling] = watches.others
      .filter((other) => other.job === job.name && other.schedule === text)
      .sort((a, b) => (b.seen_at?.getTime() ?? 0) - (a.seen_at?.getTime() ?? 0))
    await tx.execute(
      `insert into caretaker.watched_jobs (deployment, job, schedule, since, seen_slot, seen_at)
       values ($1, $2, $3, $4::timestamptz, $5::timestamptz, $6::timestamptz) on conflict do nothing`,
      [...key, text, sibling?.since ?? now, sibling?.seen_slot ?? null, now],
    )
  }
  const [row] = await tx.query<Watch>(
    `select ${watchColumns} from caretaker.watched_jobs where deployment = $1 and job = $2 for update`,
    key,
  )
  // Removed in this very moment: watched from now on.
  return row ?? { deployment: deploymentName(ctx), job: job.name, schedule: text, since: now, seen_slot: null, seen_at: now }
}

/** Claims what the job's policy says of the slots of `timing` in (`after`, `now`], the newest of them in any case. */
async function claimBetween(
  tx: Transaction,
  ctx: Context,
  job: ScheduledJob,
  timing: Timing,
  after: Date,
  now: Date,
): Promise<{ claimed: Verdict[]; until: Date | null }> {
  const newest = currentSlot(timing, now)
  if (newest === null || newest <= after) return { claimed: [], until: null }
  const due = slotsBetween(timing, after, now, mostSlots)
  const until = due.at(-1) ?? null
  if (until !== null && until < newest) due.push(newest)
  return { claimed: await claimVerdicts(tx, ctx, job, judge(job.schedule, due, newest, now)), until }
}

/** Whether slots up to `slot` are owed by this deployment: false for those from before the job was watched. */
export async function isOwed(ctx: Context, job: ScheduledJob, slot: Date): Promise<boolean> {
  const [row] = await ctx.db.query<Watch>(`select ${watchColumns} from caretaker.watched_jobs where deployment = $1 and job = $2`, [
    deploymentName(ctx),
    job.name,
  ])
  return row !== undefined && row.schedule === scheduleText(job.schedule) && slot > row.since
}

function wasOut(row: Watch, lastTick: Date | null): boolean {
  return row.seen_at !== null && lastTick !== null && lastTick.getTime() - row.seen_at.getTime() > outOfPolicyMs
}

/** As far back as runs are kept, less a day: a slot whose run was pruned must not look as if nobody had claimed it. */
function lookBackMs(ctx: Context): number {
  return durationMs(ctx.config.history?.keep ?? '90 days') - 86_400_000
}

function scheduleText({ cron, timezone }: Timing): string {
  return `${cron} ${timezone}`
}

/** Null for one that was written by hand into the table, or whose zone is gone. */
function parseSchedule(text: string): Timing | null {
  const space = text.lastIndexOf(' ')
  const timing = { cron: text.slice(0, space), timezone: text.slice(space + 1) }
  try {
    currentSlot(timing, new Date(0))
    return timing
  } catch {
    return null
  }
}
