import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { longestText, writtenText, writtenTitle } from '../../platform/written-text.ts'
import { findIncident, type Incident, type IncidentState, incidentColumns, recordEvent, refuseResolved } from './incident.ts'
import { tell } from './notify.ts'

export interface IncidentUpdate {
  incident: string
  state?: Exclude<IncidentState, 'resolved'> | undefined
  /** For the status page, if the incident is on it, and for everybody who was told. */
  message?: string | undefined
  /** Puts it on the status page, or takes it off. */
  public?: boolean | undefined
  /** What the status page calls it. */
  publicTitle?: string | undefined
  /** For operators; also after it is over. */
  rootCause?: string | undefined
}

/** What is said of a state where nobody says more. */
const stateMessages: Record<Exclude<IncidentState, 'resolved'>, string> = {
  investigating: 'We are investigating.',
  identified: 'The cause has been found. We are working on it.',
  monitoring: 'A fix is in place. We are watching whether it holds.',
}

/**
 * Moves the incident on and says so to the public; notes what caused it. After its end only the root cause and what the
 * status page shows can be changed.
 * @throws {CaretakerError} `invalid_input` where there is nothing to change; `not_found`; `conflict` where it is over
 */
export async function updateIncident(ctx: Context, input: IncidentUpdate): Promise<Incident> {
  const { state } = input
  const message = input.message === undefined ? undefined : writtenText('message', input.message, longestText)
  const publicTitle = input.publicTitle === undefined ? undefined : writtenTitle('publicTitle', input.publicTitle)
  const rootCause = input.rootCause === undefined ? undefined : writtenText('rootCause', input.rootCause, longestText)
  if ([state, message, publicTitle, rootCause, input.public].every((one) => one === undefined))
    throw new CaretakerError('invalid_input', 'Nothing to change: expected state, message, public, publicTitle or rootCause.')
  return ctx.db.transaction(async (tx) => {
    const before = await findIncident(ctx, tx, input.incident, { forUpdate: true })
    const moves = state !== undefined && state !== before.state
    if (message !== undefined || state !== undefined) refuseResolved(before)
    const [after] = await tx.query<Incident>(
      `update caretaker.incidents i set state = coalesce($2, state), public = coalesce($3::boolean, public),
         public_title = coalesce($4, public_title), root_cause = coalesce($5, root_cause)
       where id = $1::uuid returning ${incidentColumns}`,
      [before.id, state ?? null, input.public ?? null, publicTitle ?? null, rootCause ?? null],
    )
    if (after === undefined) throw new Error('the incident was locked')
    const at = ctx.clock.now()
    if (message !== undefined || moves) {
      const event = await recordEvent(tx, before.id, {
        kind: message === undefined ? 'state' : 'update',
        at,
        actor: ctx.actor,
        detail: moves ? { from: before.state, to: state } : {},
        public: true,
        body: message ?? stateMessages[state as keyof typeof stateMessages],
      })
      if (message !== undefined)
        await tell(tx, ctx, after, { kind: 'update', channels: after.channels, event, by: ctx.actor, text: message })
    }
    const shown = {
      ...(input.public === undefined || input.public === before.public ? {} : { public: input.public }),
      ...(publicTitle === undefined || publicTitle === before.publicTitle ? {} : { publicTitle }),
    }
    if (Object.keys(shown).length > 0) await recordEvent(tx, before.id, { kind: 'note', at, actor: ctx.actor, detail: shown })
    if (rootCause !== undefined) await recordEvent(tx, before.id, { kind: 'root_cause', at, actor: ctx.actor, body: rootCause })
    await appendAudit(tx, ctx, {
      action: 'incident.updated',
      target: before.id,
      // What was written stays in the timeline: the trail cannot forget it.
      detail: {
        number: before.number,
        ...(moves ? { from: before.state, to: state } : {}),
        ...(shown.public === undefined ? {} : { public: shown.public }),
        written: [message === undefined ? [] : ['message'], rootCause === undefined ? [] : ['rootCause']].flat(),
      },
    })
    return after
  })
}
