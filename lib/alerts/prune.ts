import { durationMs } from '../config/index.ts'
import type { Context } from '../platform/context.ts'

export const prunableAlerts = ['notifications', 'silences', 'alerts'] as const
export type PrunableAlerts = (typeof prunableAlerts)[number]

// The id of an alert is kept while an incident may speak of it.
const conditions: Readonly<Record<PrunableAlerts, string>> = {
  notifications: `x.state <> 'waiting' and x.created_at < $1::timestamptz`,
  silences: 'x.ends_at < $1::timestamptz',
  alerts: `x.state = 'ok' and not x.announced and x.evaluated_at < $1::timestamptz`,
}

/** Before when it is no longer kept: as long as the history of jobs. */
function horizon(ctx: Context): Date {
  return new Date(ctx.clock.now().getTime() - durationMs(ctx.config.history?.keep ?? '90 days'))
}

/** How many would go now. */
export async function countPrunableAlerts(ctx: Context, what: PrunableAlerts): Promise<number> {
  const [row] = await ctx.db.query<{ count: number }>(`select count(*)::int as count from caretaker.${what} x where ${conditions[what]}`, [
    horizon(ctx),
  ])
  return row?.count ?? 0
}

/** Deletes at most `limit` of them in one statement. @returns how many went */
export function pruneAlerts(ctx: Context, what: PrunableAlerts, limit: number): Promise<number> {
  return ctx.db.execute(
    `delete from caretaker.${what} where id in (
       select x.id from caretaker.${what} x where ${conditions[what]} limit $2::int for update of x skip locked)`,
    [horizon(ctx), limit],
  )
}
