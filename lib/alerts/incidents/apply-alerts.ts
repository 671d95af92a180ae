import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { environmentOf } from '../../platform/environment.ts'
import type { AlertChange } from '../types.ts'
import { type Incident, type IncidentActor, lockIncidents, recordEvent } from './incident.ts'
import { remindEveryMs } from './notify.ts'
import { severityOf } from './severities.ts'
import { closeIncident, insertIncident, raiseIncident, reopenIncident, tellMore } from './transitions.ts'

/**
 * What alerts mean for incidents: a firing one joins the open incident of its root component, or brings back one that ended
 * less than a reminder period ago, or opens one. An incident that alerts opened ends when all of them are clear; one that
 * came back before only after they have stayed so for a while. Runs in the transaction that stores the alerts; the
 * same change twice is one change.
 */
export async function applyToIncidents(tx: Transaction, ctx: Context, changes: readonly AlertChange[], now: Date): Promise<void> {
  if (changes.length === 0) return
  const known = new Map(
    (await lockIncidents(tx, ctx, new Date(now.getTime() - remindEveryMs(ctx.config)))).map((incident) => [incident.id, incident] as const),
  )
  const done: { action: string; incident: Incident; detail?: Record<string, unknown> }[] = []

  const firing = Map.groupBy(
    changes.filter((one) => one.change === 'firing'),
    (one) => one.component,
  )
  for (const [component, alerts] of firing) {
    const of = [...known.values()].filter((one) => one.component === component)
    const open = of.find((one) => one.state !== 'resolved')
    const recent = of
      .filter(
        (one) =>
          one.state === 'resolved' && one.resolvedAt !== null && now.getTime() - one.resolvedAt.getTime() < remindEveryMs(ctx.config),
      )
      .sort((a, b) => (b.resolvedAt?.getTime() ?? 0) - (a.resolvedAt?.getTime() ?? 0))[0]
    if (open !== undefined) {
      await join(tx, open, alerts, now)
      const quiet = alerts.every(({ notify }) => notify?.length === 0)
      const raised = await raiseIncident(tx, ctx, open, mostSevere(ctx, alerts), now, alertActor(alerts), quiet)
      if (raised !== null) done.push({ action: 'incident.raised', incident: raised, detail: { from: open.severity, to: raised.severity } })
      known.set(open.id, await tellMore(tx, ctx, raised ?? open, wantedChannels(ctx, alerts), now, alertActor(alerts)))
    } else if (recent !== undefined && (await saysNothingNew(tx, ctx, recent, alerts))) {
      // A person ended it knowing of these alerts: they bring it back in time, not with their next word.
      await join(tx, recent, alerts, now)
    } else if (recent !== undefined) {
      await join(tx, recent, alerts, now)
      const reopened = await reopenIncident(tx, ctx, recent, mostSevere(ctx, alerts), now, alertActor(alerts), wantedChannels(ctx, alerts))
      known.set(recent.id, reopened)
      done.push({ action: 'incident.reopened', incident: reopened })
    } else {
      const severity = severityOf(ctx.config, mostSevere(ctx, alerts))
      const lead = alerts.find((one) => one.severity === severity.name) ?? (alerts[0] as AlertChange)
      const opened = await insertIncident(tx, ctx, {
        title: lead.summary,
        component,
        severity,
        affected: [...new Set(alerts.flatMap((one) => one.affected))],
        channels: ruleChannels(alerts),
        openedBy: { type: 'alert', rule: lead.rule, alert: lead.alertId },
        since: new Date(Math.min(...alerts.map((one) => one.since.getTime()))),
        now,
        // The incident's alerts come before it is told: the message says what they are.
        before: (incident) => join(tx, incident, alerts, now),
      })
      known.set(opened.id, opened)
      done.push({ action: 'incident.opened', incident: opened })
    }
  }

  await clearAlerts(
    tx,
    ctx,
    changes.filter((one) => one.change === 'resolved'),
    now,
  )
  for (const incident of known.values()) {
    if (incident.state === 'resolved') continue
    const closed = await closeWhenClear(tx, ctx, incident, now)
    if (closed !== null) done.push({ action: 'incident.resolved', incident: closed })
  }

  for (const { action, incident, detail } of done)
    await appendAudit(tx, ctx, {
      action,
      target: incident.id,
      detail: { number: incident.number, component: incident.component, severity: incident.severity, ...detail },
    })
}

const alertActor = (alerts: readonly AlertChange[]): IncidentActor => {
  const [lead] = alerts
  return { type: 'alert', rule: lead?.rule ?? '', alert: lead?.alertId ?? '' }
}

function mostSevere(ctx: Context, alerts: readonly AlertChange[]): string {
  return [...alerts].sort((a, b) => severityOf(ctx.config, a.severity).rank - severityOf(ctx.config, b.severity).rank)[0]?.severity ?? ''
}

/** Whether the alerts fired already when the incident was ended, and are no more severe than it was. */
async function saysNothingNew(tx: Transaction, ctx: Context, incident: Incident, alerts: readonly AlertChange[]): Promise<boolean> {
  const [row] = await tx.query<{ known: number }>(
    'select count(*)::int as known from caretaker.incident_alerts where incident = $1::uuid and alert = any($2::text[]) and cleared_at is null',
    [incident.id, alerts.map(({ alertId }) => alertId)],
  )
  const worse = severityOf(ctx.config, mostSevere(ctx, alerts)).rank < severityOf(ctx.config, incident.severity).rank
  return row?.known === new Set(alerts.map(({ alertId }) => alertId)).size && !worse
}

/** The channels that the rules name, where one does; a rule that names none goes by its severity. */
function ruleChannels(alerts: readonly AlertChange[]): string[] | undefined {
  if (alerts.some((one) => one.notify === undefined)) return undefined
  return [...new Set(alerts.flatMap((one) => one.notify ?? []))]
}

/** Whom the alerts would be told to if they were an incident of their own. */
function wantedChannels(ctx: Context, alerts: readonly AlertChange[]): readonly string[] | 'all' {
  const wanted = alerts.map((one) => one.notify ?? severityOf(ctx.config, one.severity).notify)
  return wanted.includes('all') ? 'all' : wanted.flat()
}

/** Adds the alerts to the incident, or brings them up to date. */
async function join(tx: Transaction, incident: Incident, alerts: readonly AlertChange[], now: Date): Promise<void> {
  for (const alert of alerts) {
    const [before] = await tx.query<{ cleared: boolean }>(
      'select cleared_at is not null as cleared from caretaker.incident_alerts where incident = $1::uuid and alert = $2',
      [incident.id, alert.alertId],
    )
    await tx.execute(
      `insert into caretaker.incident_alerts (incident, alert, rule, component, severity, since, summary, cause, value, runbook)
       values ($1::uuid, $2, $3, $4, $5, $6::timestamptz, $7, $8, $9::float8, $10)
       on conflict (incident, alert) do update set severity = excluded.severity, summary = excluded.summary, cause = excluded.cause,
         value = excluded.value, runbook = excluded.runbook, cleared_at = null,
         since = case when incident_alerts.cleared_at is null then incident_alerts.since else excluded.since end`,
      [
        incident.id,
        alert.alertId,
        alert.rule,
        alert.component,
        alert.severity,
        alert.since,
        alert.summary,
        alert.cause ?? null,
        alert.value ?? null,
        alert.runbook ?? null,
      ],
    )
    // It belongs to one incident: those it was part of before speak of it no more.
    await tx.execute(
      'update caretaker.incident_alerts set cleared_at = $3::timestamptz where alert = $1 and incident <> $2::uuid and cleared_at is null',
      [alert.alertId, incident.id, now],
    )
    if (before?.cleared !== false)
      await recordEvent(tx, incident.id, {
        kind: 'alert_firing',
        at: now,
        actor: { type: 'alert', rule: alert.rule, alert: alert.alertId },
        detail: {
          severity: alert.severity,
          summary: alert.summary,
          since: alert.since,
          ...(alert.cause === undefined ? {} : { cause: alert.cause }),
        },
      })
  }
  const affected = [...new Set([...incident.affected, ...alerts.flatMap((one) => one.affected)])]
  const settling = incident.clearSince !== null
  if (affected.length > incident.affected.length || settling) {
    await tx.execute(
      `update caretaker.incidents set affected = $2::text[], clear_since = null, resolve_at = null,
         reopened = reopened + $3::int, state = case when $3::int = 1 then 'investigating' else state end
       where id = $1::uuid`,
      [incident.id, affected, settling ? 1 : 0],
    )
    incident.affected = affected
  }
  if (settling) {
    incident.clearSince = null
    incident.resolveAt = null
    incident.reopened += 1
    incident.state = 'investigating'
  }
}

/** Marks alerts as clear in the incidents they belong to. */
async function clearAlerts(tx: Transaction, ctx: Context, alerts: readonly AlertChange[], now: Date): Promise<void> {
  for (const alert of alerts) {
    const rows = await tx.query<{ incident: string }>(
      `update caretaker.incident_alerts a set cleared_at = $2::timestamptz from caretaker.incidents i
       where a.alert = $1 and a.cleared_at is null and i.id = a.incident and i.environment = $3 returning a.incident::text`,
      [alert.alertId, now, environmentOf(ctx)],
    )
    for (const { incident } of rows)
      await recordEvent(tx, incident, {
        kind: 'alert_clear',
        at: now,
        actor: { type: 'alert', rule: alert.rule, alert: alert.alertId },
        detail: { summary: alert.summary, since: alert.since },
      })
  }
}

/** Ends the incident if none of its alerts fires any more, now or after a while; the incident where it ended. */
async function closeWhenClear(tx: Transaction, ctx: Context, incident: Incident, now: Date): Promise<Incident | null> {
  const [still] = await tx.query('select from caretaker.incident_alerts where incident = $1::uuid and cleared_at is null limit 1', [
    incident.id,
  ])
  // What a person opened is a person's to end.
  if (still !== undefined || incident.openedBy.type !== 'alert' || incident.clearSince !== null) return null
  const holdMs = settleMs(ctx, incident)
  if (holdMs === 0) return closeIncident(tx, ctx, incident, { now, by: { type: 'system' } })
  await tx.execute(
    `update caretaker.incidents set state = 'monitoring', clear_since = $2::timestamptz, resolve_at = $3::timestamptz where id = $1::uuid`,
    [incident.id, now, new Date(now.getTime() + holdMs)],
  )
  await recordEvent(tx, incident.id, {
    kind: 'state',
    at: now,
    actor: { type: 'system' },
    detail: { from: incident.state, to: 'monitoring', until: new Date(now.getTime() + holdMs) },
    public: true,
    body: 'The service has recovered. We are watching whether it stays so.',
  })
  return null
}

const firstSettleMs = 15 * 60_000

/** How long an incident's alerts must stay clear before it ends: nothing the first time, then longer each time it came back. */
export function settleMs(ctx: Pick<Context, 'config'>, { reopened }: Pick<Incident, 'reopened'>): number {
  return reopened === 0 ? 0 : Math.min(firstSettleMs * 2 ** Math.min(reopened - 1, 10), remindEveryMs(ctx.config))
}
