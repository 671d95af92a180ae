import { systemClock } from '../platform/clock.ts'
import type { Context } from '../platform/context.ts'

/**
 * The instant that slots are judged by: the database's, so that hosts whose clocks differ agree on what is due. A clock
 * that was put in the place of the system's is believed.
 */
export async function planningTime(ctx: Pick<Context, 'clock' | 'db'>): Promise<Date> {
  if (ctx.clock !== systemClock) return ctx.clock.now()
  const [row] = await ctx.db.query<{ now: Date }>('select clock_timestamp() as now')
  return row?.now ?? ctx.clock.now()
}

/** What this deployment is called in the ledger, where several work on one database. */
export function deploymentName(ctx: Pick<Context, 'env'>): string {
  return ctx.env.CARETAKER_DEPLOYMENT ?? 'default'
}
