import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { findIncident, type Incident, incidentColumns, recordEvent } from './incident.ts'

/**
 * Ticks off an item of the incident's checklist, or takes the tick back. What is as it was asked for stays as it is, with
 * who did it. Also after the end: the post-mortem is written then.
 * @throws {CaretakerError} `invalid_input` for a number that is not in the list; `not_found`
 */
export async function checkItem(ctx: Context, input: { incident: string; item: number; done?: boolean | undefined }): Promise<Incident> {
  const done = input.done ?? true
  return ctx.db.transaction(async (tx) => {
    const incident = await findIncident(ctx, tx, input.incident, { forUpdate: true })
    const item = incident.checklist[input.item - 1]
    if (item === undefined)
      throw new CaretakerError(
        'invalid_input',
        incident.checklist.length === 0
          ? `item: incident ${incident.number} has no checklist.`
          : `item: found ${input.item}, expected a whole number from 1 to ${incident.checklist.length}.`,
      )
    if ((item.doneAt !== null) === done) return incident
    const at = ctx.clock.now()
    const [changed] = await tx.query<Incident>(
      `update caretaker.incidents i set checklist = jsonb_set(checklist, array[$2::text], $3::jsonb) where id = $1::uuid returning ${incidentColumns}`,
      [
        incident.id,
        String(input.item - 1),
        JSON.stringify({ text: item.text, doneAt: done ? at.toISOString() : null, doneBy: done ? ctx.actor : null }),
      ],
    )
    if (changed === undefined) throw new Error('the incident was locked')
    await recordEvent(tx, incident.id, { kind: 'checked', at, actor: ctx.actor, detail: { item: input.item, text: item.text, done } })
    await appendAudit(tx, ctx, {
      action: 'incident.checked',
      target: incident.id,
      detail: { number: incident.number, item: input.item, done },
    })
    return changed
  })
}
