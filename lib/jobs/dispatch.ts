import type { Context } from '../platform/context.ts'
import type { Queryable, Row } from '../platform/db.ts'
import type { Job } from './job.ts'
import { type Run, runColumns } from './ledger.ts'
import type { PgBoss } from './pg-boss.ts'
import { bossDatabase, queueName } from './queue.ts'
import { deploymentName } from './time.ts'

/** A deployment that has not ticked for so long no longer works off its runs, minutes. */
const goneMinutes = 15

/**
 * Hands queued runs to the queue, as many of a job as may be at work beside each other. A run that was begun keeps its
 * place through hand-overs and retries, so that no other of its job slips in between. Runs of jobs that only another
 * deployment knows are left to that one.
 * @returns the queue groups of such runs, which this worker must not fetch
 */
export async function dispatch(ctx: Context, boss: PgBoss, jobs: readonly Job[]): Promise<string[]> {
  const foreign = await foreignJobs(ctx, jobs)
  const [queued] = await ctx.db.query(`select from caretaker.runs where state = 'queued' and job <> all ($1::text[]) limit 1`, [foreign])
  if (queued !== undefined) await dispatchQueued(ctx, boss, jobs, foreign)
  return foreign.flatMap((job) => Array.from({ length: 10 }, (_, lane) => groupOf(job, lane)))
}

async function dispatchQueued(ctx: Context, boss: PgBoss, jobs: readonly Job[], foreign: readonly string[]): Promise<void> {
  await ctx.db.transaction(async (tx) => {
    // Two workers would find the same place free.
    await tx.query(`select pg_advisory_xact_lock(hashtextextended('caretaker:dispatch', 0))`)
    const taken = await takenLanes(tx)
    const queued = await tx.query<Run & { lane: number | null }>(
      `select ${runColumns}, lane from (
         select *, row_number() over (partition by job order by (attempt > 0) desc, queued_at, slot) as place
         from caretaker.runs where state = 'queued' and job <> all ($1::text[])
       ) waiting where place <= 10 order by queued_at, slot`,
      [foreign],
    )
    for (const run of queued.sort((a, b) => Number(b.attempt > 0) - Number(a.attempt > 0))) {
      const lanes = taken.get(run.job) ?? new Set<number>()
      const most = 1 + (jobs.find(({ name }) => name === run.job)?.schedule?.overlap ?? 0)
      const lane = run.attempt > 0 ? (run.lane ?? 0) : freeLane(lanes, most)
      if (lane === null) continue
      taken.set(run.job, lanes.add(lane))
      const marked = await tx.execute(
        `update caretaker.runs set state = 'dispatched', lane = $3::int, heartbeat_at = now() where id = $1::uuid and dispatch = $2::int and state = 'queued'`,
        [run.id, run.dispatch, lane],
      )
      // A tick has skipped it in this moment.
      if (marked === 0) continue
      const group = groupOf(run.job, lane)
      await boss.send(
        queueName,
        { runId: run.id, dispatch: run.dispatch },
        { id: dispatchId(run), singletonKey: group, group: { id: group }, db: bossDatabase(tx) },
      )
    }
  })
}

/** The places in use, by job: of what is in the queue or at work, and of what was begun and waits for its next taking. */
async function takenLanes(db: Queryable): Promise<Map<string, Set<number>>> {
  const rows = await db.query<{ job: string; lane: number } & Row>(
    `select job, coalesce(lane, 0) as lane from caretaker.runs
     where state in ('dispatched', 'running') or (state = 'queued' and attempt > 0)`,
  )
  const taken = new Map<string, Set<number>>()
  for (const { job, lane } of rows) taken.set(job, (taken.get(job) ?? new Set()).add(lane))
  return taken
}

function freeLane(taken: ReadonlySet<number>, most: number): number | null {
  if (taken.size >= most) return null
  for (let lane = 0; lane < most; lane++) if (!taken.has(lane)) return lane
  return null
}

/** Jobs with open runs that this policy does not know and that another deployment, alive, has asked for. */
async function foreignJobs(ctx: Context, jobs: readonly Job[]): Promise<string[]> {
  const rows = await ctx.db.query<{ job: string } & Row>(
    `select distinct r.job from caretaker.runs r
     where r.state in ('queued', 'dispatched', 'running') and r.job <> all ($1::text[]) and r.deployment <> $2
       and exists (select from caretaker.watched_jobs w where w.deployment = r.deployment
         and w.seen_at > clock_timestamp() - make_interval(mins => $3::int))`,
    [jobs.map(({ name }) => name), deploymentName(ctx), goneMinutes],
  )
  return rows.map(({ job }) => job)
}

/** Whether a run is another deployment's to work off. */
export async function isForeign(ctx: Context, jobs: readonly Job[], run: Pick<Run, 'job'>): Promise<boolean> {
  return (await foreignJobs(ctx, jobs)).includes(run.job)
}

/** What the queue lets one run be at work of at a time. */
function groupOf(job: string, lane: number): string {
  return lane === 0 ? job : `${job}#${lane}`
}

/** The queue job's id: the run's own with the dispatch number folded into its last group, so that a second send is none. */
export function dispatchId(run: Pick<Run, 'id' | 'dispatch'>): string {
  const tail = (BigInt(`0x${run.id.slice(24)}`) ^ BigInt(run.dispatch)).toString(16).padStart(12, '0')
  return `${run.id.slice(0, 24)}${tail}`
}
