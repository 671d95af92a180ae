import type { Context } from '../platform/context.ts'
import { remainingMs } from '../platform/context.ts'
import { CaretakerError, hasCode } from '../platform/errors.ts'
import type { JobRun } from '../platform/job.ts'
import { describeError } from '../platform/log.ts'
import { emitEvent } from '../platform/outbox.ts'
import type { Job } from './job.ts'
import { ledger, type Run, runColumns } from './ledger.ts'
import type { JobWithMetadata, PgBoss } from './pg-boss.ts'
import { bossDatabase, heartbeatSeconds, openQueue, queueName, retryLimit } from './queue.ts'

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
    const boss = await openQueue(ctx)
    const report: WorkReport = { finished: 0, failed: 0, handedOver: 0, more: false }
    const firstSeen = new Map<string, Sighting>()
    try {
      for (;;) {
        if (ctx.signal.aborted || remainingMs(ctx) < 2 * handOverMarginMs) {
          report.more = await hasOpenRuns(ctx)
          return report
        }
        if (options.until !== undefined && (await hasEnded(ctx, options.until))) return report
        await dispatch(ctx, boss)
        const [job] = await boss.fetch<{ runId: string; dispatch: number }>(queueName, {
          includeMetadata: true,
          // A run whose job is busy must not keep the runs of other jobs behind it waiting.
          groupConcurrency: 1,
        })
        if (job !== undefined) {
          await take(ctx, boss, jobs, job, report, options)
          continue
        }
        if (options.until === undefined && (await assist(ctx, jobs, options))) continue
        if (options.until === undefined && !(await mayHaveDied(ctx, firstSeen))) return report
        // Somebody else's run is open: wait for its heartbeat to come or to lapse, then look again.
        await pause(ctx.signal, options.until === undefined ? 1_000 : 250)
        await supervise(ctx, boss)
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

/**
 * Gives jobs of dead workers back to the queue, closes the runs whose last attempt died with its worker, and queues
 * those anew that the queue knows nothing of (it was restored without its schema, or made anew).
 */
export async function supervise(ctx: Context, boss: PgBoss): Promise<void> {
  await boss.supervise(queueName)
  const open = await ctx.db.query<Run>(
    `select ${runColumns} from caretaker.runs
     where state in ('dispatched', 'running') and coalesce(heartbeat_at, queued_at) < now() - make_interval(secs => $1::int) limit 100`,
    [2 * heartbeatSeconds],
  )
  for (const run of open) {
    const [queued] = await boss.findJobs(queueName, { id: dispatchId(run) })
    if (queued === undefined) {
      await requeue(ctx, run)
      continue
    }
    if (queued.state !== 'failed' && queued.state !== 'cancelled') continue
    await closeFailed(ctx, run, {
      code: 'job_failed',
      detail: `The worker died in each of ${run.attempt} attempts.`,
    })
  }
}

/** The queue job's id: the run's own with the dispatch number folded into its last group, so that a second send is none. */
function dispatchId(run: Pick<Run, 'id' | 'dispatch'>): string {
  const tail = (BigInt(`0x${run.id.slice(24)}`) ^ BigInt(run.dispatch)).toString(16).padStart(12, '0')
  return `${run.id.slice(0, 24)}${tail}`
}

async function dispatch(ctx: Context, boss: PgBoss): Promise<void> {
  await ctx.db.transaction(async (tx) => {
    const queued = await tx.query<Run>(
      `select ${runColumns} from caretaker.runs where state = 'queued' order by queued_at limit 100 for update skip locked`,
    )
    for (const run of queued) {
      await boss.send(
        queueName,
        { runId: run.id, dispatch: run.dispatch },
        { id: dispatchId(run), singletonKey: run.job, group: { id: run.job }, db: bossDatabase(tx) },
      )
      await tx.execute(`update caretaker.runs set state = 'dispatched', heartbeat_at = now() where id = $1::uuid`, [run.id])
    }
  })
}

async function take(
  ctx: Context,
  boss: PgBoss,
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
  const job = jobs.find((candidate) => candidate.name === run.job)
  const log = ctx.log.child({ job: run.job, slot: run.slot, run: run.id, attempt: run.attempt })
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
  try {
    if (job === undefined) throw new CaretakerError('job_unknown', `The policy has no job "${run.job}" any more.`)
    const context: Context = { ...ctx, log, actor: { type: 'system', job: run.job }, signal: AbortSignal.any([ctx.signal, lost.signal]) }
    const outcome = await job.run(context, handle(context, run, options))
    lost.signal.throwIfAborted()
    await settle(ctx, boss, run, lease, outcome)
    if (outcome.status === 'hand-over') report.handedOver++
    else report.finished++
    options.onRun?.(
      { ...run, result: outcome.status === 'done' ? outcome.result : null },
      outcome.status === 'done' ? 'done' : 'handed over',
    )
  } catch (error) {
    if (hasCode(error, 'lease_lost')) {
      log.warn('lost the lease; another worker has this run')
      return
    }
    if (ctx.signal.aborted) {
      // It was stopped, it did not fail: no attempt is used up, and the next worker goes on from the checkpoint.
      log.info({ err: error }, 'run interrupted')
      const given = await settle(ctx, boss, run, lease, { status: 'hand-over' }).then(
        () => true,
        (cause: unknown) => {
          if (!hasCode(cause, 'lease_lost')) throw cause
          return false
        },
      )
      if (!given) return
      report.handedOver++
      options.onRun?.(run, 'handed over')
      return
    }
    log.error({ err: error }, 'run failed')
    ctx.sentry.capture(error, { requestId: run.id, tags: { job: run.job } })
    const described = publicError(error)
    const last = taken.retryCount >= retryLimit || final(error)
    await fail(ctx, boss, run, lease, described, last)
    if (last) {
      report.finished++
      report.failed++
    }
    options.onRun?.({ ...run, error: described }, 'failed')
  } finally {
    clearInterval(beat)
  }
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

async function settle(
  ctx: Context,
  boss: PgBoss,
  run: Run,
  lease: Lease,
  outcome: { status: 'done'; result: Record<string, unknown> } | { status: 'hand-over' },
): Promise<void> {
  await ctx.db.transaction(async (tx) => {
    const settled =
      outcome.status === 'done'
        ? await tx.execute(
            `update caretaker.runs set state = 'done', result = $3::jsonb, error = null, finished_at = clock_timestamp() where id = $1::uuid and attempt = $2::int and state = 'running'`,
            [run.id, run.attempt, JSON.stringify(outcome.result)],
          )
        : await tx.execute(
            `update caretaker.runs set state = 'queued', dispatch = dispatch + 1 where id = $1::uuid and attempt = $2::int and state = 'running'`,
            [run.id, run.attempt],
          )
    if (settled === 0) throw new CaretakerError('lease_lost', `Another worker has taken over ${run.job}.`)
    await boss.complete(queueName, lease, null, { db: bossDatabase(tx) })
  })
}

async function fail(ctx: Context, boss: PgBoss, run: Run, lease: Lease, error: RunError, last: boolean): Promise<void> {
  await ctx.db.transaction(async (tx) => {
    if (last) {
      const closed = await markFailed(tx, run, error)
      if (closed) await boss.complete(queueName, lease, error, { db: bossDatabase(tx) })
      return
    }
    const kept = await tx.execute(
      `update caretaker.runs set state = 'dispatched', error = $3::jsonb, heartbeat_at = now() where id = $1::uuid and attempt = $2::int and state = 'running'`,
      [run.id, run.attempt, JSON.stringify(error)],
    )
    if (kept > 0) await boss.fail(queueName, lease, error, { db: bossDatabase(tx) })
  })
}

async function requeue(ctx: Context, run: Run): Promise<void> {
  await ctx.db.execute(
    `update caretaker.runs set state = 'queued', dispatch = dispatch + 1
     where id = $1::uuid and dispatch = $2::int and attempt = $3::int and state in ('dispatched', 'running')`,
    [run.id, run.dispatch, run.attempt],
  )
}

async function closeFailed(ctx: Context, run: Run, error: RunError): Promise<void> {
  await ctx.db.transaction((tx) => markFailed(tx, run, run.error ?? error))
}

async function markFailed(tx: Parameters<Parameters<Context['db']['transaction']>[0]>[0], run: Run, error: RunError): Promise<boolean> {
  const closed = await tx.execute(
    `update caretaker.runs set state = 'failed', error = $3::jsonb, finished_at = clock_timestamp()
     where id = $1::uuid and attempt = $2::int and state in ('dispatched', 'running')`,
    [run.id, run.attempt, JSON.stringify(error)],
  )
  if (closed > 0) await emitEvent(tx, 'job.failed', { job: run.job, slot: run.slot, run: run.id, error })
  return closed > 0
}

interface Lease {
  id: string
  retryCount: number
}

interface RunError {
  code: string
  detail: string
}

/** What the ledger may keep of an error: coded ones in full, others by their kind, because their text may quote rows. */
function publicError(error: unknown): RunError {
  if (error instanceof CaretakerError) return { code: error.code, detail: error.detail }
  const described = describeError(error)
  return { code: 'job_failed', detail: `${String(described.type)}: ${String(described.message)}` }
}

/** Errors that the same attempt would only repeat. */
function final(error: unknown): boolean {
  return (
    error instanceof CaretakerError &&
    ['policy_invalid', 'not_configured', 'job_unknown', 'invalid_input', 'env_invalid'].includes(error.code)
  )
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
 * saw it, or it waits for its retry, or the queue may have lost it. Worth staying for up to a minute; a living worker's
 * heartbeat moves within seconds.
 */
async function mayHaveDied(ctx: Context, firstSeen: Map<string, Sighting>): Promise<boolean> {
  const open = await ctx.db.query<{ key: string; heartbeat: Date; now: Date }>(
    `select r.id::text || '/' || r.attempt as key, r.heartbeat_at as heartbeat, clock_timestamp() as now from caretaker.runs r
     where r.state = 'running' or (r.state = 'dispatched' and (r.attempt > 0
       or not exists (select from caretaker.runs busy where busy.job = r.job and busy.state = 'running')))`,
  )
  let doubtful = false
  for (const { key, heartbeat, now } of open) {
    const seen = firstSeen.get(key) ?? { heartbeat: heartbeat.getTime(), at: now.getTime() }
    firstSeen.set(key, seen)
    if (seen.heartbeat === heartbeat.getTime() && now.getTime() - seen.at < 6 * heartbeatSeconds * 1_000) doubtful = true
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
