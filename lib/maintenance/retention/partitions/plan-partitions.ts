import type { Context } from '../../../platform/context.ts'
import type { PlanLine } from '../../../platform/job.ts'
import { countOrEstimate } from '../../count.ts'
import { reading } from '../../session-settings.ts'
import type { RetentionTarget } from '../target.ts'
import { comingPartitions } from './coming.ts'
import { leftOvers } from './drop.ts'
import { comingOptions, readWaysOut } from './run-partitions.ts'
import type { Partition } from './tree.ts'

export interface PartitionPlan {
  /** What happens before rows are looked at, and after. */
  lines: PlanLine[]
  after: PlanLine[]
  /** Rows that go with whole partitions. */
  rows: number
  warnings: string[]
}

/** What would be made, dropped and moved as a whole now. */
export async function planPartitions(ctx: Context, target: RetentionTarget, cutoff: string | null): Promise<PartitionPlan> {
  const plan: PartitionPlan = { lines: [], after: [], rows: 0, warnings: [] }
  const { table, age } = target
  if (table.kind !== 'p' || age === undefined) return plan
  const options = comingOptions(ctx, target)
  if (options !== undefined)
    for (const partition of await reading(ctx, (tx) => comingPartitions(tx, table, age, options))) {
      const warnings = [
        ...(partition.clipped
          ? [`partitions that are there do not begin with the ${options.interval} in ${options.timezone}: it fills the gap`]
          : []),
        ...(partition.rowsInDefault === 0
          ? []
          : [`${partition.rowsInDefault} rows of the default partition belong there and are moved, under its lock`]),
      ]
      plan.lines.push({
        action: `create partition ${partition.label} (${partition.from} to ${partition.to})`,
        target: table.label,
        count: 1,
        unit: 'tables',
        ...(warnings.length === 0 ? {} : { warnings }),
      })
    }
  for (const left of await reading(ctx, (tx) => leftOvers(tx, target, cutoff))) {
    if (left.state === 'attached' || left.state === 'gone') continue
    const counted = left.past ? await countOrEstimate(ctx, left.relation.sql, 'true') : { count: 0, estimated: false }
    plan.lines.push({
      action: `${left.past ? 'drop' : 'attach again'} ${left.relation.label}, which an earlier run has detached`,
      target: table.label,
      count: counted.count,
      unit: 'rows',
      ...(counted.estimated ? { estimated: true } : {}),
    })
  }
  const ways = await readWaysOut(ctx, target, cutoff)
  const whole = async (partition: Partition, action: string) => {
    const { count, estimated } = await countOrEstimate(ctx, partition.relation.sql, 'true')
    plan.rows += count
    plan.lines.push({ action, target: table.label, count, unit: 'rows', ...(estimated ? { estimated: true } : {}) })
  }
  for (const partition of ways.moved)
    await whole(partition, `move partition ${partition.relation.label} to ${target.archive?.table.label ?? 'the archive'} as it is`)
  for (const partition of ways.dropped) await whole(partition, `drop partition ${partition.relation.label}`)
  for (const { partition, because } of ways.emptied)
    plan.after.push({
      action: `drop partition ${partition.relation.label} when it is empty: ${because}`,
      target: table.label,
      count: 0,
      unit: 'rows',
    })
  for (const { partition, because } of ways.kept)
    plan.warnings.push(`the partition ${partition.relation.label} is past its date, but is emptied instead of dropped, because ${because}`)
  return plan
}
