import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { longestReason, writtenTitle } from '../../platform/written-text.ts'
import { findIncident, type Incident, refuseResolved } from './incident.ts'
import { knownSeverity } from './severities.ts'
import { changeSeverity } from './transitions.ts'

/**
 * Makes the incident more or less severe. More is told to the channels of the new severity.
 * @throws {CaretakerError} `invalid_input` for a severity that is not in the policy; `not_found`; `conflict` where it is over
 */
export async function setSeverity(
  ctx: Context,
  input: { incident: string; severity: string; reason?: string | undefined },
): Promise<Incident> {
  const severity = knownSeverity(ctx.config, input.severity, 'severity')
  const reason = input.reason === undefined ? undefined : writtenTitle('reason', input.reason, longestReason)
  return ctx.db.transaction(async (tx) => {
    const incident = await findIncident(ctx, tx, input.incident, { forUpdate: true })
    refuseResolved(incident)
    if (incident.severity === severity.name) return incident
    const changed = await changeSeverity(tx, ctx, incident, { severity, now: ctx.clock.now(), by: ctx.actor, reason })
    await appendAudit(tx, ctx, {
      action: 'incident.severity',
      target: incident.id,
      detail: { number: incident.number, from: incident.severity, to: severity.name },
    })
    return changed
  })
}
