import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { longestText, writtenText } from '../../platform/written-text.ts'
import { findIncident, type Incident, recordEvent, refuseResolved } from './incident.ts'
import { closeIncident } from './transitions.ts'

/**
 * Ends the incident, and tells everybody who was told of it. An alert of it that still fires brings it back after a reminder
 * period.
 * @throws {CaretakerError} `invalid_input`; `not_found`; `conflict` where it is over
 */
export async function resolveIncident(
  ctx: Context,
  input: { incident: string; message?: string | undefined; rootCause?: string | undefined },
): Promise<Incident> {
  const message = input.message === undefined ? undefined : writtenText('message', input.message, longestText)
  const rootCause = input.rootCause === undefined ? undefined : writtenText('rootCause', input.rootCause, longestText)
  return ctx.db.transaction(async (tx) => {
    const incident = await findIncident(ctx, tx, input.incident, { forUpdate: true })
    refuseResolved(incident)
    const now = ctx.clock.now()
    if (rootCause !== undefined) {
      await tx.execute('update caretaker.incidents set root_cause = $2 where id = $1::uuid', [incident.id, rootCause])
      await recordEvent(tx, incident.id, { kind: 'root_cause', at: now, actor: ctx.actor, body: rootCause })
    }
    const closed = await closeIncident(tx, ctx, incident, { now, by: ctx.actor, message })
    await appendAudit(tx, ctx, { action: 'incident.resolved', target: incident.id, detail: { number: incident.number } })
    return closed
  })
}
