import type { Queryable } from '../platform/db.ts'

/** A node of `explain (format json)`: what is read of it. */
export interface PlanNode {
  'Node Type': string
  'Index Name'?: string
  'Plan Rows'?: number
  Plans?: PlanNode[]
  [key: string]: unknown
}

/** The planner's intent for one statement, which is not run. */
export async function planOf(db: Queryable, sql: string, params: readonly unknown[] = []): Promise<PlanNode> {
  const [row] = await db.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(`explain (format json) ${sql}`, params)
  const plan = row?.['QUERY PLAN'][0].Plan
  if (plan === undefined) throw new Error('explain returned no plan')
  return plan
}

export function* nodesOf(plan: PlanNode): Generator<PlanNode> {
  yield plan
  for (const child of plan.Plans ?? []) yield* nodesOf(child)
}

/** True when nothing in the plan filters: the planner has folded the condition to true. */
export function matchesEveryRow(plan: PlanNode): boolean {
  for (const node of nodesOf(plan)) for (const key of Object.keys(node)) if (/Cond$|Filter$/.test(key)) return false
  return true
}
