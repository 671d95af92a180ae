import { systemClock } from '../../platform/clock.ts'
import type { Context } from '../../platform/context.ts'
import { environmentOf } from '../../platform/environment.ts'
import { type HealthChange, whole } from './status.ts'

/**
 * How every check went in [from, to), oldest first: for each the change that still held at `from`, with the time it was made
 * at, then those within. Each holds until the next of its check. Nothing of a check that was not yet looked at.
 */
export function healthChanges(ctx: Context, { from, to }: { from: Date; to: Date }): Promise<HealthChange[]> {
  return ctx.db.query<HealthChange & Record<string, unknown>>(
    `select c.check_name as "check", c.at, c.status, c.cause from (
       select distinct on (check_name) check_name, at, status, cause from caretaker.health_changes
       where environment = $1::text and at < $2::timestamptz order by check_name, at desc
     ) c where c.check_name <> $4::text
     union all
     select check_name, at, status, cause from caretaker.health_changes
     where environment = $1::text and at >= $2::timestamptz and at < $3::timestamptz and check_name <> $4::text
     union all
     -- The last look says nothing of the time after it was valid; what is to come says nothing yet.
     select check_name, valid_until, 'unknown', null from caretaker.health_states
     where environment = $1::text and valid_until >= $2::timestamptz and valid_until < $3::timestamptz and check_name <> $4::text
       and status <> 'unknown' and valid_until <= coalesce($5::timestamptz, clock_timestamp())
     order by 2, 1`,
    [environmentOf(ctx), from, to, whole, ctx.clock === systemClock ? null : ctx.clock.now()],
  )
}
