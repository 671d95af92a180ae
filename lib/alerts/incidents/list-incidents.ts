import type { Context } from '../../platform/context.ts'
import { environmentOf } from '../../platform/environment.ts'
import { type Incident, incidentColumns } from './incident.ts'

export interface IncidentFilter {
  /** Default `all`. */
  state?: 'open' | 'resolved' | 'all'
  /** Default 50. */
  limit?: number
  /** The number of the last one of the page before: what comes after it. */
  before?: number
  /** Whether that one was open or over when it was shown. Default `resolved`; only of `all`. */
  beforeState?: 'open' | 'resolved'
}

/**
 * Incidents, open ones first, then the newest first. What is resolved between two pages may be on both; none that was there before the
 * first page and did not come back meanwhile is on neither.
 */
export function listIncidents(
  ctx: Pick<Context, 'db' | 'env'>,
  { state = 'all', limit = 50, before, beforeState = 'resolved' }: IncidentFilter = {},
): Promise<Incident[]> {
  // Behind an open one come the older open ones and everything that is over, whatever its number.
  const amongOpen = state === 'all' ? beforeState === 'open' : state === 'open'
  return ctx.db.query<Incident>(
    `select ${incidentColumns} from caretaker.incidents i
     where i.environment = $1 and ($2 = 'all' or (i.state = 'resolved') = ($2 = 'resolved'))
       and ($3::int is null or (i.state = 'resolved' and $5::boolean) or (i.number < $3::int and (i.state = 'resolved' or $5::boolean)))
     order by (i.state = 'resolved'), i.number desc limit $4::int`,
    [environmentOf(ctx), state, before ?? null, limit, amongOpen],
  )
}

/** What to ask the next page by, after a page of `limit`; null where there is none. */
export function nextPage(incidents: readonly Incident[], limit: number): Required<Pick<IncidentFilter, 'before' | 'beforeState'>> | null {
  const last = incidents.at(-1)
  if (last === undefined || incidents.length < limit) return null
  return { before: last.number, beforeState: last.state === 'resolved' ? 'resolved' : 'open' }
}

/** How many incidents are open in the other environments on this database, by their names: who sees none may be looking in the wrong one. */
export async function openElsewhere(ctx: Pick<Context, 'db' | 'env'>): Promise<Record<string, number>> {
  const rows = await ctx.db.query<{ environment: string; count: number }>(
    `select environment, count(*)::int as count from caretaker.incidents where environment <> $1 and state <> 'resolved'
     group by environment order by environment`,
    [environmentOf(ctx)],
  )
  return Object.fromEntries(rows.map(({ environment, count }) => [environment, count]))
}
