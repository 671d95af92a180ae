import type { Context } from '../platform/context.ts'
import { remainingMs } from '../platform/context.ts'
import { CaretakerError, hasCode } from '../platform/errors.ts'
import type { JobRun } from '../platform/job.ts'
import { openCheckIn } from './check-in.ts'
import { dispatch, isForeign } from './dispatch.ts'
import type { Job } from './job.ts'
import { ledger, type Run, runColumns } from './ledger.ts'
import type { JobWithMetadata, PgBoss } from './pg-boss.ts'
import { openQueue, type Queue, queueName, retryLimit } from './queue.ts'
import { type Ending, endingOf, fail, isFinal, type Lease, publicError, settle } from './settle.ts'
import { supervise } from './supervise.ts'

export interface WorkReport {
  /** Runs brought to an end, failed ones included. */
  finished: number
  failed: number
  handedOver: number
  /** Work is left that another invocation should take. */
  more: boolean
}

export interface WorkOptions {
  /** Stop as soon as this run has ended, whoever ended it. */
  until?: string
  /** Asks another worker to come. Default: nobody is asked. */
  wake?: (ctx: Context) => Promise<void>
  onRun?: (run: Run, event: 'started' | 'done' | 'failed' | 'handed over') => void
}

/** Time kept back for the last save and the hand-over, ms. */
const handOverMarginMs = 5_000

/**
 * Works until nothing is queued or the deadline is near. Any number of workers may run at once: pg-boss hands each job
 * to one, and the attempt number in the ledger fences off a worker that was presumed dead and is not.
 */
export async function work(ctx: Context, jobs: readonly Job[], options: WorkOptions = {}): Promise<WorkReport> {
  return ledger(async () => {
    const queue = await openQueue(ctx)
    const { boss, heartbeatSeconds } = queue
    const report: WorkReport = { finished: 0, failed: 0, handedOver: 0, more: false }
    const firstSeen = new Map<string, Sighting>()
    try {
      for (;;) {
        if (ctx.signal.aborted || remainingMs(ctx) < 2 * handOverMarginMs) {
          report.more = await hasOpenRuns(ctx)
          return report
        }
        if (options.until !== undefined && (await hasEnded(ctx, options.until))) return report
        const others = await dispatch(ctx, boss, jobs)
        const [job] = await boss.fetch<{ runId: string; dispatch: number }>(queueName, {
          includeMetadata: true,
          // A run whose job is busy must not keep the runs of other jobs behind it waiting.
          groupConcurrency: 1,
          ignoreGroups: others,
        })
        if (job !== undefined) {
          await take(ctx, queue, jobs, job, report, options)
          continue
        }
        if (options.until === undefined && (await assist(ctx, jobs, options))) continue
        if (options.until === undefined && !(await mayHaveDied(ctx, firstSeen, 6 * heartbeatSeconds * 1_000))) return report
        // Somebody else's run is open: wait for its heartbeat to come or to lapse, then look again.
        await pause(ctx.signal, heartbeatSeconds * (options.until === undefined ? 100 : 25))
        for (const run of await supervise(ctx, queue)) {
          report.finished++
          report.failed++
          await openCheckIn(ctx, findKnown(jobs, run), run).end('error')
        }
      }
    } finally {
      await boss.stop({ graceful: false, close: false })
    }
  })
}

/** Nothing is queued: a run that another worker has open may have a share to give. */
async function assist(ctx: Context, jobs: readonly Job[], options: WorkOptions): Promise<boolean> {
  for (const job of jobs) {
    if (job.assist === undefined) continue
    const log = ctx.log.child({ job: job.name, assisting: true })
    try {
      if (await job.assist({ ...ctx, log, actor: { type: 'system', job: job.name } }, async () => options.wake?.(ctx))) return true
    } catch (error) {
      // The run is another worker's to fail or to end; this one has only lost its share.
      log.warn({ err: error }, 'assisting failed')
    }
  }
  return false
}

async function take(
  ctx: Context,
  { boss, heartbeatSeconds }: Queue,
  jobs: readonly Job[],
  taken: JobWithMetadata<{ runId: string; dispatch: number }>,
  report: WorkReport,
  options: WorkOptions,
): Promise<void> {
  const [run] = await ctx.db.query<Run>(
    `update caretaker.runs
     set state = 'running', attempt = attempt + 1, started_at = coalesce(started_at, now()), heartbeat_at = now()
     where id = $1::uuid and dispatch = $2::int and state in ('dispatched', 'running') returning ${runColumns}`,
    [taken.data.runId, taken.data.dispatch],
  )
  const lease = { id: taken.id, retryCount: taken.retryCount }
  if (run === undefined) {
    // The run ended, or was dispatched again, while this job lay in the queue.
    await boss.complete(queueName, lease)
    return
  }
  const job = findKnown(jobs, run)
  const log = ctx.log.child({ job: run.job, slot: run.slot, run: run.id, attempt: run.attempt })
  const checkIn = openCheckIn({ ...ctx, log }, job, run)
  const lost = new AbortController()
  const beat = setInterval(
    () => {
      void heartbeat(ctx, boss, run, lease).then(
        (alive) => alive || lost.abort(new CaretakerError('lease_lost', `Another worker has taken over ${run.job}.`)),
        (error: unknown) => log.warn({ err: error }, 'heartbeat failed'),
      )
    },
    (heartbeatSeconds * 1_000) / 3,
  )
  options.onRun?.(run, 'started')
  /** Ends the taking; what is told to others is told after the transaction. */
  const conclude = async (ending: Ending) => {
    const state = await settle(ctx, boss, run, lease, ending)
    clearInterval(beat)
    if (state === 'queued') report.handedOver++
    else report.finished++
    if (state === 'failed') report.failed++
    if (state !== 'queued') await checkIn.end(state === 'done' ? 'ok' : 'error')
    const result = ending.status === 'done' ? ending.result : null
    options.onRun?.({ ...run, result }, state === 'queued' ? 'handed over' : state)
  }
  try {
    if (job === undefined) {
      // Fetched in the moment in which its own deployment asked for it.
      if (await isForeign(ctx, jobs, run)) return await conclude({ status: 'interrupted' })
      throw new CaretakerError('job_unknown', `The policy has no job "${run.job}" any more.`)
    }
    checkIn.begin()
    const context: Context = { ...ctx, log, actor: { type: 'system', job: run.job }, signal: AbortSignal.any([ctx.signal, lost.signal]) }
    const taking = handle(context, run, options)
    const outcome = await job.run(context, taking)
    lost.signal.throwIfAborted()
    await conclude(endingOf(outcome, run.checkpoint, taking.checkpoint))
  } catch (error) {
    if (hasCode(error, 'lease_lost')) {
      log.warn('lost the lease; another worker has this run')
      return
    }
    if (ctx.signal.aborted) {
      // It was stopped, it did not fail: no attempt is used up, and the next worker goes on from the checkpoint.
      log.info({ err: error }, 'run interrupted')
      await conclude({ status: 'interrupted' }).catch((cause: unknown) => {
        if (!hasCode(cause, 'lease_lost')) throw cause
      })
      return
    }
    log.error({ err: error }, 'run failed')
    ctx.sentry.capture(error, { requestId: run.id, tags: { job: run.job } })
    const described = publicError(error)
    const last = taken.retryCount >= retryLimit || isFinal(error)
    const mine = await fail(ctx, boss, run, lease, described, last)
    if (last && mine) {
      report.finished++
      report.failed++
      await checkIn.end('error')
    }
    options.onRun?.({ ...run, error: described }, 'failed')
  } finally {
    clearInterval(beat)
  }
}

function findKnown(jobs: readonly Job[], run: Pick<Run, 'job'>): Job | undefined {
  return jobs.find(({ name }) => name === run.job)
}

function handle(ctx: Context, run: Run, options: WorkOptions): JobRun {
  let checkpoint = run.checkpoint
  return {
    id: run.id,
    job: run.job,
    slot: run.slot,
    attempt: run.attempt,
    params: run.params,
    get checkpoint() {
      return checkpoint
    },
    async save(next, tx) {
      const saved = await (tx ?? ctx.db).execute(
        `update caretaker.runs set checkpoint = $3::jsonb, heartbeat_at = now() where id = $1::uuid and attempt = $2::int and state = 'running'`,
        [run.id, run.attempt, JSON.stringify(next)],
      )
      if (saved === 0) throw new CaretakerError('lease_lost', `Another worker has taken over ${run.job}.`)
      checkpoint = next
    },
    shouldHandOver: () => ctx.signal.aborted || remainingMs(ctx) < handOverMarginMs,
    callForHelp: async () => options.wake?.(ctx),
  }
}

async function heartbeat(ctx: Context, boss: PgBoss, run: Run, lease: Lease): Promise<boolean> {
  await boss.touch(queueName, lease)
  const mine = await ctx.db.execute(
    `update caretaker.runs set heartbeat_at = now() where id = $1::uuid and attempt = $2::int and state = 'running'`,
    [run.id, run.attempt],
  )
  return mine > 0
}

async function hasEnded(ctx: Context, id: string): Promise<boolean> {
  const [row] = await ctx.db.query<{ ended: boolean }>(
    `select state in ('done', 'failed', 'skipped') as ended from caretaker.runs where id = $1::uuid`,
    [id],
  )
  return row?.ended ?? true
}

async function hasOpenRuns(ctx: Context): Promise<boolean> {
  const [row] = await ctx.db.query<{ open: boolean }>(
    `select exists (select from caretaker.runs where state in ('queued', 'dispatched')) as open`,
  )
  return row?.open === true
}

interface Sighting {
  heartbeat: number
  at: number
}

/**
 * Whether a run of another worker may be a dead one's: its heartbeat, however old, has not moved since this worker first
 * saw it, or it waits for its retry, or the queue may have lost it. Worth staying for six heartbeats; a living worker's
 * moves within one.
 */
async function mayHaveDied(ctx: Context, firstSeen: Map<string, Sighting>, stayMs: number): Promise<boolean> {
  const open = await ctx.db.query<{ key: string; heartbeat: Date; now: Date }>(
    `select concat_ws('/', r.id, r.dispatch, r.attempt) as key, r.heartbeat_at as heartbeat, clock_timestamp() as now from caretaker.runs r
     where r.state = 'running' or (r.state = 'dispatched' and (r.attempt > 0
       or not exists (select from caretaker.runs busy where busy.job = r.job and busy.state = 'running')))`,
  )
  let doubtful = false
  for (const { key, heartbeat, now } of open) {
    const seen = firstSeen.get(key) ?? { heartbeat: heartbeat.getTime(), at: now.getTime() }
    firstSeen.set(key, seen)
    if (seen.heartbeat === heartbeat.getTime() && now.getTime() - seen.at < stayMs) doubtful = true
  }
  return doubtful
}

function pause(signal: AbortSignal, ms: number): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
}
