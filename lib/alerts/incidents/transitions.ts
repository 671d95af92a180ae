import { defaultChecklist } from '../../config/schema/incidents.ts'
import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { environmentOf } from '../../platform/environment.ts'
import { type ChecklistItem, type Incident, type IncidentActor, incidentColumns, recordEvent } from './incident.ts'
import { channelsOf, channelsWith, remindEveryMs, tell } from './notify.ts'
import { type Severity, severityOf, timersOf } from './severities.ts'

/*
 * What an incident goes through, each with its row of the timeline and the notification of it. The caller holds the
 * incident's row locked and appends the audit row.
 */

export interface Opening {
  title: string
  publicTitle?: string | undefined
  component: string | null
  severity: Severity
  affected: string[]
  /** Instead of the severity's; [] for nobody, later neither. */
  channels?: readonly string[] | 'all' | undefined
  /** What ends as a part of it: who was told of that is told of this. */
  takesOver?: readonly Incident[] | undefined
  public?: boolean | undefined
  openedBy: IncidentActor
  /** Since when it is so. */
  since: Date
  now: Date
  /** What an opener says to the public. */
  message?: string | undefined
  /** Runs when the row is there, before anybody is told. */
  before?: (incident: Incident) => Promise<void>
}

/** Opens an incident and tells its channels; where it escalates at once, in the same message. */
export async function insertIncident(tx: Transaction, ctx: Context, opening: Opening): Promise<Incident> {
  const { severity, now, takesOver = [] } = opening
  const { respondBy, ...timers } = await timersOf(tx, ctx.config, severity, now)
  // A rule that names no channel means that nobody is told, later neither.
  const escalateAt = opening.channels?.length === 0 ? null : timers.escalateAt
  const atOnce = escalateAt !== null && escalateAt.getTime() <= now.getTime()
  const asked = channelsOf(ctx, [
    ...channelsOf(ctx, opening.channels ?? severity.notify),
    ...(atOnce ? channelsOf(ctx, severity.escalateTo) : []),
  ])
  const channels = takesOver.length === 0 ? asked : channelsWith(ctx, asked, toldOf(takesOver))
  const checklist: ChecklistItem[] = (ctx.config.incidents?.checklist ?? defaultChecklist).map((text) => ({
    text,
    doneAt: null,
    doneBy: null,
  }))
  const [incident] = await tx.query<Incident>(
    `insert into caretaker.incidents as i (environment, number, title, public_title, component, severity, public, opened_at, opened_by,
       respond_by, escalate_at, escalated_at, last_paged_at, next_reminder_at, affected, channels, checklist)
     select $1, coalesce(max(number), 0) + 1, $2, $3, $4, $5, $6::boolean, $7::timestamptz, $8::jsonb, $9::timestamptz, $10::timestamptz,
       case when $11::boolean then $7::timestamptz end, case when $12::boolean then $7::timestamptz end, $13::timestamptz, $14::text[], $15::text[], $16::jsonb
     from caretaker.incidents where environment = $1
     returning ${incidentColumns}`,
    [
      environmentOf(ctx),
      opening.title,
      opening.publicTitle ?? null,
      opening.component,
      severity.name,
      opening.public ?? severity.public,
      now,
      JSON.stringify(opening.openedBy),
      respondBy,
      escalateAt,
      atOnce,
      channels.length > 0,
      new Date(now.getTime() + remindEveryMs(ctx.config)),
      opening.affected,
      channels,
      JSON.stringify(checklist),
    ],
  )
  if (incident === undefined) throw new Error('the incident was not inserted')
  const event = await recordEvent(tx, incident.id, {
    kind: 'opened',
    at: now,
    actor: opening.openedBy,
    detail: {
      severity: severity.name,
      component: opening.component,
      since: opening.since,
      channels,
      ...(atOnce ? { escalated: true } : {}),
    },
    public: true,
    body: opening.message ?? 'We are investigating.',
  })
  await opening.before?.(incident)
  await tell(tx, ctx, incident, { kind: 'opened', channels, event, by: opening.openedBy, takesOver: numbersOf(takesOver) })
  return incident
}

const toldOf = (incidents: readonly Incident[]) => incidents.flatMap(({ channels }) => channels)
const numbersOf = (incidents: readonly Incident[]) => incidents.map(({ number }) => number).sort((a, b) => a - b)

/** Makes the incident as severe as `name` if that is more than it is; null where it is not. Never less severe. `quiet`: nobody has to hear of it. */
export async function raiseIncident(
  tx: Transaction,
  ctx: Context,
  incident: Incident,
  name: string,
  now: Date,
  by: IncidentActor,
  quiet = false,
): Promise<Incident | null> {
  if (severityOf(ctx.config, name).rank >= severityOf(ctx.config, incident.severity).rank) return null
  const severity = severityOf(ctx.config, name)
  const nobody = quiet && isQuiet(incident)
  return changeSeverity(tx, ctx, incident, {
    severity: nobody ? { ...severity, notify: [], escalateTo: [], escalateAfter: null } : severity,
    now,
    by,
  })
}

/** Whether nobody was told, and nobody will be. */
export function isQuiet({ channels, escalateAt }: Pick<Incident, 'channels' | 'escalateAt'>): boolean {
  return channels.length === 0 && escalateAt === null
}

/**
 * Tells the channels that alerts which joined it ask for, and those that know of what it takes over, as far as they have not been told: to
 * them it is new.
 */
export async function tellMore(
  tx: Transaction,
  ctx: Context,
  incident: Incident,
  wanted: readonly string[] | 'all',
  now: Date,
  by: IncidentActor,
  takesOver: readonly Incident[] = [],
): Promise<Incident> {
  const asked = channelsWith(ctx, channelsOf(ctx, wanted), toldOf(takesOver)).filter((name) => !incident.channels.includes(name))
  if (asked.length === 0) return incident
  // Of a quiet incident nobody had to be told: from now on somebody has.
  const starts = isQuiet(incident) && incident.acknowledgedAt === null
  const severity = severityOf(ctx.config, incident.severity)
  const escalateAt = starts ? (await timersOf(tx, ctx.config, severity, now)).escalateAt : incident.escalateAt
  const atOnce = starts && escalateAt !== null && escalateAt.getTime() <= now.getTime()
  const more = channelsWith(ctx, asked, atOnce ? channelsOf(ctx, severity.escalateTo) : [])
  const [told] = await tx.query<Incident>(
    `update caretaker.incidents i set channels = channels || $2::text[], last_paged_at = $3::timestamptz, escalate_at = $4::timestamptz,
       escalated_at = case when $5::boolean then $3::timestamptz else escalated_at end,
       -- Who was told a minute ago is not reminded of it now.
       next_reminder_at = case when acknowledged_at is null then $6::timestamptz end
     where id = $1::uuid returning ${incidentColumns}`,
    [incident.id, more, now, escalateAt, atOnce, new Date(now.getTime() + remindEveryMs(ctx.config))],
  )
  if (told === undefined) throw new Error('the incident is gone')
  const event = await recordEvent(tx, incident.id, { kind: 'note', at: now, actor: by, detail: { channels: more } })
  await tell(tx, ctx, told, { kind: 'opened', channels: more, event, by, takesOver: numbersOf(takesOver) })
  return told
}

/**
 * Gives the incident another severity. Its clocks start again from now where nobody has acknowledged; a time that would have
 * come earlier stays. A rise is told, a fall only recorded.
 */
export async function changeSeverity(
  tx: Transaction,
  ctx: Context,
  incident: Incident,
  { severity, now, by, reason }: { severity: Severity; now: Date; by: IncidentActor; reason?: string | undefined },
): Promise<Incident> {
  const rises = severity.rank < severityOf(ctx.config, incident.severity).rank
  const fresh = await timersOf(tx, ctx.config, severity, now)
  const earlier = (old: Date | null, next: Date | null) => (rises && old !== null && next !== null && old < next ? old : next)
  const escalateAt = earlier(incident.escalatedAt === null ? incident.escalateAt : null, fresh.escalateAt)
  const atOnce = rises && severity.escalateAfter === 'immediately'
  const told = rises
    ? channelsWith(ctx, incident.channels, [...channelsOf(ctx, severity.notify), ...(atOnce ? channelsOf(ctx, severity.escalateTo) : [])])
    : incident.channels
  const [changed] = await tx.query<Incident>(
    `update caretaker.incidents i set severity = $2, public = public or ($3::boolean and $4::boolean), channels = $5::text[],
       respond_by = case when acknowledged_at is null then $6::timestamptz else respond_by end,
       response_missed_at = case when acknowledged_at is null and $3::boolean then null else response_missed_at end,
       escalate_at = case when acknowledged_at is null then $7::timestamptz else escalate_at end,
       -- What was escalated for less may have to be again for more.
       escalated_at = case when $8::boolean then $9::timestamptz when $3::boolean and acknowledged_at is null then null else escalated_at end,
       last_paged_at = case when $3::boolean then $9::timestamptz else last_paged_at end,
       next_reminder_at = case when $3::boolean and acknowledged_at is null then $10::timestamptz else next_reminder_at end
     where id = $1::uuid returning ${incidentColumns}`,
    [
      incident.id,
      severity.name,
      rises,
      severity.public,
      told,
      earlier(incident.respondBy, fresh.respondBy),
      escalateAt,
      atOnce,
      now,
      new Date(now.getTime() + remindEveryMs(ctx.config)),
    ],
  )
  if (changed === undefined) throw new Error('the incident is gone')
  const event = await recordEvent(tx, incident.id, {
    kind: 'severity',
    at: now,
    actor: by,
    detail: {
      from: incident.severity,
      to: severity.name,
      ...(reason === undefined ? {} : { reason }),
      ...(rises ? { channels: told } : {}),
    },
  })
  if (rises) await tell(tx, ctx, changed, { kind: 'raised', channels: told, event, by })
  return changed
}

/** Brings an incident back that had ended: somebody is asked for again, and the channels in `wanted`. */
export async function reopenIncident(
  tx: Transaction,
  ctx: Context,
  incident: Incident,
  severityName: string,
  now: Date,
  by: IncidentActor,
  wanted: readonly string[] | 'all' = [],
  takesOver: readonly Incident[] = [],
): Promise<Incident> {
  const before = severityOf(ctx.config, incident.severity)
  const asked = severityOf(ctx.config, severityName)
  const severity = asked.rank < before.rank ? asked : before
  const { respondBy, ...timers } = await timersOf(tx, ctx.config, severity, now)
  const quiet = isQuiet(incident) && channelsOf(ctx, wanted).length === 0 && toldOf(takesOver).length === 0
  const escalateAt = quiet ? null : timers.escalateAt
  const atOnce = escalateAt !== null && escalateAt.getTime() <= now.getTime()
  const channels = channelsWith(ctx, incident.channels, [
    ...channelsOf(ctx, wanted),
    ...toldOf(takesOver),
    ...channelsOf(ctx, quiet || severity === before ? [] : severity.notify),
    ...(atOnce ? channelsOf(ctx, severity.escalateTo) : []),
  ])
  const [reopened] = await tx.query<Incident>(
    `update caretaker.incidents i set state = 'investigating', resolved_at = null, resolved_by = null, part_of = null, severity = $2, reopened = reopened + 1,
       acknowledged_at = null, acknowledged_by = null, clear_since = null, resolve_at = null, response_missed_at = null,
       respond_by = $3::timestamptz, escalate_at = $4::timestamptz, escalated_at = case when $5::boolean then $6::timestamptz end,
       last_paged_at = $6::timestamptz, next_reminder_at = $7::timestamptz, channels = $8::text[]
     where id = $1::uuid returning ${incidentColumns}`,
    [incident.id, severity.name, respondBy, escalateAt, atOnce, now, new Date(now.getTime() + remindEveryMs(ctx.config)), channels],
  )
  if (reopened === undefined) throw new Error('the incident is gone')
  const event = await recordEvent(tx, incident.id, {
    kind: 'reopened',
    at: now,
    actor: by,
    detail: { severity: severity.name, channels },
    public: true,
    body: 'It has come back. We are investigating.',
  })
  await tell(tx, ctx, reopened, { kind: 'reopened', channels, event, by, takesOver: numbersOf(takesOver) })
  return reopened
}

export interface Closing {
  now: Date
  by: IncidentActor
  /** Instead of the sentence that stands for none, for the public, too. */
  message?: string | undefined
  /** What operators read beside it. */
  text?: string | undefined
  /** The number of the incident that goes on with it. */
  partOf?: number | undefined
}

/** Ends the incident, and tells everybody who was told of it. */
export async function closeIncident(
  tx: Transaction,
  ctx: Context,
  incident: Incident,
  { now, by, message, text = message, partOf }: Closing,
): Promise<Incident> {
  const [closed] = await tx.query<Incident>(
    `update caretaker.incidents i set state = 'resolved', resolved_at = $2::timestamptz, resolved_by = $3::jsonb, next_reminder_at = null,
       clear_since = null, resolve_at = null, part_of = $4::int
     where id = $1::uuid and state <> 'resolved' returning ${incidentColumns}`,
    [incident.id, now, JSON.stringify(by), partOf ?? null],
  )
  if (closed === undefined) throw new Error('the incident had ended')
  const event = await recordEvent(tx, incident.id, {
    kind: 'resolved',
    at: now,
    actor: by,
    ...(partOf === undefined ? {} : { detail: { partOf } }),
    public: true,
    body: message ?? (partOf === undefined ? 'This is resolved.' : 'This is part of another incident, which we are working on.'),
  })
  await tell(tx, ctx, closed, {
    kind: 'resolved',
    channels: closed.channels,
    event,
    by,
    ...(text === undefined ? {} : { text }),
  })
  return closed
}
