import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { longestText, writtenText } from '../../platform/written-text.ts'
import { findIncident, type Incident, recordEvent } from './incident.ts'

/**
 * Adds to the timeline what only operators read; also after the end.
 * @throws {CaretakerError} `invalid_input`, `not_found`
 */
export async function addNote(ctx: Context, input: { incident: string; note: string }): Promise<Incident> {
  const body = writtenText('note', input.note, longestText)
  return ctx.db.transaction(async (tx) => {
    const incident = await findIncident(ctx, tx, input.incident)
    await recordEvent(tx, incident.id, { kind: 'note', at: ctx.clock.now(), actor: ctx.actor, body })
    await appendAudit(tx, ctx, { action: 'incident.noted', target: incident.id, detail: { number: incident.number } })
    return incident
  })
}
