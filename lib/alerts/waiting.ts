import type { Context } from '../platform/context.ts'
import { byDatabaseClock } from '../platform/database-clock.ts'
import { environmentOf } from '../platform/environment.ts'
import { sendingWaits } from './sending-queries.ts'

/*
 * What the clock asks every minute. Queries alone: the functions that ask carry nothing of what alerts do.
 */

/** Nobody has looked for so long: somebody should, though no check was made. Seconds. */
const lookEverySeconds = 90

/** Whether the rules are to be looked at though no look at health has just ended: something happened, or nobody has for a while. */
export async function alertsWait(ctx: Context): Promise<boolean> {
  const [row] = await ctx.db.query<{ waits: boolean }>(
    `select (exists (select from caretaker.outbox where delivered_at is null)
         and ($1 = 'production' or not exists (
           select from caretaker.alert_evaluations where environment = 'production' and at > clock_timestamp() - interval '1 day')))
       or not exists (select from caretaker.alert_evaluations where environment = $1 and at > clock_timestamp() - make_interval(secs => $2::float8)) as waits`,
    [environmentOf(ctx), lookEverySeconds],
  )
  return row?.waits === true
}

/** Whether somebody is to be told of something now. */
export async function notifyWaits(given: Context): Promise<boolean> {
  const ctx = await byDatabaseClock(given)
  return sendingWaits(ctx.db, environmentOf(ctx), ctx.clock.now())
}
