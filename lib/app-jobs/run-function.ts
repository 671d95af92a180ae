import type { AppContext, AppJobFunction, AppRun } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { remainingMs } from '../platform/context.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import type { PlanLine } from '../platform/job.ts'
import { describeError } from '../platform/log.ts'
import { lazySupabase } from '../platform/supabase.ts'
import type { Counts, TaskProgress } from '../platform/task.ts'
import { type Fence, fenced } from './fence.ts'
import { countsOf } from './read-counts.ts'

/** Kept free before the deadline, for the checkpoint and the hand-over. */
const marginMs = 5_000
/** Less than this is not worth beginning: the next invocation has its whole time. */
const leastMs = 1_000

interface FunctionProgress {
  /** What the function has saved. */
  checkpoint: unknown
  /** How often it ran out of an invocation's time since it saved last. */
  ranOut: number
}

/** By the function's name, which its key in the policy or its declaration gives it. */
export function functionLabel(run: AppJobFunction): string {
  // `{ run: async () => … }` is named by its key.
  return run.name === '' || run.name === 'run' ? 'run a function' : `run ${run.name.slice(0, 60)}`
}

/** What would be called; a function cannot say what it would do. */
export function planFunction(run: AppJobFunction): PlanLine {
  return { action: `${functionLabel(run)} of the policy`, target: 'function', count: null, unit: 'rows' }
}

/**
 * Calls a function of the policy. It has until the deadline (or until its step's budget is spent); then its signal is
 * aborted, and what it does after that reaches neither the database nor the network. One that ran out of time is called
 * again by the next invocation, with what it saved; if it saves nothing on the way, only once.
 * @throws {CaretakerError} `job_failed` for whatever it throws, `timeout` when its time was not enough
 */
export async function runFunction(ctx: Context, run: AppJobFunction, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const label = functionLabel(run)
  const state: FunctionProgress = { checkpoint: null, ranOut: 0, ...(progress.inner as Partial<FunctionProgress> | null) }
  const before = state.checkpoint
  const leftMs = remainingMs(ctx) - marginMs
  if (leftMs < leastMs) return 'hand-over'
  const budgetMs = progress.budgetMs()
  const timeMs = Math.max(1, Math.min(leftMs, budgetMs))
  const fence = fenced(ctx, timeMs)
  const finished: { counts: Counts | undefined } = { counts: undefined }
  try {
    const call = Promise.resolve().then(() => run(appContext(ctx, fence), appRun(progress, state, fence, finished)))
    const outcome = await fence.within(call)
    if (outcome === 'hand-over') {
      if (state.checkpoint === before && !progress.stop())
        throw new CaretakerError('job_failed', `${label} handed over without having saved anything: it would be called for ever.`)
      return 'hand-over'
    }
    return finished.counts ?? { ...countsOf(outcome) }
  } catch (error) {
    if (finished.counts !== undefined && !ctx.signal.aborted) {
      // Its work is committed and the run knows it: what it threw afterwards changes nothing, but somebody should see it.
      ctx.log.error({ err: error, task: label }, 'the function threw after it had finished')
      return finished.counts
    }
    if (ctx.signal.aborted) throw ctx.signal.reason
    if (error instanceof CaretakerError && error.code === 'lease_lost') throw error
    if (!fence.timedOut()) throw failure(ctx, label, error)
    if (budgetMs <= leftMs)
      throw new CaretakerError('timeout', `${label} was ended, because its step's budget was spent.`, { cause: error })
    if (state.ranOut > 0)
      throw new CaretakerError(
        'timeout',
        `${label} needs more time than one invocation has, twice. Let it save a checkpoint and return 'hand-over' when run.shouldHandOver() says so, or run it from a machine of your own: caretaker jobs run ${progress.run.job}.`,
        { cause: error },
      )
    state.ranOut++
    await progress.save(state, progress.counts)
    return 'hand-over'
  } finally {
    fence.close()
  }
}

function appContext(ctx: Context, fence: Fence): AppContext {
  const { log, clock } = ctx
  // A client of its own, which goes through the fence like everything else.
  const supabase = lazySupabase(ctx.env, fence.fetch)
  return {
    db: fence.db,
    supabase: async () => {
      fence.check()
      return supabase()
    },
    log,
    clock,
    fetch: fence.fetch,
    signal: fence.signal,
    deadline: fence.deadline,
  }
}

function appRun(progress: TaskProgress, state: FunctionProgress, fence: Fence, finished: { counts: Counts | undefined }): AppRun {
  const { id, job, slot, attempt } = progress.run
  return {
    id,
    job,
    slot,
    attempt,
    get checkpoint() {
      return state.checkpoint
    },
    async save(checkpoint, tx) {
      fence.check()
      const next: FunctionProgress = { checkpoint, ranOut: 0 }
      await progress.save(next, progress.counts, tx)
      Object.assign(state, next)
    },
    async finish(tx, result) {
      fence.check()
      const counts = countsOf(result)
      await progress.finish(counts, tx)
      // Only what is committed is finished.
      fence.afterCommit(tx, () => {
        finished.counts = counts
      })
    },
    shouldHandOver: () => progress.stop() || fence.signal.aborted,
  }
}

/** What a function threw, fit for the history: its kind, and its words without what may be about somebody. */
function failure(ctx: Context, label: string, error: unknown): CaretakerError {
  ctx.log.error({ err: error, task: label }, 'a function of the policy failed')
  if (error instanceof CaretakerError) return error
  const state = sqlState(error)
  const { type, message } = describeError(error)
  const words = state === undefined ? masked(String(message)) : `${String(message)} (SQLSTATE ${state})`
  return new CaretakerError('job_failed', `${label} threw ${type === undefined ? 'something' : String(type)}: ${words}`, { cause: error })
}

/** Quoted values, addresses and long numbers of a message in somebody's own words. */
function masked(message: string): string {
  const text = message
    .replace(/[^\s@"'<>]+@[^\s@"'<>]+/g, '…')
    .replace(/"[^"]*"|'[^']*'|`[^`]*`/g, '"…"')
    .replace(/\d{5,}/g, '…')
    .replace(/\s+/g, ' ')
  return text.length > 200 ? `${text.slice(0, 199)}…` : text
}
