import { type Clock, systemClock } from './clock.ts'
import type { Context } from './context.ts'
import type { Queryable } from './db.ts'

/*
 * Hosts' clocks differ; the database's is one. A clock that was put in the place of the system's is believed.
 */

/** The database's time, so that all hosts write one history. */
export async function databaseTime(ctx: Pick<Context, 'clock' | 'db'>, db: Queryable = ctx.db): Promise<Date> {
  if (ctx.clock !== systemClock) return ctx.clock.now()
  const [row] = await db.query<{ now: Date }>('select clock_timestamp() as now')
  return row?.now ?? ctx.clock.now()
}

/** The context by the database's clock, so that hosts agree on how long something holds and when something is due. */
export async function byDatabaseClock(ctx: Context): Promise<Context> {
  if (ctx.clock !== systemClock) return ctx
  const ahead = (await databaseTime(ctx)).getTime() - ctx.clock.now().getTime()
  const clock: Clock = { now: () => new Date(systemClock.now().getTime() + ahead), monotonicMs: () => systemClock.monotonicMs() }
  // The invocation ends when the host says so, by the host's clock.
  return { ...ctx, clock, deadline: new Date(ctx.deadline.getTime() + ahead) }
}
