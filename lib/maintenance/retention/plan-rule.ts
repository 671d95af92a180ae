import type { Context } from '../../platform/context.ts'
import { identifier } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import type { PlanLine } from '../../platform/job.ts'
import type { PlannedChanges } from '../../platform/task.ts'
import { countOrEstimate } from '../count.ts'
import { throwErrors } from '../issue.ts'
import { missingPrivileges } from '../privileges.ts'
import { reading } from '../session-settings.ts'
import { unindexedChildren, whereGoing } from './children.ts'
import { consequences, createIndex } from './foreign-keys.ts'
import { budgetOf, limitsOf } from './limits.ts'
import { type PartitionPlan, planPartitions } from './partitions/plan-partitions.ts'
import { refusalsOf } from './refusals.ts'
import { computeCutoff, type RetentionTarget, resolveRule } from './target.ts'

/** What the rule would touch now, given what earlier tasks of the job take away. */
export async function planRule(ctx: Context, index: number, before: PlannedChanges): Promise<PlanLine[]> {
  const { target, issues } = await resolveRule(ctx, index)
  throwErrors(issues)
  if (target === undefined) throw new CaretakerError('internal', `retention.${index} resolved to nothing`)
  const { table, verb } = target
  const cutoff = await reading(ctx, (tx) => computeCutoff(tx, target.rule))
  const partitions = await planPartitions(ctx, target, cutoff)
  if (verb === 'keep') return partitions.lines
  const condition = target.condition(cutoff)
  const unsure = before.unknown || before.unsure.has(table.oid)
  const counted = await countPlanned(ctx, target, condition, before)
  const refusals = await refusalsOf(ctx, target, limitsOf(ctx.config, target.rule), counted.count)
  const still = [condition, ...notGone(before, table.oid)].join(' and ')
  const budget = budgetOf(ctx.config, target.rule)
  const due = Math.max(0, counted.count - partitions.rows)
  const count = Math.min(due, budget.rows)
  const bounded = budget.rows < due
  const budgetText = [
    ...(Number.isFinite(budget.rows) ? [`at most ${budget.rows} rows a run`] : []),
    ...(budget.timeText === undefined ? [] : [`at most ${budget.timeText} a run`]),
  ].join(', ')
  const going = verb === 'anonymise' ? { warnings: [], cascading: [] } : await whatFollows(ctx, target, still, before)
  const warnings = [
    ...issues.map((issue) => `${issue.path}: ${issue.message}`),
    ...refusals.map((refusal) => `would be refused: ${refusal}`),
    ...(await privilegesLacking(ctx, target)),
    ...(bounded ? [`${due - budget.rows} of ${due} rows are left to later runs`] : []),
    ...partitions.warnings,
    ...going.warnings,
  ]
  const lines: PlanLine[] = [
    ...partitions.lines,
    {
      action: `${verb} ${target.name}${target.archive === undefined ? '' : ` to ${target.archive.table.label}`}${budgetText === '' ? '' : ` (${budgetText})`}`,
      target: table.label,
      count,
      unit: 'rows',
      ...(counted.estimated || unsure || budget.timeText !== undefined ? { estimated: true } : {}),
      ...(warnings.length === 0 ? {} : { warnings }),
    },
    ...(await planChildren(ctx, target, still, before, bounded)),
    ...partitions.after,
  ]
  noteChanges(target, condition, still, before, { bounded, partitions })
  for (const cascade of going.cascading) before.unsure.add(cascade.table.oid)
  return lines
}

/** Tells the tasks that come after what this one will have done by then. */
function noteChanges(
  target: RetentionTarget,
  condition: string,
  still: string,
  before: PlannedChanges,
  { bounded, partitions }: { bounded: boolean; partitions: PartitionPlan },
): void {
  const { table, descents } = target
  const arrive = (oid: number, query: string) => before.incoming.set(oid, [...(before.incoming.get(oid) ?? []), query])
  const leave = (oid: number, gone: string) => before.gone.set(oid, [...(before.gone.get(oid) ?? []), gone])
  if (target.archive !== undefined) {
    // A partition that becomes one of the archive's is counted there as rows are.
    const columns = target.archive.columns.map((column) => `${identifier(table.name)}.${identifier(column)}`).join(', ')
    arrive(target.archive.table.oid, `select ${columns} from ${table.sql} where ${still}`)
  }
  for (const [index, descent] of descents.entries()) {
    const where = whereGoing(descents, index, table, still)
    const alias = identifier(descent.table.name)
    if (descent.archive !== undefined)
      arrive(
        descent.archive.table.oid,
        `select ${descent.archive.columns.map((column) => `${alias}.${identifier(column)}`).join(', ')} from ${descent.table.sql} as ${alias} where ${where}`,
      )
    leave(descent.table.oid, where)
  }
  if (target.verb !== 'anonymise') leave(table.oid, condition)
  // Which rows a budget takes first is not known here.
  if (!bounded) return
  for (const oid of [table.oid, target.archive?.table.oid, ...descents.flatMap(({ table: own, archive }) => [own.oid, archive?.table.oid])])
    if (oid !== undefined) before.unsure.add(oid)
  if (partitions.rows > 0) before.unsure.add(table.oid)
}

async function privilegesLacking(ctx: Context, target: RetentionTarget): Promise<string[]> {
  return reading(ctx, async (tx) => {
    const lacking = await missingPrivileges(
      tx,
      target.table,
      target.verb === 'anonymise' ? ['select', 'update'] : ['select', 'update', 'delete'],
    )
    for (const { table } of target.descents) lacking.push(...(await missingPrivileges(tx, table, ['select', 'delete'])))
    for (const { archive } of [target, ...target.descents])
      if (archive !== undefined) lacking.push(...(await missingPrivileges(tx, archive.table, ['insert'])))
    return lacking
  })
}

/** What foreign keys do to the rows of other tables, and what they would cost. */
async function whatFollows(ctx: Context, target: RetentionTarget, still: string, before: PlannedChanges) {
  const { table, descents } = target
  const taken = new Set([table.oid, ...descents.map((descent) => descent.table.oid)])
  const stays = (other: { oid: number }) =>
    notGone(before, other.oid)
      .map((gone) => ` and ${gone}`)
      .join('')
  const all = { warnings: [] as string[], cascading: [] as Awaited<ReturnType<typeof consequences>>['cascading'] }
  const seen = new Set<string>()
  const tables = [
    { table, condition: `(${still})` },
    ...descents.map((descent, index) => ({ table: descent.table, condition: whereGoing(descents, index, table, still) })),
  ]
  for (const going of tables) {
    const found = await consequences(
      ctx,
      going,
      { known: (reference) => reference.child.oid !== going.table.oid && taken.has(reference.child.oid), stays },
      seen,
    )
    all.warnings.push(...found.warnings)
    all.cascading.push(...found.cascading)
  }
  for (const { table: child, columns, rows } of await reading(ctx, (tx) => unindexedChildren(tx, descents)))
    if (!all.warnings.some((warning) => warning.startsWith(`${child.label} `)))
      all.warnings.push(
        `${child.label} (about ${Math.round(rows)} rows) is found without an index: every batch scans it. ${createIndex(child, columns)}`,
      )
  return all
}

/** Rows of other tables that go along. */
async function planChildren(
  ctx: Context,
  target: RetentionTarget,
  still: string,
  before: PlannedChanges,
  bounded: boolean,
): Promise<PlanLine[]> {
  const lines: PlanLine[] = []
  for (const [index, { table, archive }] of target.descents.entries()) {
    const where = [whereGoing(target.descents, index, target.table, still), ...notGone(before, table.oid)].join(' and ')
    const { count, estimated } = await countOrEstimate(ctx, `${table.sql} as ${identifier(table.name)}`, where)
    lines.push({
      action: `${archive === undefined ? 'purge' : 'archive'} ${table.label} with ${target.table.label}${archive === undefined ? '' : ` to ${archive.table.label}`}`,
      target: table.label,
      count,
      unit: 'rows',
      ...(estimated || bounded || before.unknown || before.unsure.has(table.oid) ? { estimated: true } : {}),
    })
  }
  return lines
}

/** Conditions that leave out what earlier tasks of the job take away. */
function notGone(before: PlannedChanges, table: number): string[] {
  return (before.gone.get(table) ?? []).map((earlier) => `(${earlier}) is not true`)
}

/** Rows that match now, less those that will be gone by then, plus those that will have come from a table that is archived into this one. */
async function countPlanned(
  ctx: Context,
  target: RetentionTarget,
  condition: string,
  before: PlannedChanges,
): Promise<{ count: number; estimated: boolean }> {
  const { table } = target
  const conditions = [condition, ...notGone(before, table.oid)].join(' and ')
  let { count, estimated } = await countOrEstimate(ctx, table.sql, conditions)
  for (const arriving of before.incoming.get(table.oid) ?? []) {
    try {
      const more = await countOrEstimate(ctx, `(${arriving}) as ${identifier(table.name)}`, conditions)
      count += more.count
      estimated ||= more.estimated
    } catch (error) {
      // 42703: the condition looks at a column that only the archive has, such as archived_at.
      if (sqlState(error) !== '42703') throw error
      estimated = true
    }
  }
  return { count, estimated }
}
