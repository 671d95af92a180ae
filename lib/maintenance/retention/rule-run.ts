import type { Transaction } from '../../platform/db.ts'
import type { Counts, TaskProgress } from '../../platform/task.ts'
import type { Budget, Limits } from './limits.ts'
import type { Position } from './position.ts'
import type { RetentionTarget } from './target.ts'

/** Where a rule's run is. The cut-off is computed once, so that a run which is resumed ends where it would have ended. */
export interface RuleProgress extends Position {
  /** The rule this speaks of. A rule that a deployment has changed begins anew. */
  rule: string
  cutoff: string | null
  /** It went on where an earlier run had left off: what lies before that is walked when the end is reached. */
  resumed: boolean
  /** What it would take was held against the limits, and found to be within them. */
  allowed: boolean
  /** Time at work on the rule, and time waited for others, in earlier takings and this one up to the last save. */
  spentMs: number
  waitedMs: number
}

/** What a rule's run counts. */
export interface RuleCounts extends Counts {
  rows: number
  batches: number
}

/** One taking of a rule's run. */
export interface RuleRun {
  target: RetentionTarget
  progress: TaskProgress
  state: RuleProgress
  counts: RuleCounts
  limits: Limits
  budget: Budget
  /** What the audit trail says of it. */
  detail: Record<string, unknown>
  /** Time at work on the rule so far, over all takings. */
  spentMs(): number
}

/** Why rows remain for the next run. */
export interface Left {
  reason: string
  /** Others were in the way, which somebody may want to hear of; a budget is as it should be. */
  obstacle: boolean
}

/**
 * Stores the run's counts with `more`, and where it is; with `tx` in one transaction with the work.
 * A caller whose transaction is tried again must call it again: `run` is what was stored last.
 */
export async function saveProgress(run: RuleRun, more: Record<string, number | string>, tx?: Transaction): Promise<void> {
  const counts: RuleCounts = { ...run.counts, ...more }
  await run.progress.save({ ...run.state, spentMs: run.spentMs() } satisfies RuleProgress, counts, tx)
  run.counts = counts
}

/** Rows of the rule's table that batches have taken: what a budget of rows counts. */
export function batchedRows({ counts }: Pick<RuleRun, 'counts'>): number {
  return counts.rows - Number(counts.partitionRows ?? 0)
}
