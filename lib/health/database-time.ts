import { systemClock } from '../platform/clock.ts'
import type { Context } from '../platform/context.ts'
import type { Queryable } from '../platform/db.ts'

/** The database's time, so that hosts whose clocks differ write one history. A clock put in the place of the system's is believed. */
export async function databaseTime(ctx: Pick<Context, 'clock' | 'db'>, db: Queryable = ctx.db): Promise<Date> {
  if (ctx.clock !== systemClock) return ctx.clock.now()
  const [row] = await db.query<{ now: Date }>('select clock_timestamp() as now')
  return row?.now ?? ctx.clock.now()
}
