import type { Context } from './context.ts'
import type { Transaction } from './db.ts'

/** One taking of a run by a worker, as the verb that does the work sees it. */
export interface JobRun {
  readonly id: string
  readonly job: string
  /** The planned instant this run stands for. */
  readonly slot: Date
  /** Grows with every taking; 1 the first time. */
  readonly attempt: number
  /** What the run was asked with: `{}` for a planned one. */
  readonly params: Record<string, unknown>
  /** What was saved last, by this or an earlier taking; null at the start. */
  readonly checkpoint: unknown
  /**
   * Stores how far the work is. With `tx` the checkpoint commits together with the work it speaks of, so that a kill
   * between the two cannot happen.
   * @throws {CaretakerError} `lease_lost` when another worker has taken this run: stop, undo nothing, report nothing.
   */
  save(checkpoint: unknown, tx?: Transaction): Promise<void>
  /** True when the invocation ends soon: save a checkpoint and return `{ status: 'hand-over' }`. */
  shouldHandOver(): boolean
  /** Wakes another worker, which takes a share of this run if its job can be shared. Its loss does not matter. */
  callForHelp(): Promise<void>
}

/**
 * Counts a job reports: rows deleted, tables vacuumed, bytes written. No personal data: it is kept and shown.
 * `rows`, `bytes` and `batches` are columns of the history, if they are numbers.
 */
export type JobResult = Record<string, unknown>

/**
 * A hand-over after which the checkpoint is what it was before got nothing done; after ten of them in a row the run fails.
 * `progress` says that the work went on though the checkpoint does not show it.
 */
export type JobOutcome = { status: 'done'; result: JobResult } | { status: 'hand-over'; progress?: true }

/** What a job does when a worker takes it. Throws to fail: the engine retries as the job's policy says. */
export type JobVerb = (ctx: Context, run: JobRun) => Promise<JobOutcome>

/** One line of `caretaker plan`: what would be touched now, and how much. */
export interface PlanLine {
  /** What would be done: "archive error_logs to error_logs_archive". */
  action: string
  /** The table, index or service. */
  target: string
  /** Rows or bytes or objects, counted or estimated now; null where it cannot be counted. */
  count: number | null
  unit: 'rows' | 'bytes' | 'objects' | 'tables' | 'indexes'
  estimated?: boolean
  /** What is wrong or would hurt: a missing table, a foreign key without an index. */
  warnings?: string[]
}

/** What the job would do now. Changes nothing. */
export type JobPlan = (ctx: Context) => Promise<PlanLine[]>
