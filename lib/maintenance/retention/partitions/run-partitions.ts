import type { Context } from '../../../platform/context.ts'
import { reading } from '../../session-settings.ts'
import type { Left, RuleRun } from '../rule-run.ts'
import { saveProgress } from '../rule-run.ts'
import type { RetentionTarget } from '../target.ts'
import type { ComingOptions } from './coming.ts'
import { createComing } from './create.ts'
import { type Commit, type Dropped, dropPartition, finishLeftOver, leftOvers } from './drop.ts'
import { dropEmptied, movePartition } from './move.ts'
import { type WaysOut, waysOut } from './ways-out.ts'

/** What the rule says of coming partitions; undefined where it says nothing. */
export function comingOptions(ctx: Pick<Context, 'config'>, { rule }: Pick<RetentionTarget, 'rule'>): ComingOptions | undefined {
  const { interval, ahead, timezone } = rule.partitions ?? {}
  if (interval === undefined || ahead === undefined) return undefined
  return { interval, ahead, timezone: timezone ?? ctx.config.app.timezone ?? 'UTC' }
}

export function readWaysOut(ctx: Pick<Context, 'db'>, target: RetentionTarget, cutoff: string | null): Promise<WaysOut> {
  return reading(ctx, (tx) => waysOut(tx, target, cutoff))
}

/**
 * Before any row is looked at: the coming partitions are made, what an earlier run left on its way out is brought to its
 * end, and partitions that are past their date go as a whole.
 * @returns null when all of it is done, or what keeps a partition waiting
 */
export async function runPartitionsBefore(ctx: Context, run: RuleRun): Promise<Left | null | 'hand-over'> {
  const { target, state, progress, counts } = run
  const { age, table } = target
  if (table.kind !== 'p' || age === undefined) return null
  const label = `${target.verb} ${target.name}`
  const coming = comingOptions(ctx, target)
  if (coming !== undefined) {
    const created = await createComing(ctx, label, table, age, coming, progress.stop)
    if (created === 'hand-over') return 'hand-over'
    if (created > 0) await saveProgress(run, { partitionsCreated: Number(counts.partitionsCreated ?? 0) + created })
  }
  let left: Left | null = null
  const note = (outcome: Dropped | 'hand-over' | { waitsFor: string }) => {
    if (outcome !== 'hand-over' && 'waitsFor' in outcome) left = { reason: outcome.waitsFor, obstacle: true }
    return outcome === 'hand-over'
  }
  for (const over of await reading(ctx, (tx) => leftOvers(tx, target, state.cutoff)))
    if (note(await finishLeftOver(ctx, target, over, progress.stop, commitOf(run, 'partitionsDropped')))) return 'hand-over'
  const ways = await readWaysOut(ctx, target, state.cutoff)
  for (const partition of ways.moved) {
    if (progress.stop()) return 'hand-over'
    if (note(await movePartition(ctx, target, age, partition, progress.stop, commitOf(run, 'partitionsMoved')))) return 'hand-over'
  }
  for (const partition of ways.dropped) {
    if (progress.stop()) return 'hand-over'
    if (note(await dropPartition(ctx, target, partition, progress.stop, commitOf(run, 'partitionsDropped')))) return 'hand-over'
    // PostgreSQL detaches one at a time: what could not be ended keeps the others.
    if (left !== null) break
  }
  return left
}

/** After the rows: partitions that batches have emptied are dropped. */
export async function runPartitionsAfter(ctx: Context, run: RuleRun): Promise<'done' | 'hand-over'> {
  const { target, state, progress } = run
  const { emptied } = await readWaysOut(ctx, target, state.cutoff)
  for (const { partition } of emptied) {
    if (progress.stop()) return 'hand-over'
    if ((await dropEmptied(ctx, target, partition, progress.stop, commitOf(run, 'partitionsDropped'))) === 'hand-over') return 'hand-over'
  }
  return 'done'
}

/** Stores, in the transaction that takes a partition away, that it is gone and what it held. */
function commitOf(run: RuleRun, counted: 'partitionsDropped' | 'partitionsMoved'): Commit {
  return (tx, { rows, bytes }) => {
    const { counts } = run
    return saveProgress(
      run,
      {
        rows: counts.rows + rows,
        partitionRows: Number(counts.partitionRows ?? 0) + rows,
        [counted]: Number(counts[counted] ?? 0) + 1,
        ...(counted === 'partitionsDropped' ? { bytesFreed: Number(counts.bytesFreed ?? 0) + bytes } : {}),
      },
      tx,
    )
  }
}
