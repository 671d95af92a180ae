import type { Context } from '../../platform/context.ts'
import { environmentOf } from '../../platform/environment.ts'
import { type Incident, incidentColumns } from './incident.ts'

export interface IncidentFilter {
  /** Default `all`. */
  state?: 'open' | 'resolved' | 'all'
  /** Default 50. */
  limit?: number
  /** Only those with a smaller number: the next page. */
  before?: number
}

/** Incidents, open ones first, then the newest first. */
export function listIncidents(
  ctx: Pick<Context, 'db' | 'env'>,
  { state = 'all', limit = 50, before }: IncidentFilter = {},
): Promise<Incident[]> {
  return ctx.db.query<Incident>(
    `select ${incidentColumns} from caretaker.incidents i
     where i.environment = $1 and ($2 = 'all' or (i.state = 'resolved') = ($2 = 'resolved')) and ($3::int is null or i.number < $3::int)
     order by (i.state = 'resolved'), i.number desc limit $4::int`,
    [environmentOf(ctx), state, before ?? null, limit],
  )
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
