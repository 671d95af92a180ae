import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { longestText, writtenText, writtenTitle } from '../../platform/written-text.ts'
import { type Incident, lockIncidents } from './incident.ts'
import { knownSeverity } from './severities.ts'
import { insertIncident } from './transitions.ts'

export interface OpenIncident {
  /** For operators. */
  title: string
  severity: string
  /** What is broken; alerts of the same component join the incident. */
  component?: string | undefined
  /** What suffers from it. */
  affected?: readonly string[] | undefined
  /** Whether the status page shows it. Default: as the severity says. */
  public?: boolean | undefined
  /** What the status page calls it. Default "Service disruption". */
  publicTitle?: string | undefined
  /** The first update on the status page. */
  message?: string | undefined
}

const componentPattern = /^[a-z0-9][\w.-]{0,62}$/

/**
 * Opens an incident by hand and tells the channels of its severity.
 * @throws {CaretakerError} `invalid_input`; `conflict` where one of the component is open
 */
export async function openIncident(ctx: Context, input: OpenIncident): Promise<Incident> {
  const severity = knownSeverity(ctx.config, input.severity, 'severity')
  const title = writtenTitle('title', input.title)
  const publicTitle = input.publicTitle === undefined ? undefined : writtenTitle('publicTitle', input.publicTitle)
  const message = input.message === undefined ? undefined : writtenText('message', input.message, longestText)
  const components = [...(input.component === undefined ? [] : [input.component]), ...(input.affected ?? [])]
  const wrong = components.find((one) => !componentPattern.test(one))
  if (wrong !== undefined)
    throw new CaretakerError(
      'invalid_input',
      `component: found "${wrong.slice(0, 80)}", expected lower-case letters, digits, ".", "_" and "-", such as the name of a check.`,
    )
  return ctx.db.transaction(async (tx) => {
    const open = (await lockIncidents(tx, ctx, ctx.clock.now())).find(
      (one) => one.state !== 'resolved' && input.component !== undefined && one.component === input.component,
    )
    if (open !== undefined)
      throw new CaretakerError(
        'conflict',
        `Incident ${open.number} of "${input.component}" is open already. Add to it, or leave the component out.`,
      )
    const incident = await insertIncident(tx, ctx, {
      title,
      publicTitle,
      component: input.component ?? null,
      severity,
      affected: [...new Set(input.affected ?? [])],
      public: input.public,
      openedBy: ctx.actor,
      since: ctx.clock.now(),
      now: ctx.clock.now(),
      message,
    })
    await appendAudit(tx, ctx, {
      action: 'incident.opened',
      target: incident.id,
      detail: { number: incident.number, component: incident.component, severity: severity.name },
    })
    return incident
  })
}
