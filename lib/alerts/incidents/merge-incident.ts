import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { stormComponent } from '../storm.ts'
import { type Incident, incidentColumns, recordEvent } from './incident.ts'
import { closeIncident } from './transitions.ts'

/**
 * Ends the incident as a part of the one of its cause: its timers stop, everybody who was told of it is told that, and what it knew the
 * other one knows: what suffers, whether the public sees it, and by when more are told where nobody has acknowledged. The caller has told
 * of the cause before, and holds both rows.
 * @returns both, as they are now
 */
export async function mergeIncident(
  tx: Transaction,
  ctx: Context,
  part: Incident,
  whole: Incident,
  now: Date,
): Promise<{ part: Incident; whole: Incident }> {
  const left = await tx.query<{ alert: string; rule: string; summary: string; since: Date }>(
    `update caretaker.incident_alerts set cleared_at = $2::timestamptz where incident = $1::uuid and cleared_at is null
     returning alert, rule, summary, since`,
    [part.id, now],
  )
  for (const { alert, rule, summary, since } of left)
    await recordEvent(tx, part.id, {
      kind: 'alert_clear',
      at: now,
      actor: { type: 'alert', rule, alert },
      detail: { summary, since, explainedBy: whole.component },
    })
  const closed = await closeIncident(tx, ctx, part, { now, by: { type: 'system' }, partOf: whole.number })
  const suffers = part.component === null || part.component === stormComponent ? part.affected : [part.component, ...part.affected]
  const affected = [...new Set([...whole.affected, ...suffers])]
  const [grown] = await tx.query<Incident>(
    `update caretaker.incidents i set affected = $2::text[], public = public or $3::boolean,
       escalate_at = case when acknowledged_at is null and escalated_at is null then least(escalate_at, $4::timestamptz) else escalate_at end
     where id = $1::uuid returning ${incidentColumns}`,
    [
      whole.id,
      affected.filter((one) => one !== whole.component),
      part.public,
      part.acknowledgedAt === null && part.escalatedAt === null ? part.escalateAt : null,
    ],
  )
  if (grown === undefined) throw new Error('the incident is gone')
  await recordEvent(tx, whole.id, {
    kind: 'note',
    at: now,
    actor: { type: 'system' },
    detail: { takesOver: part.number, component: part.component ?? part.title },
  })
  return { part: closed, whole: grown }
}
