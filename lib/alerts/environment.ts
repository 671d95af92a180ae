import { type Clock, systemClock } from '../platform/clock.ts'
import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'

/** Under what, and for whose policy: another deployment on the same database must not end what this one watches. */
export function scopeOf(ctx: Pick<Context, 'env'>): { environment: string; deployment: string } {
  return { environment: environmentOf(ctx), deployment: ctx.env.CARETAKER_DEPLOYMENT ?? 'default' }
}

/**
 * The context by the database's clock, so that hosts whose clocks differ agree on how long something holds and when something is
 * due. A clock that was put in the place of the system's is believed.
 */
export async function byDatabaseClock(ctx: Context): Promise<Context> {
  if (ctx.clock !== systemClock) return ctx
  const [row] = await ctx.db.query<{ now: Date }>('select clock_timestamp() as now')
  const ahead = row === undefined ? 0 : row.now.getTime() - ctx.clock.now().getTime()
  const clock: Clock = { now: () => new Date(systemClock.now().getTime() + ahead), monotonicMs: () => systemClock.monotonicMs() }
  // The invocation ends when the host says so, by the host's clock.
  return { ...ctx, clock, deadline: new Date(ctx.deadline.getTime() + ahead) }
}
