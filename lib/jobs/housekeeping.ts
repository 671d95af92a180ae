import { durationMs } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { sqlState } from '../platform/errors.ts'
import type { JobOutcome, JobRun, PlanLine } from '../platform/job.ts'
import { openQueue, superviseQueue } from './queue.ts'

/** Something of Caretaker's own that must not grow for ever. */
export interface Pruning {
  /** What goes: "ended runs". Also its name in the job's result. */
  name: string
  /** Where it is: "caretaker.runs". */
  target: string
  /** How many would go now. */
  count(ctx: Context): Promise<number>
  /** Deletes at most `limit` of them, in one statement; the number that went. */
  prune(ctx: Context, limit: number): Promise<number>
}

const batch = 1_000

/** Deletes, a batch at a time, what the policy's `history` no longer keeps, and lets the queue tidy itself up. */
export async function housekeepingJob(ctx: Context, run: JobRun, more: readonly Pruning[] = []): Promise<JobOutcome> {
  const pruned = { ...(run.checkpoint as Record<string, number> | null) }
  for (const { name, prune } of [...own, ...more]) {
    pruned[name] ??= 0
    for (;;) {
      if (run.shouldHandOver()) return { status: 'hand-over' }
      const rows = await prune(ctx, batch)
      pruned[name] += rows
      await run.save(pruned)
      if (rows < batch) break
    }
  }
  const { boss } = await openQueue(ctx)
  try {
    // Deletes the jobs that the queue has kept long enough, once a day.
    await superviseQueue(ctx, boss)
  } finally {
    await boss.stop({ graceful: false, close: false })
  }
  return { status: 'done', result: { rows: Object.values(pruned).reduce((sum, rows) => sum + rows, 0), pruned } }
}

/** What housekeeping would delete now. */
export async function planHousekeeping(ctx: Context, more: readonly Pruning[] = []): Promise<PlanLine[]> {
  const lines: PlanLine[] = []
  for (const { name, target, count } of [...own, ...more])
    lines.push({ action: `delete ${name}`, target, count: await count(ctx).catch(absent), unit: 'rows' })
  return lines
}

/** A database that has never seen Caretaker holds nothing of its own. */
function absent(error: unknown): number {
  if (sqlState(error) === '42P01' || sqlState(error) === '3F000') return 0
  throw error
}

/** Rows of one of Caretaker's own tables, by a condition on the row `x` that may use the durations below as $1 and $2, in seconds. */
function rowsOf(name: string, table: string, where: string): Pruning {
  const params = (ctx: Context) => [
    durationMs(ctx.config.history?.keep ?? '90 days') / 1_000,
    durationMs(ctx.config.history?.events ?? '30 days') / 1_000,
  ]
  const old = `with kept(runs, events) as (
    select clock_timestamp() - make_interval(secs => $1::float8), clock_timestamp() - make_interval(secs => $2::float8))`
  return {
    name,
    target: table,
    async count(ctx) {
      const [row] = await ctx.db.query<{ count: number }>(
        `${old} select count(*)::int as count from ${table} x, kept where ${where}`,
        params(ctx),
      )
      return row?.count ?? 0
    },
    prune: (ctx, limit) =>
      // Two of these at once take different rows.
      ctx.db.execute(
        `${old} delete from ${table} where ctid = any (array(
           select x.ctid from ${table} x, kept where ${where} limit $3::int for update of x skip locked))`,
        [...params(ctx), limit],
      ),
  }
}

const own: readonly Pruning[] = [
  rowsOf(
    'ended runs',
    'caretaker.runs',
    // The newest of each job says when it last ran, and how far its slots have been seen to.
    `x.finished_at < kept.runs and x.state in ('done', 'failed', 'skipped')
     and x.slot < (select max(newest.slot) from caretaker.runs newest where newest.job = x.job)`,
  ),
  rowsOf('delivered events', 'caretaker.outbox', 'x.delivered_at < kept.events'),
  rowsOf('events nobody came for', 'caretaker.outbox', 'x.delivered_at is null and x.at < kept.runs'),
  rowsOf('expired rate limits', 'caretaker.rate_limits', 'x.expires_at < clock_timestamp()'),
  rowsOf('watches of deployments that are gone', 'caretaker.watched_jobs', 'x.seen_at < kept.runs'),
]
