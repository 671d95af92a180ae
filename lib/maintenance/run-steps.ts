import type { JobStep } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError, hasCode, sqlState } from '../platform/errors.ts'
import type { JobOutcome, JobRun } from '../platform/job.ts'
import type { Counts, Task, TaskProgress } from './task.ts'
import { tasksOf } from './tasks.ts'

/**
 * How far a job is. Tasks are known by their labels, not by their position: a deployment that changes the job in the
 * middle of a run does not make it take one task for another.
 */
interface JobProgress {
  /** What is done, with what it counted. */
  done: Record<string, Counts>
  /** Where the task at work is. */
  current: { task: string; inner: unknown; counts: Counts } | null
}

/**
 * Runs a job's steps in their order, with a checkpoint after each task, and hands over before the deadline.
 * A task that fails does not stop its neighbours: a table that is locked must not keep the others from being vacuumed.
 * It does stop statements and retention rules of later steps, which may rely on it. A retry does what is not done.
 * @returns `{ rows, steps: [{ task, … }] }`: what each task counted in the order of the job, and the sum of the rows
 * @throws {CaretakerError} the task's own error when one failed, `job_failed` or `policy_invalid` naming each when several did
 */
export async function runSteps(ctx: Context, steps: JobStep[], run: JobRun): Promise<JobOutcome> {
  const saved = run.checkpoint as JobProgress | null
  const state: JobProgress = { done: { ...saved?.done }, current: saved?.current ?? null }
  const failed: { task: Task; error: CaretakerError }[] = []
  const tasks = tasksOf(ctx, steps)
  const stop = () => run.shouldHandOver() || ctx.signal.aborted
  for (const task of tasks) {
    if (state.done[task.label] !== undefined) continue
    if (task.changesRows && failed.some((earlier) => earlier.task.changesRows && earlier.task.step < task.step)) {
      failed.push({ task, error: new CaretakerError('job_failed', `${task.label}: not begun, because an earlier step failed.`) })
      continue
    }
    if (stop()) return { status: 'hand-over' }
    try {
      const progress = progressOf(task, state, run, stop)
      const outcome = await task.run(ctx, progress)
      if (outcome === 'hand-over') return { status: 'hand-over' }
      if (state.done[task.label] === undefined) await run.save(markDone(state, task, outcome))
      ctx.log.info({ task: task.label, ...outcome }, 'task done')
    } catch (error) {
      if (endsRun(error)) throw error
      const failure = describeFailure(task, error)
      ctx.log.error({ err: error, task: task.label }, 'task failed')
      failed.push({ task, error: failure })
    }
  }
  if (failed.length > 0) throw summary(failed.map(({ error }) => error))
  // A list: jsonb does not keep the order of keys.
  const done = tasks.map((task) => ({ task: task.label, ...state.done[task.label] }))
  const rows = tasks.reduce((sum, task) => sum + Number(state.done[task.label]?.rows ?? 0), 0)
  return { status: 'done', result: { rows, steps: done } }
}

function progressOf(task: Task, state: JobProgress, run: JobRun, stop: () => boolean): TaskProgress {
  const mine = state.current?.task === task.label ? state.current : null
  return {
    inner: mine?.inner ?? null,
    counts: mine?.counts ?? {},
    async save(inner, counts, tx) {
      const current = { task: task.label, inner, counts }
      await run.save({ done: state.done, current } satisfies JobProgress, tx)
      state.current = current
    },
    async finish(counts, tx) {
      // The state follows in runSteps, once the transaction has committed.
      await run.save({ done: { ...state.done, [task.label]: counts }, current: null } satisfies JobProgress, tx)
    },
    stop,
  }
}

function markDone(state: JobProgress, task: Task, counts: Counts): JobProgress {
  state.done[task.label] = counts
  state.current = null
  return state
}

/** Errors after which nothing of this run may go on: another worker has it, or there is no database to work on. */
function endsRun(error: unknown): boolean {
  return hasCode(error, 'lease_lost') || hasCode(error, 'database_unavailable')
}

function describeFailure(task: Task, error: unknown): CaretakerError {
  if (error instanceof CaretakerError) return error
  const state = sqlState(error)
  if (state === undefined) return new CaretakerError('internal', `${task.label} failed by a defect.`, { cause: error })
  // Messages of classes 22 and 23 quote values of rows.
  const reason = /^2[23]/.test(state) || !(error instanceof Error) ? '' : `: ${error.message}`
  return new CaretakerError('job_failed', `${task.label}: the database refused it (SQLSTATE ${state})${reason}.`, { cause: error })
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
