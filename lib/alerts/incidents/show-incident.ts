import type { Context } from '../../platform/context.ts'
import type { Row } from '../../platform/db.ts'
import { findIncident, type Incident, type IncidentActor, type IncidentEventKind } from './incident.ts'

/** One row of the timeline. */
export interface IncidentEvent extends Row {
  id: string
  at: Date
  kind: IncidentEventKind
  actor: IncidentActor
  detail: Record<string, unknown>
  /** On the status page, if the incident is. */
  public: boolean
  body: string | null
}

export interface IncidentAlert extends Row {
  alert: string
  rule: string
  component: string
  severity: string
  since: Date
  /** Null while it fires. */
  clearedAt: Date | null
  summary: string
  cause: string | null
  value: number | null
  runbook: string | null
}

export interface IncidentDetail {
  incident: Incident
  alerts: IncidentAlert[]
  /** Oldest first. */
  timeline: IncidentEvent[]
}

/**
 * One incident with its alerts and its timeline, by number or id.
 * @throws {CaretakerError} `not_found`, `invalid_input`
 */
export async function showIncident(ctx: Pick<Context, 'db' | 'env'>, named: string): Promise<IncidentDetail> {
  const { older: _whole, ...detail } = await showIncidentPart(ctx, named)
  return detail
}

/**
 * The same with a part of its timeline: the newest `events` of those before the event `before`. `older`: the event that the part
 * before it ends above, or null where there is none.
 * @throws {CaretakerError} `not_found`, `invalid_input`
 */
export async function showIncidentPart(
  ctx: Pick<Context, 'db' | 'env'>,
  named: string,
  part: { events?: number; before?: string | undefined } = {},
): Promise<IncidentDetail & { older: string | null }> {
  const incident = await findIncident(ctx, ctx.db, named)
  const most = part.events ?? null
  const [alerts, newest] = await Promise.all([
    ctx.db.query<IncidentAlert>(
      `select alert, rule, component, severity, since, cleared_at as "clearedAt", summary, cause, value, runbook
       from caretaker.incident_alerts where incident = $1::uuid order by since, alert`,
      [incident.id],
    ),
    ctx.db.query<IncidentEvent>(
      `select e.id::text, e.at, e.kind, e.actor, e.detail, e.public, e.body from caretaker.incident_events e
       where e.incident = $1::uuid and ($2::bigint is null or e.id < $2::bigint) order by e.id desc limit $3::int`,
      [incident.id, part.before ?? null, most === null ? null : most + 1],
    ),
  ])
  const timeline = (most === null ? newest : newest.slice(0, most)).reverse()
  return { incident, alerts, timeline, older: newest.length > timeline.length ? (timeline[0]?.id ?? null) : null }
}
