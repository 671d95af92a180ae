import { durationMs, type JobStep } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError, hasCode, sqlState } from '../platform/errors.ts'
import type { JobOutcome, JobRun } from '../platform/job.ts'
import { describeError } from '../platform/log.ts'
import type { Counts, Task, TaskProgress } from '../platform/task.ts'
import { type AppTasks, noAppTasks, tasksOf } from './tasks.ts'

/**
 * How far a job is. Tasks are known by their labels, not by their position: a deployment that changes the job in the
 * middle of a run does not make it take one task for another.
 */
interface JobProgress {
  /** What is done, with what it counted. */
  done: Record<string, Counts>
  /** Where the task at work is. */
  current: { task: string; inner: unknown; counts: Counts } | null
  /** Where tasks were when they failed: a retry of the run goes on from there. */
  failed: Record<string, { inner: unknown; counts: Counts }>
  /** Milliseconds that each step with a budget has taken in earlier takings of the run, by its position. */
  spentMs: Record<string, number>
}

/**
 * Runs a job's steps in their order, with a checkpoint after each task, and hands over before the deadline.
 * A task that fails does not stop its neighbours: a table that is locked must not keep the others from being vacuumed.
 * It does stop statements and retention rules of later steps, which may rely on it. A retry does what is not done.
 * @returns `{ rows, steps: [{ task, … }] }`: what each task counted in the order of the job, and the sum of the rows
 * @throws {CaretakerError} the task's own error when one failed, `job_failed` or `policy_invalid` naming each when several did
 */
export async function runSteps(ctx: Context, steps: JobStep[], run: JobRun, appTasks: AppTasks = noAppTasks): Promise<JobOutcome> {
  const saved = run.checkpoint as JobProgress | null
  const state: JobProgress = {
    done: { ...saved?.done },
    current: saved?.current ?? null,
    failed: { ...saved?.failed },
    spentMs: { ...saved?.spentMs },
  }
  const failed: { task: Task; error: CaretakerError }[] = []
  const tasks = tasksOf(ctx, steps, appTasks)
  const stop = () => run.shouldHandOver() || ctx.signal.aborted
  for (const task of tasks) {
    if (state.done[task.label] !== undefined) continue
    if (task.changesRows && failed.some((earlier) => earlier.task.changesRows && earlier.task.step < task.step)) {
      failed.push({ task, error: new CaretakerError('job_failed', `${task.label}: not begun, because an earlier step failed.`) })
      continue
    }
    if (stop()) return { status: 'hand-over' }
    const budget = meter(ctx, steps, task.step, state)
    if (budget.leftMs() <= 0) {
      failed.push({
        task,
        error: new CaretakerError('timeout', `${task.label}: not begun, because the step's budget of ${budget.text} is spent.`),
      })
      continue
    }
    try {
      const progress = progressOf(task, state, run, stop, budget.leftMs)
      const outcome = await task.run(ctx, progress)
      budget.stop()
      if (outcome === 'hand-over') {
        // What a budget has been used up by must not be forgotten with the invocation.
        if (budget.text !== undefined) await run.save(state)
        return { status: 'hand-over' }
      }
      if (state.done[task.label] === undefined) await run.save(markDone(state, task, outcome))
      ctx.log.info({ task: task.label, ...outcome }, 'task done')
    } catch (error) {
      budget.stop()
      if (endsRun(error)) throw error
      markFailed(state, task)
      const failure = describeFailure(task, error)
      ctx.log.error({ err: error, task: task.label }, 'task failed')
      failed.push({ task, error: failure })
    }
  }
  if (failed.length > 0) {
    if (Object.keys(state.spentMs).length > 0) await run.save(state)
    throw summary(failed.map(({ error }) => error))
  }
  // A list: jsonb does not keep the order of keys.
  const done = tasks.map((task) => ({ task: task.label, ...state.done[task.label] }))
  const rows = tasks.reduce((sum, task) => sum + Number(state.done[task.label]?.rows ?? 0), 0)
  return { status: 'done', result: { rows, steps: done } }
}

function progressOf(task: Task, state: JobProgress, run: JobRun, stop: () => boolean, budgetMs: () => number): TaskProgress {
  const mine = state.current?.task === task.label ? state.current : state.failed[task.label]
  return {
    label: task.label,
    run,
    inner: mine?.inner ?? null,
    counts: mine?.counts ?? {},
    async save(inner, counts, tx) {
      const current = { task: task.label, inner, counts }
      await run.save({ ...state, current } satisfies JobProgress, tx)
      state.current = current
    },
    async finish(counts, tx) {
      // The state follows in runSteps, once the transaction has committed.
      const { [task.label]: _done, ...failed } = state.failed
      await run.save({ ...state, done: { ...state.done, [task.label]: counts }, current: null, failed } satisfies JobProgress, tx)
    },
    stop,
    budgetMs,
  }
}

function markDone(state: JobProgress, task: Task, counts: Counts): JobProgress {
  state.done[task.label] = counts
  state.current = null
  delete state.failed[task.label]
  return state
}

function markFailed(state: JobProgress, task: Task): void {
  if (state.current?.task !== task.label) return
  const { inner, counts } = state.current
  state.failed[task.label] = { inner, counts }
  state.current = null
}

/** Counts what a step takes of its budget: in `state` what is past, so that a kill forgets at most what the running task took. */
function meter(
  ctx: Pick<Context, 'clock'>,
  steps: readonly JobStep[],
  index: number,
  state: JobProgress,
): { leftMs: () => number; stop: () => void; text: string | undefined } {
  const step = steps[index]
  const text = step !== undefined && 'budget' in step ? step.budget : undefined
  if (text === undefined) return { leftMs: () => Number.POSITIVE_INFINITY, stop: () => undefined, text }
  const began = ctx.clock.monotonicMs()
  const before = state.spentMs[index] ?? 0
  const spent = () => before + ctx.clock.monotonicMs() - began
  return {
    leftMs: () => durationMs(text) - spent(),
    stop: () => {
      state.spentMs[index] = Math.round(spent())
    },
    text,
  }
}

/** Errors after which nothing of this run may go on: another worker has it, or there is no database to work on. */
function endsRun(error: unknown): boolean {
  return hasCode(error, 'lease_lost') || hasCode(error, 'database_unavailable')
}

function describeFailure(task: Task, error: unknown): CaretakerError {
  if (error instanceof CaretakerError) return error
  const state = sqlState(error)
  if (state === undefined) return new CaretakerError('internal', `${task.label} failed by a defect.`, { cause: error })
  const reason = String(describeError(error).message)
  return new CaretakerError('job_failed', `${task.label}: the database refused it (SQLSTATE ${state}): ${reason}.`, { cause: error })
}

function summary(errors: readonly CaretakerError[]): CaretakerError {
  const [first] = errors
  if (first !== undefined && errors.length === 1) return first
  const code = errors.every((error) => error.code === 'policy_invalid') ? 'policy_invalid' : 'job_failed'
  return new CaretakerError(code, `${errors.length} tasks failed:\n${errors.map((error) => `  ${error.detail}`).join('\n')}`, {
    cause: first,
    issues: errors.flatMap((error) => error.issues),
  })
}
