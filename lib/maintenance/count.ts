import type { Context } from '../platform/context.ts'
import { sqlState } from '../platform/errors.ts'
import { planOf } from './explain.ts'
import { reading } from './session-settings.ts'

/** How long an exact count may take before the planner's estimate has to do. */
const countTimeoutMs = 15_000

/** Rows of `table` (quoted) that satisfy `condition`: counted, or estimated where counting takes too long. */
export async function countOrEstimate(
  ctx: Pick<Context, 'db'>,
  table: string,
  condition: string,
): Promise<{ count: number; estimated: boolean }> {
  try {
    const [row] = await reading(
      ctx,
      (tx) => tx.query<{ n: number }>(`select count(*)::float8 as n from ${table} where ${condition}`),
      countTimeoutMs,
    )
    return { count: row?.n ?? 0, estimated: false }
  } catch (error) {
    // 57014: the statement timeout.
    if (sqlState(error) !== '57014') throw error
    const plan = await reading(ctx, (tx) => planOf(tx, `select 1 from ${table} where ${condition}`))
    return { count: plan['Plan Rows'] ?? 0, estimated: true }
  }
}
