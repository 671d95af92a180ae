import type { Context } from '../../platform/context.ts'

/** As long as the history of health, which the status page and reports go back to. */
const keptMs = 2 * 365.25 * 86_400_000

const horizon = (ctx: Pick<Context, 'clock'>) => new Date(ctx.clock.now().getTime() - keptMs)

/** How many incidents ended so long ago that they would go now. */
export async function countOldIncidents(ctx: Context): Promise<number> {
  const [row] = await ctx.db.query<{ count: number }>(
    'select count(*)::int as count from caretaker.incidents x where x.resolved_at < $1::timestamptz',
    [horizon(ctx)],
  )
  return row?.count ?? 0
}

/** Deletes at most `limit` of them with their timelines, in one statement. @returns how many went */
export function pruneIncidents(ctx: Context, limit: number): Promise<number> {
  return ctx.db.execute(
    `delete from caretaker.incidents where id in (
       select x.id from caretaker.incidents x where x.resolved_at < $1::timestamptz limit $2::int for update of x skip locked)`,
    [horizon(ctx), limit],
  )
}
