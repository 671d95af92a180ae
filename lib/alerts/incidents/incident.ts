import type { Actor } from '../../platform/actor.ts'
import type { Context } from '../../platform/context.ts'
import type { Queryable, Row, Transaction } from '../../platform/db.ts'
import { environmentOf } from '../../platform/environment.ts'
import { CaretakerError } from '../../platform/errors.ts'

export const incidentStates = ['investigating', 'identified', 'monitoring', 'resolved'] as const
export type IncidentState = (typeof incidentStates)[number]

/** Who opened, acknowledged or resolved it: a person, or the alert of a rule. */
export type IncidentActor = Actor | { type: 'alert'; rule: string; alert: string }

export interface ChecklistItem {
  text: string
  doneAt: string | null
  doneBy: Actor | null
}

export interface Incident extends Row {
  id: string
  /** What people call it: 1, 2, 3… in each environment. */
  number: number
  title: string
  publicTitle: string | null
  /** The root cause in the dependency tree; null where it was opened by hand and names none. */
  component: string | null
  severity: string
  state: IncidentState
  public: boolean
  openedAt: Date
  openedBy: IncidentActor
  acknowledgedAt: Date | null
  acknowledgedBy: Actor | null
  respondBy: Date | null
  /** When the time to respond was over and nobody had acknowledged. */
  responseMissedAt: Date | null
  escalateAt: Date | null
  escalatedAt: Date | null
  lastPagedAt: Date | null
  nextReminderAt: Date | null
  /** Since when all its alerts are clear; it ends at `resolveAt` if they stay so. */
  clearSince: Date | null
  resolveAt: Date | null
  reopened: number
  resolvedAt: Date | null
  resolvedBy: IncidentActor | null
  /** The number of the incident that it became a part of; null of one that is, or was, told for itself. */
  partOf: number | null
  rootCause: string | null
  affected: string[]
  /** Who was told of it. */
  channels: string[]
  checklist: ChecklistItem[]
}

/**
 * What `Incident` has, of the table under the alias `i`. A version of Caretaker from before there were parts brings one back without clearing
 * `part_of`: what is open is nobody's part.
 */
export const incidentColumns = `i.id::text, i.number, i.title, i.public_title as "publicTitle", i.component, i.severity, i.state, i.public,
  i.opened_at as "openedAt", i.opened_by as "openedBy", i.acknowledged_at as "acknowledgedAt", i.acknowledged_by as "acknowledgedBy",
  i.respond_by as "respondBy", i.response_missed_at as "responseMissedAt", i.escalate_at as "escalateAt", i.escalated_at as "escalatedAt",
  i.last_paged_at as "lastPagedAt", i.next_reminder_at as "nextReminderAt", i.clear_since as "clearSince", i.resolve_at as "resolveAt",
  i.reopened, i.resolved_at as "resolvedAt", i.resolved_by as "resolvedBy", case when i.state = 'resolved' then i.part_of end as "partOf", i.root_cause as "rootCause", i.affected, i.channels, i.checklist`

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/**
 * The incident of that number ("12", "#12") or id.
 * @throws {CaretakerError} `invalid_input` for what is neither; `not_found`
 */
export async function findIncident(
  ctx: Pick<Context, 'env'>,
  db: Queryable,
  named: string,
  { forUpdate = false }: { forUpdate?: boolean } = {},
): Promise<Incident> {
  const number = /^#?([1-9]\d{0,8})$/.exec(named)?.[1]
  if (number === undefined && !uuid.test(named))
    throw new CaretakerError('invalid_input', `Incident: found "${named.slice(0, 60)}", expected a number such as 12, or an id.`)
  const [found] = await db.query<Incident>(
    `select ${incidentColumns} from caretaker.incidents i
     where i.environment = $1 and (i.number = $2::int or i.id = $3::uuid)${forUpdate ? ' for update' : ''}`,
    [environmentOf(ctx), number ?? null, number === undefined ? named : null],
  )
  if (found === undefined) throw new CaretakerError('not_found', `There is no incident ${number ?? named}.`)
  return found
}

/** @throws {CaretakerError} `conflict` where it is over */
export function refuseResolved(incident: Incident): void {
  if (incident.partOf !== null)
    throw new CaretakerError('conflict', `Incident ${incident.number} is part of incident ${incident.partOf}, which speaks for both.`)
  if (incident.state === 'resolved')
    throw new CaretakerError('conflict', `Incident ${incident.number} is resolved. A note or the root cause can still be added.`)
}

export type IncidentEventKind =
  | 'opened'
  | 'alert_firing'
  | 'alert_clear'
  | 'reopened'
  | 'severity'
  | 'acknowledged'
  | 'response_missed'
  | 'escalated'
  | 'reminded'
  | 'state'
  | 'update'
  | 'note'
  | 'checked'
  | 'root_cause'
  | 'resolved'

export interface NewEvent {
  kind: IncidentEventKind
  at: Date
  actor: IncidentActor
  detail?: Record<string, unknown>
  public?: boolean
  body?: string
}

/** Adds to the timeline; the row's id. */
export async function recordEvent(tx: Transaction, incident: string, event: NewEvent): Promise<string> {
  const [row] = await tx.query<{ id: string }>(
    `insert into caretaker.incident_events (incident, at, kind, actor, detail, public, body)
     values ($1::uuid, $2::timestamptz, $3, $4::jsonb, $5::jsonb, $6::boolean, $7) returning id::text`,
    [
      incident,
      event.at,
      event.kind,
      JSON.stringify(event.actor),
      JSON.stringify(event.detail ?? {}),
      event.public ?? false,
      event.body ?? null,
    ],
  )
  return row?.id ?? ''
}

/** Adds rows to timelines, in their order, in one statement: a thousand alerts may fire at once. */
export async function recordEvents(tx: Transaction, events: readonly (NewEvent & { incident: string })[]): Promise<void> {
  if (events.length === 0) return
  await tx.execute(
    `insert into caretaker.incident_events (incident, at, kind, actor, detail, public, body)
     select (one ->> 'incident')::uuid, (one ->> 'at')::timestamptz, one ->> 'kind', one -> 'actor', coalesce(one -> 'detail', '{}'),
       coalesce((one ->> 'public')::boolean, false), one ->> 'body'
     from jsonb_array_elements($1::jsonb) with ordinality as given(one, place) order by place`,
    [JSON.stringify(events)],
  )
}

/**
 * Locks what alerts may change: before anything else, so that the audit trail's lock is only ever waited for by those who
 * have their rows. Also makes numbers and openings a line.
 */
export async function lockIncidents(tx: Transaction, ctx: Pick<Context, 'env'>, resolvedSince: Date): Promise<Incident[]> {
  await tx.query(`select pg_advisory_xact_lock(hashtextextended('caretaker:incidents:' || $1, 0))`, [environmentOf(ctx)])
  return tx.query<Incident>(
    `select ${incidentColumns} from caretaker.incidents i
     where i.environment = $1 and (i.state <> 'resolved' or i.resolved_at > $2::timestamptz
       or exists (select from caretaker.incident_alerts a where a.incident = i.id and a.cleared_at is null))
     order by i.id for update`,
    [environmentOf(ctx), resolvedSince],
  )
}
