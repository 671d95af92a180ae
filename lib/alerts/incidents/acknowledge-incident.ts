import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { findIncident, type Incident, incidentColumns, recordEvent, refuseResolved } from './incident.ts'
import { tell } from './notify.ts'

/**
 * Somebody has taken the incident on: no reminder and no escalation after this, and PagerDuty and Opsgenie hear of it. An incident
 * that somebody has taken on already stays theirs.
 * @throws {CaretakerError} `not_found`; `conflict` where it is over
 */
export async function acknowledgeIncident(ctx: Context, { incident: named }: { incident: string }): Promise<Incident> {
  return ctx.db.transaction(async (tx) => {
    const incident = await findIncident(ctx, tx, named, { forUpdate: true })
    refuseResolved(incident)
    if (incident.acknowledgedAt !== null) return incident
    const now = ctx.clock.now()
    const [acknowledged] = await tx.query<Incident>(
      `update caretaker.incidents i set acknowledged_at = $2::timestamptz, acknowledged_by = $3::jsonb, next_reminder_at = null
       where id = $1::uuid and acknowledged_at is null returning ${incidentColumns}`,
      [incident.id, now, JSON.stringify(ctx.actor)],
    )
    if (acknowledged === undefined) throw new Error('the incident was locked')
    const event = await recordEvent(tx, incident.id, { kind: 'acknowledged', at: now, actor: ctx.actor })
    await tell(tx, ctx, acknowledged, { kind: 'acknowledged', channels: acknowledged.channels, event, by: ctx.actor })
    await appendAudit(tx, ctx, { action: 'incident.acknowledged', target: incident.id, detail: { number: incident.number } })
    return acknowledged
  })
}
