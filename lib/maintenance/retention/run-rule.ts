import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { emitEvent } from '../../platform/outbox.ts'
import type { Counts, TaskProgress } from '../../platform/task.ts'
import { countOrEstimate } from '../count.ts'
import { throwErrors } from '../issue.ts'
import { withLockRetry } from '../lock-retry.ts'
import { loadLeaves, type Relation } from '../relations.ts'
import { reading } from '../session-settings.ts'
import { type Ending, runBatches } from './batches.ts'
import { explainFailure } from './failures.ts'
import { budgetOf, limitsOf } from './limits.ts'
import { readWaysOut, runPartitionsAfter, runPartitionsBefore } from './partitions/run-partitions.ts'
import { digestOf, loadPosition, type Position, savePosition } from './position.ts'
import { sensePressure, waitForRelief } from './pressure.ts'
import { refusalsOf, throwRefusals } from './refusals.ts'
import { batchedRows, type Left, type RuleCounts, type RuleProgress, type RuleRun, saveProgress } from './rule-run.ts'
import { computeCutoff, type RetentionTarget, resolveRule } from './target.ts'
import type { Taken } from './touch.ts'

/**
 * Purges, archives or anonymises what rule number `index` names, in short batches; whole partitions at once. Each batch
 * commits together with the checkpoint: a kill at any instant neither loses a row nor moves one twice. At the end of its
 * budget, or of its patience with others, it leaves the rest to the next run, which goes on from there.
 * @returns `rows`, `batches` and, where there were any: `childRows`, `partitionsCreated`, `partitionsDropped`,
 * `partitionsMoved` and `partitionRows` (of `rows`), `bytesFreed`, `pausedMs` with `pausedFor`, and `left`: why rows remain
 * @throws {CaretakerError} `policy_invalid` or `retention_refused` before anything is touched; `job_failed` when the database refuses a batch
 */
export async function runRule(ctx: Context, index: number, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const { target, issues } = await resolveRule(ctx, index)
  throwErrors(issues)
  if (target === undefined) throw new CaretakerError('internal', `retention.${index} resolved to nothing`)
  const label = `${target.verb} ${target.name}`
  return explainFailure(label, async () => {
    const run = await begin(ctx, target, progress)
    const begun = await withLockRetry(ctx, `${label}: ${target.table.label}`, { tries: 4, firstPauseMs: 250, stop: progress.stop }, () =>
      prepare(ctx, run),
    )
    if (begun === 'hand-over') return 'hand-over'
    if (begun !== null) return finish(ctx, run, begun, { finished: run.state.finished, cursor: run.state.cursor })
    const waiting = await runPartitionsBefore(ctx, run)
    if (waiting === 'hand-over') return 'hand-over'
    if (target.verb === 'keep') return finish(ctx, run, waiting, null)
    const left = await walkLeaves(ctx, run)
    if (left === 'hand-over') return 'hand-over'
    if (left !== null) return finish(ctx, run, left, { finished: run.state.finished, cursor: run.state.cursor })
    if ((await runPartitionsAfter(ctx, run)) === 'hand-over') return 'hand-over'
    return finish(ctx, run, waiting, null)
  })
}

async function begin(ctx: Context, target: RetentionTarget, progress: TaskProgress): Promise<RuleRun> {
  const saved = progress.inner as RuleProgress | null
  const rule = digestOf(target.rule)
  const state: RuleProgress = saved?.rule === rule ? { ...saved } : await beginAnew(ctx, target, rule)
  const began = ctx.clock.monotonicMs()
  const before = state.spentMs
  return {
    target,
    progress,
    state,
    counts: { ...progress.counts, rows: Number(progress.counts.rows ?? 0), batches: Number(progress.counts.batches ?? 0) },
    limits: limitsOf(ctx.config, target.rule),
    budget: budgetOf(ctx.config, target.rule),
    detail: {
      rule: target.name,
      action: target.verb,
      ...(state.cutoff === null ? {} : { cutoff: state.cutoff }),
      ...(target.archive === undefined ? {} : { to: target.archive.table.label }),
    },
    spentMs: () => Math.round(before + ctx.clock.monotonicMs() - began),
  }
}

async function beginAnew(ctx: Context, target: RetentionTarget, rule: string): Promise<RuleProgress> {
  const cutoff = await reading(ctx, (tx) => computeCutoff(tx, target.rule))
  const position = await loadPosition(ctx.db, rule)
  return { rule, cutoff, finished: null, cursor: null, ...position, resumed: position !== null, allowed: false, spentMs: 0, waitedMs: 0 }
}

/**
 * Waits for others before it reads, and holds what would go against the limits, once a run.
 * @returns null when the work may begin, or why it may not
 * @throws {CaretakerError} `retention_refused`
 */
async function prepare(ctx: Context, run: RuleRun): Promise<Left | null | 'hand-over'> {
  const { target, state, limits } = run
  const leaves = await reading(ctx, (tx) => loadLeaves(tx, target.table.oid))
  const { obstacle } = await sensePressure(ctx.db, relationsOf(target, leaves), limits)
  if (obstacle !== undefined) {
    const over = await pause(ctx, run, leaves, obstacle)
    if (over?.end === 'hand-over') return 'hand-over'
    if (over !== undefined) return leftBy(run, over)
  }
  if (state.allowed || target.verb === 'keep') return null
  const { count } = await countOrEstimate(ctx, target.table.sql, target.condition(state.cutoff))
  throwRefusals(`${target.verb} ${target.name}`, await refusalsOf(ctx, target, limits, count))
  state.allowed = true
  return null
}

function leftBy(run: RuleRun, ending: Ending): Left {
  return ending.end === 'obstacle' ? { reason: ending.obstacle, obstacle: true } : { reason: budgetText(run), obstacle: false }
}

/** Tables that somebody may wait for because of the run. */
function relationsOf({ table, descents }: RetentionTarget, leaves: readonly Relation[]): number[] {
  return [...leaves, table, ...descents.map((descent) => descent.table)].map(({ oid }) => oid)
}

/** @returns null at the end of every table; why rows remain; or 'hand-over' */
async function walkLeaves(ctx: Context, run: RuleRun): Promise<Left | null | 'hand-over'> {
  const { target, state } = run
  for (;;) {
    for (const leaf of await leavesToWalk(ctx, run)) {
      if (state.finished !== null && compare(leaf.label, state.finished) <= 0) continue
      const ending = await walkLeaf(ctx, run, leaf)
      if (ending.end === 'hand-over') return 'hand-over'
      if (ending.end !== 'done') return leftBy(run, ending)
      Object.assign(state, { finished: leaf.label, cursor: null })
      await saveProgress(run, {})
    }
    if (!state.resumed) return null
    // What lies before the place where the run began: an earlier run had passed it, and it has grown older since.
    Object.assign(state, { finished: null, cursor: null, resumed: false })
    ctx.log.debug({ rule: target.name }, 'retention begins its second lap')
  }
}

/**
 * The physical tables as they are now: a partition that was moved or detached since is another table's, or its own. In the
 * order of their names, which the position that is stored counts on.
 */
async function leavesToWalk(ctx: Context, { target, state }: RuleRun): Promise<Relation[]> {
  const { untouched } = await readWaysOut(ctx, target, state.cutoff)
  const leaves = await reading(ctx, (tx) => loadLeaves(tx, target.table.oid))
  return leaves.filter(({ oid }) => !untouched.has(oid)).sort((a, b) => compare(a.label, b.label))
}

/** Batches until the table ends, or something else does; pauses for others in between. */
async function walkLeaf(ctx: Context, run: RuleRun, leaf: Relation): Promise<Ending> {
  const { target, state, progress, limits, budget } = run
  for (;;) {
    const ending = await runBatches(ctx, {
      label: `${target.verb} ${target.name}`,
      table: target.table,
      columns: target.columns,
      leaf,
      condition: target.condition(state.cutoff),
      verb: target.change,
      descents: target.descents,
      cursor: state.cursor,
      limits,
      rowsLeft: () => budget.rows - batchedRows(run),
      timeOver: () => run.spentMs() >= budget.timeMs,
      stop: progress.stop,
      async commitWith(tx, cursor, taken) {
        if (taken.rows > 0 && run.counts.rows === 0)
          await appendAudit(tx, ctx, { action: 'retention.started', target: target.table.label, detail: run.detail })
        await progress.save({ ...state, cursor, spentMs: run.spentMs() } satisfies RuleProgress, added(run.counts, taken), tx)
      },
      // Not before: a batch that is tried again starts from what was committed.
      committed(cursor, taken) {
        state.cursor = cursor
        run.counts = added(run.counts, taken)
      },
    }).catch((error: unknown): Ending => {
      // Another run has dropped the partition.
      if (sqlState(error) === '42P01' && leaf.oid !== target.table.oid) return { end: 'done' }
      throw error
    })
    if (ending.end !== 'obstacle') return ending
    const over = await pause(ctx, run, [leaf], ending.obstacle)
    if (over !== undefined) return over
  }
}

function added(counts: RuleCounts, { rows, childRows }: Taken): RuleCounts {
  return {
    ...counts,
    rows: counts.rows + rows,
    batches: counts.batches + 1,
    ...(childRows === 0 ? {} : { childRows: Number(counts.childRows ?? 0) + childRows }),
  }
}

/** Waits for others, as long as the rule's patience lasts; undefined when the way is clear again. */
async function pause(ctx: Context, run: RuleRun, leaves: readonly Relation[], obstacle: string): Promise<Ending | undefined> {
  const { state, progress, limits, target, budget } = run
  ctx.log.info({ rule: target.name, obstacle }, 'retention pauses')
  const relief = await waitForRelief(ctx, {
    relations: relationsOf(target, leaves),
    limits,
    obstacle,
    leftMs: Math.max(0, limits.patienceMs - state.waitedMs),
    stop: () => progress.stop() || run.spentMs() >= budget.timeMs,
  })
  state.waitedMs += Math.round(relief.waitedMs)
  await saveProgress(run, { pausedMs: state.waitedMs, pausedFor: relief.obstacle })
  ctx.log.info({ rule: target.name, obstacle: relief.obstacle, waitedMs: state.waitedMs, end: relief.end }, 'retention has waited')
  if (relief.end === 'clear') return undefined
  if (relief.end === 'hand-over') return { end: progress.stop() ? 'hand-over' : 'budget' }
  return { end: 'obstacle', obstacle: relief.obstacle }
}

function budgetText(run: RuleRun): string {
  return batchedRows(run) >= run.budget.rows
    ? `the budget of ${run.budget.rows} rows is used up`
    : `the budget of ${run.budget.timeText} is used up`
}

/** Ends the run: its totals, where it left off and the record of both stand or fall together. */
async function finish(ctx: Context, run: RuleRun, left: Left | null, position: Position | null): Promise<Counts> {
  const { target, state, progress } = run
  const result: RuleCounts = left === null ? run.counts : { ...run.counts, left: left.reason }
  await ctx.db.transaction(async (tx: Transaction) => {
    await savePosition(tx, state.rule, target.name, left === null || position === null ? null : { position, reason: left.reason })
    await progress.finish(result, tx)
    if (left?.obstacle === true) await emitEvent(tx, 'retention.deferred', { rule: target.name, reason: left.reason, rows: result.rows })
    if (result.rows > 0)
      await appendAudit(tx, ctx, { action: 'retention.completed', target: target.table.label, detail: { ...run.detail, ...result } })
  })
  return result
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
