import { durationMs, type Policy } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { channelNames } from '../channels/names.ts'
import { enqueueNotification } from '../enqueue-notification.ts'
import type { NotificationKind, NotificationPayload } from '../types.ts'
import type { Incident, IncidentActor } from './incident.ts'

/** How often an incident that nobody has acknowledged is told of again, and for how long one that ended can come back, ms. */
export function remindEveryMs(config: Pick<Policy, 'alerts'>): number {
  return durationMs(config.alerts?.remindEvery ?? '4 hours')
}

/** The channels that are meant and that there are. */
export function channelsOf(ctx: Pick<Context, 'config' | 'env'>, wanted: readonly string[] | 'all'): string[] {
  const known = channelNames(ctx)
  return wanted === 'all' ? known : known.filter((name) => wanted.includes(name))
}

/** Who was told, and `more`, in the policy's order. Who was told and is not in the policy here may be another deployment's channel. */
export function channelsWith(ctx: Pick<Context, 'config' | 'env'>, told: readonly string[], more: readonly string[]): string[] {
  const known = channelNames(ctx)
  const all = [...new Set([...told, ...more])]
  return [...known.filter((name) => all.includes(name)), ...all.filter((name) => !known.includes(name))]
}

export interface Telling {
  kind: Exclude<NotificationKind, 'watching'>
  channels: readonly string[]
  /** The row of the timeline that it tells of: telling it twice is one message. */
  event: string
  by?: IncidentActor
  text?: string
  /** Numbers of the incidents that end as parts of this one. */
  takesOver?: readonly number[]
}

/** Notes that people are to be told of the incident, in the state it is in now; nothing is sent inside the transaction. */
export async function tell(tx: Transaction, ctx: Context, incident: Incident, telling: Telling): Promise<void> {
  const { kind, channels, event, by, text, takesOver = [] } = telling
  if (channels.length === 0) return
  const alerts = await tx.query<{ summary: string; cause: string | null; runbook: string | null; since: Date }>(
    `select summary, cause, runbook, since from caretaker.incident_alerts
     where incident = $1::uuid and (cleared_at is null or $2::boolean) order by since, alert`,
    [incident.id, incident.state === 'resolved'],
  )
  const cause = alerts.find((one) => one.cause !== null)?.cause
  const runbook = alerts.find((one) => one.runbook !== null)?.runbook
  const sentences = [...new Set(alerts.map((one) => one.summary))]
  const payload: NotificationPayload = {
    number: incident.number,
    title: incident.title,
    component: incident.component ?? 'by hand',
    // An alert that came back says since when it is there now.
    since: (alerts[0]?.since ?? incident.openedAt).toISOString(),
    affected: incident.affected,
    ...(sentences.length === 0 ? {} : { summary: sentences.slice(0, 20).join('\n') }),
    ...(cause === undefined || cause === null ? {} : { cause }),
    ...(runbook === undefined || runbook === null ? {} : { runbook }),
    ...(incident.resolvedAt === null ? {} : { until: incident.resolvedAt.toISOString() }),
    ...(incident.respondBy === null || incident.acknowledgedAt !== null ? {} : { respondBy: incident.respondBy.toISOString() }),
    ...(incident.partOf === null ? {} : { partOf: incident.partOf }),
    ...(takesOver.length === 0 ? {} : { takesOver: [...takesOver] }),
    ...(text === undefined ? {} : { text }),
    ...(by === undefined ? {} : { by: actorName(by) }),
  }
  await enqueueNotification(tx, ctx, {
    incident: incident.id,
    kind,
    severity: incident.severity,
    channels,
    key: `${kind}:${event}`,
    payload,
  })
}

/** Who it was, for people to read: a role or a kind, never a name. */
export function actorName(actor: IncidentActor): string {
  switch (actor.type) {
    case 'operator':
      return `${actor.role} ${actor.id.slice(0, 8)}`
    case 'alert':
      return `alert ${actor.rule}`
    case 'cli':
      return 'the command line'
    case 'system':
      return 'Caretaker'
    case 'provider':
      return actor.source
    default:
      return actor.type
  }
}
