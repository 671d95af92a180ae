import type { Context } from './context.ts'
import type { Transaction } from './db.ts'
import type { JobRun, PlanLine } from './job.ts'

/** What a task has done so far: rows, batches, tables. Shown in the job's history. */
export type Counts = Record<string, number | string>

/** What a task sees of the run it belongs to. */
export interface TaskProgress {
  /** The task's label, unique within its job: part of what identifies its work to others. */
  readonly label: string
  readonly run: Pick<JobRun, 'id' | 'job' | 'slot' | 'attempt'>
  /** Where an earlier taking of the run stopped inside this task; null at its start. */
  readonly inner: unknown
  /** What earlier takings of the run have counted in this task. */
  readonly counts: Counts
  /** Stores where the task is, and with `tx` in one transaction with its work. */
  save(inner: unknown, counts: Counts, tx?: Transaction): Promise<void>
  /** Stores that the task is done; with `tx` in one transaction with its last work. Called at most once, by tasks that must not run twice. */
  finish(counts: Counts, tx: Transaction): Promise<void>
  /** True when the invocation ends soon, or the process is told to stop. */
  stop(): boolean
  /** What is left of the step's budget now, over all invocations; infinite where the policy gives it none. */
  budgetMs(): number
}

/** The smallest part of a job that succeeds or fails by itself: one table to vacuum, one retention rule, one statement, one call. */
export interface Task {
  /** Names it in checkpoints and reports: "vacuum session_logs". It is the same after a deployment. */
  label: string
  /** Position of its step in the job. */
  step: number
  /** Changes what the app holds: later tasks of this kind in later steps may rely on it. */
  changesRows: boolean
  run(ctx: Context, progress: TaskProgress): Promise<Counts | 'hand-over'>
  /** What it would do now; `before` are the tasks of the same job that come first. */
  plan(ctx: Context, before: PlannedChanges): Promise<PlanLine[]>
}

/** Conditions on rows that earlier tasks of a job will have moved or deleted by the time a task runs, by table. */
export interface PlannedChanges {
  gone: Map<number, string[]>
  /** Rows that earlier tasks will have put into a table: a query over them, with the columns they bring. */
  incoming: Map<number, string[]>
  /** Tables that lose rows in ways that are not counted: through foreign keys. */
  unsure: Set<number>
  /** True after a statement, a call or a function of the policy's own: it may have changed anything. */
  unknown: boolean
}
