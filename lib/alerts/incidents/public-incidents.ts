import type { Context } from '../../platform/context.ts'
import type { Row } from '../../platform/db.ts'
import { environmentOf } from '../../platform/environment.ts'
import type { IncidentState } from './incident.ts'
import { type Impact, severityOf } from './severities.ts'

/** What was said to the public, and when. */
export interface PublicUpdate {
  id: string
  at: Date
  state: IncidentState
  body: string
}

/** An incident as the public may see it: nothing of its cause, its alerts or its people. */
export interface PublicIncident {
  id: string
  title: string
  impact: Impact
  state: IncidentState
  /** Names of checks, or of components of rules: the root first. */
  components: string[]
  startedAt: Date
  resolvedAt: Date | null
  /** The id of the public incident that went on with it. */
  partOf: string | null
  /** Newest first. */
  updates: PublicUpdate[]
}

interface Found extends Row {
  id: string
  publicTitle: string | null
  component: string | null
  affected: string[]
  severity: string
  state: IncidentState
  openedAt: Date
  resolvedAt: Date | null
  partOf: string | null
  updates: { id: string; at: string; kind: string; to: string | null; body: string }[]
}

/** The public incidents that are open, or were in the last `days`; the newest first. One query. */
export async function publicIncidents(
  ctx: Pick<Context, 'db' | 'env' | 'config' | 'clock'>,
  { days = 90, limit = 100 }: { days?: number; limit?: number } = {},
): Promise<PublicIncident[]> {
  const since = new Date(ctx.clock.now().getTime() - days * 86_400_000)
  const rows = await ctx.db.query<Found>(
    `select i.id::text, i.public_title as "publicTitle", i.component, i.affected, i.severity, i.state, i.opened_at as "openedAt",
       i.resolved_at as "resolvedAt",
       (select p.id::text from caretaker.incidents p
         where i.state = 'resolved' and p.environment = i.environment and p.number = i.part_of and p.public) as "partOf", (
         select coalesce(jsonb_agg(jsonb_build_object('id', e.id::text, 'at', e.at, 'kind', e.kind, 'to', e.detail ->> 'to', 'body', e.body) order by e.id), '[]')
         from caretaker.incident_events e where e.incident = i.id and e.public and e.body is not null
       ) as updates
     from caretaker.incidents i
     where i.environment = $1 and i.public and (i.state <> 'resolved' or i.resolved_at >= $2::timestamptz)
     order by i.opened_at desc, i.number desc limit $3::int`,
    [environmentOf(ctx), since, limit],
  )
  return rows.map(({ publicTitle, component, affected, severity, updates, openedAt, ...row }) => ({
    id: row.id,
    title: publicTitle ?? 'Service disruption',
    impact: severityOf(ctx.config, severity).impact,
    state: row.state,
    components: [...new Set([...(component === null ? [] : [component]), ...affected])],
    startedAt: openedAt,
    resolvedAt: row.resolvedAt,
    partOf: row.partOf,
    updates: withStates(updates).reverse(),
  }))
}

/** An update that says nothing of the state leaves it as the one before had it. */
function withStates(updates: Found['updates']): PublicUpdate[] {
  let state: IncidentState = 'investigating'
  return updates.map(({ id, at, kind, to, body }) => {
    if (kind === 'resolved') state = 'resolved'
    else if (kind === 'reopened') state = 'investigating'
    else if (to === 'investigating' || to === 'identified' || to === 'monitoring') state = to
    return { id, at: new Date(at), state, body }
  })
}
