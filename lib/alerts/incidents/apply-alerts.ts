import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { environmentOf } from '../../platform/environment.ts'
import { stormComponent, stormTitle } from '../storm.ts'
import type { AlertChange } from '../types.ts'
import { type Incident, type IncidentActor, lockIncidents, recordEvent, recordEvents } from './incident.ts'
import { mergeIncident } from './merge-incident.ts'
import { remindEveryMs, tell } from './notify.ts'
import { type MergePlan, planMerges } from './plan-merges.ts'
import { severityOf } from './severities.ts'
import { closeIncident, insertIncident, isQuiet, raiseIncident, reopenIncident, tellMore } from './transitions.ts'

/**
 * What alerts mean for incidents: a firing one joins the open incident of its root component, or brings back one that ended
 * less than a reminder period ago, or opens one. An incident that alerts opened ends when all of them are clear; one that
 * came back before only after they have stayed so for a while; and one whose alerts turn out to come from another's cause ends as a part
 * of that. Runs in the transaction that stores the alerts; the same change twice is one change.
 * @returns the explained alerts that are told of by the incident of their cause now, and by none of their own
 */
export async function applyToIncidents(tx: Transaction, ctx: Context, changes: readonly AlertChange[], now: Date): Promise<string[]> {
  if (changes.length === 0) return []
  const known = new Map(
    (await lockIncidents(tx, ctx, new Date(now.getTime() - remindEveryMs(ctx.config)))).map((incident) => [incident.id, incident] as const),
  )
  const plan = await planMerges(tx, ctx, [...known.values()], changes, now)
  const done: Done[] = []
  const firing = Map.groupBy(
    changes.filter((one) => one.change === 'firing'),
    (one) => plan.causeOf(one),
  )
  const held = new Set(plan.held.map(({ alert }) => alert))
  const explains = Map.groupBy(
    changes.filter(({ change, notify, alertId }) => change === 'explained' && notify?.length !== 0 && !held.has(alertId)),
    (one) => plan.causeOf(one),
  )
  for (const component of new Set([...firing.keys(), ...plan.into.keys(), ...explains.keys()])) {
    const found = {
      component,
      alerts: firing.get(component) ?? [],
      takesOver: plan.into.get(component) ?? [],
      explains: explains.get(component) ?? [],
    }
    done.push(...(await follow(tx, ctx, known, found, now)))
  }

  await clearAlerts(
    tx,
    ctx,
    changes.filter((one) => one.change === 'resolved'),
    now,
  )
  const explained = await mergeExplained(tx, ctx, known, plan, changes, now)
  done.push(...explained.done)
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
  return explained.alerts
}

interface Done {
  action: string
  incident: Incident
  detail?: Record<string, unknown>
}

/** What a look found of one cause. */
interface Found {
  component: string
  alerts: readonly AlertChange[]
  /** Incidents that end as parts of the one of this cause. */
  takesOver: readonly Incident[]
  /** What opens none because of it: it asks for whom it would have asked for by itself. */
  explains: readonly AlertChange[]
}

/** The incident of a cause follows its alerts. */
async function follow(tx: Transaction, ctx: Context, known: Map<string, Incident>, found: Found, now: Date): Promise<Done[]> {
  const { component, alerts, takesOver, explains } = found
  const of = [...known.values()].filter((one) => one.component === component)
  const open = of.find((one) => one.state !== 'resolved')
  const recent = of
    .filter(
      (one) => one.state === 'resolved' && one.resolvedAt !== null && now.getTime() - one.resolvedAt.getTime() < remindEveryMs(ctx.config),
    )
    .sort((a, b) => (b.resolvedAt?.getTime() ?? 0) - (a.resolvedAt?.getTime() ?? 0))[0]
  // What was told to nobody makes nothing more severe: it would page those whom it was kept from.
  const severe = [...alerts, ...explains, ...takesOver.filter((one) => !isQuiet(one))]
  const worst = mostSevere(ctx, severe)
  const by = alertActor(bySeverity(ctx, [...alerts, ...explains]))
  const wanted = wantedChannels(ctx, [...alerts, ...explains])
  if (open !== undefined) {
    const joined = await join(tx, ctx, open, alerts, now)
    if (component === stormComponent) await tellJoined(tx, ctx, open, bySeverity(ctx, joined), now)
    const quiet = severe.length === alerts.length && alerts.every(({ notify }) => notify?.length === 0)
    const raised = severe.length === 0 ? null : await raiseIncident(tx, ctx, open, worst, now, by, quiet)
    known.set(open.id, await tellMore(tx, ctx, raised ?? open, wanted, now, by, takesOver))
    return raised === null ? [] : [{ action: 'incident.raised', incident: raised, detail: { from: open.severity, to: raised.severity } }]
  }
  // What it explains brings back one whose own alerts still fire, as where a person ended it; it opens none.
  if (alerts.length === 0 && (severe.length === 0 || recent === undefined || !(await stillFires(tx, recent)))) return []
  if (recent !== undefined && (await saysNothingNew(tx, ctx, recent, alerts, worst))) {
    // A person ended it knowing of these alerts: they bring it back in time, not with their next word.
    await join(tx, ctx, recent, alerts, now)
    return []
  }
  if (recent !== undefined) {
    if (component === stormComponent && alerts.length > 0) recent.title = await nameStorm(tx, ctx, recent, alerts)
    await join(tx, ctx, recent, alerts, now)
    const reopened = await reopenIncident(tx, ctx, recent, worst, now, by, wanted, takesOver)
    known.set(recent.id, reopened)
    return [{ action: 'incident.reopened', incident: reopened }]
  }
  const severity = severityOf(ctx.config, worst)
  const lead = alerts.find((one) => one.severity === severity.name) ?? (alerts[0] as AlertChange)
  const opened = await insertIncident(tx, ctx, {
    title: component === stormComponent ? stormTitle(bySeverity(ctx, alerts)) : lead.summary,
    component,
    severity,
    affected: [...new Set(alerts.flatMap((one) => affectedBy(one, component)))],
    channels: askedChannels(ctx, [...alerts, ...explains]),
    takesOver,
    openedBy: { type: 'alert', rule: lead.rule, alert: lead.alertId },
    since: new Date(Math.min(...alerts.map((one) => one.since.getTime()))),
    now,
    // The incident's alerts come before it is told: the message says what they are.
    before: async (incident) => void (await join(tx, ctx, incident, alerts, now)),
  })
  known.set(opened.id, opened)
  return [{ action: 'incident.opened', incident: opened }]
}

/** Ends the incidents that are parts of another one now, and takes explained alerts from those that people had ended. */
async function mergeExplained(
  tx: Transaction,
  ctx: Context,
  known: Map<string, Incident>,
  plan: MergePlan,
  changes: readonly AlertChange[],
  now: Date,
): Promise<{ alerts: string[]; done: Done[] }> {
  const openOf = (component: string) => [...known.values()].find((one) => one.component === component && one.state !== 'resolved')
  const explained = changes.filter(({ change }) => change === 'explained')
  const done: Done[] = []
  const alerts: string[] = []
  for (const [component, parts] of plan.into)
    for (const one of parts) {
      const whole = openOf(component)
      // A person has ended it, knowing of its alerts: then nobody is told of the cause.
      if (whole === undefined) continue
      const merged = await mergeIncident(tx, ctx, one, whole, now)
      known.set(merged.part.id, merged.part)
      known.set(merged.whole.id, merged.whole)
      const held = new Set(plan.held.flatMap(({ incident, alert }) => (incident === one.id ? [alert] : [])))
      alerts.push(...explained.flatMap(({ alertId }) => (held.has(alertId) ? [alertId] : [])))
      done.push({ action: 'incident.merged', incident: merged.part, detail: { partOf: merged.whole.number } })
    }
  const held = new Set(plan.held.map(({ alert }) => alert))
  const left = explained.flatMap((change) => {
    const whole = openOf(plan.causeOf(change))
    return whole === undefined || isQuiet(whole) || held.has(change.alertId) ? [] : [change.alertId]
  })
  if (left.length > 0)
    await tx.execute(
      'update caretaker.incident_alerts set cleared_at = $2::timestamptz where alert = any($1::text[]) and cleared_at is null',
      [left, now],
    )
  return { alerts: [...alerts, ...left], done }
}

const alertActor = ([lead]: readonly AlertChange[]): IncidentActor =>
  lead === undefined ? { type: 'system' } : { type: 'alert', rule: lead.rule, alert: lead.alertId }

function bySeverity<T extends { severity: string }>(ctx: Context, all: readonly T[]): T[] {
  return [...all].sort((a, b) => severityOf(ctx.config, a.severity).rank - severityOf(ctx.config, b.severity).rank)
}

function mostSevere(ctx: Context, all: readonly { severity: string }[]): string {
  return bySeverity(ctx, all)[0]?.severity ?? ''
}

/** What suffers, beside what the incident is called by. */
function affectedBy({ component, affected }: AlertChange, of: string | null): string[] {
  return component === of ? affected : [component, ...affected]
}

/** A storm that comes back is called by those that it has now. */
async function nameStorm(tx: Transaction, ctx: Context, { id }: Incident, alerts: readonly AlertChange[]): Promise<string> {
  const title = stormTitle(bySeverity(ctx, alerts))
  await tx.execute('update caretaker.incidents set title = $2 where id = $1::uuid', [id, title])
  return title
}

/** Whether the alerts fired already when the incident was ended, and nothing is more severe than it was. */
async function saysNothingNew(
  tx: Transaction,
  ctx: Context,
  incident: Incident,
  alerts: readonly AlertChange[],
  worst: string,
): Promise<boolean> {
  const [row] = await tx.query<{ known: number }>(
    'select count(*)::int as known from caretaker.incident_alerts where incident = $1::uuid and alert = any($2::text[]) and cleared_at is null',
    [incident.id, alerts.map(({ alertId }) => alertId)],
  )
  const worse = severityOf(ctx.config, worst).rank < severityOf(ctx.config, incident.severity).rank
  return row?.known === new Set(alerts.map(({ alertId }) => alertId)).size && !worse
}

/** The channels that the alerts ask for; undefined where their severities tell nobody at first; [] where all want nobody told, later neither. */
function askedChannels(ctx: Context, alerts: readonly AlertChange[]): readonly string[] | 'all' | undefined {
  if (alerts.every(({ notify }) => notify?.length === 0)) return []
  const wanted = wantedChannels(ctx, alerts)
  // Severities that tell nobody may escalate all the same.
  return wanted.length === 0 ? undefined : wanted
}

/** Whom the alerts would be told to if they were an incident of their own. */
function wantedChannels(ctx: Context, alerts: readonly AlertChange[]): readonly string[] | 'all' {
  const wanted = alerts.map((one) => one.notify ?? severityOf(ctx.config, one.severity).notify)
  return wanted.includes('all') ? 'all' : wanted.flat()
}

/**
 * Says to everybody who was told of a storm what has joined it: that asks for nobody anew, but nobody may think that it is well. What
 * comes back to it is no news.
 */
async function tellJoined(tx: Transaction, ctx: Context, incident: Incident, joined: readonly AlertChange[], now: Date): Promise<void> {
  if (joined.length === 0) return
  const names = [...new Set(joined.map(({ component }) => component))].join(', ')
  const actor: IncidentActor = { type: 'system' }
  const event = await recordEvent(tx, incident.id, { kind: 'note', at: now, actor, detail: { joined: names } })
  await tell(tx, ctx, incident, { kind: 'update', channels: incident.channels, event, by: actor, text: `Also failing now: ${names}` })
}

/** Adds the alerts to the incident, or brings them up to date. @returns those that it has not had for a reminder period, or never */
async function join(tx: Transaction, ctx: Context, incident: Incident, alerts: readonly AlertChange[], now: Date): Promise<AlertChange[]> {
  if (alerts.length === 0) return []
  const ids = alerts.map(({ alertId }) => alertId)
  const had = await tx.query<{ alert: string; clearedAt: Date | null }>(
    'select alert, cleared_at as "clearedAt" from caretaker.incident_alerts where incident = $1::uuid and alert = any($2::text[])',
    [incident.id, ids],
  )
  const before = new Map(had.map(({ alert, clearedAt }) => [alert, clearedAt]))
  await tx.execute(
    `insert into caretaker.incident_alerts (incident, alert, rule, component, severity, since, summary, cause, value, runbook)
     select $1::uuid, one ->> 'alertId', one ->> 'rule', one ->> 'component', one ->> 'severity', (one ->> 'since')::timestamptz, one ->> 'summary',
       one ->> 'cause', (one ->> 'value')::float8, one ->> 'runbook'
     from jsonb_array_elements($2::jsonb) with ordinality as given(one, place) order by place
     on conflict (incident, alert) do update set severity = excluded.severity, summary = excluded.summary, cause = excluded.cause,
       value = excluded.value, runbook = excluded.runbook, cleared_at = null,
       since = case when incident_alerts.cleared_at is null then incident_alerts.since else excluded.since end`,
    [incident.id, JSON.stringify(alerts)],
  )
  // It belongs to one incident: those it was part of before speak of it no more.
  await tx.execute(
    'update caretaker.incident_alerts set cleared_at = $3::timestamptz where alert = any($1::text[]) and incident <> $2::uuid and cleared_at is null',
    [ids, incident.id, now],
  )
  const fresh = alerts.filter(({ alertId }) => before.get(alertId) !== null)
  await recordEvents(
    tx,
    fresh.map(({ alertId, rule, severity, summary, since, cause }) => ({
      incident: incident.id,
      kind: 'alert_firing',
      at: now,
      actor: { type: 'alert', rule, alert: alertId },
      detail: { severity, summary, since, ...(cause === undefined ? {} : { cause }) },
    })),
  )
  const newsMs = now.getTime() - remindEveryMs(ctx.config)
  const joined = fresh.filter(({ alertId }) => (before.get(alertId)?.getTime() ?? newsMs) <= newsMs)
  const affected = [...new Set([...incident.affected, ...alerts.flatMap((one) => affectedBy(one, incident.component))])]
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
  return joined
}

/** Marks alerts as clear in the incidents they belong to. */
async function clearAlerts(tx: Transaction, ctx: Context, alerts: readonly AlertChange[], now: Date): Promise<void> {
  if (alerts.length === 0) return
  const rows = await tx.query<{ incident: string; alert: string }>(
    `update caretaker.incident_alerts a set cleared_at = $2::timestamptz from caretaker.incidents i
     where a.alert = any($1::text[]) and a.cleared_at is null and i.id = a.incident and i.environment = $3 returning a.incident::text, a.alert`,
    [alerts.map(({ alertId }) => alertId), now, environmentOf(ctx)],
  )
  const incidents = Map.groupBy(rows, ({ alert }) => alert)
  await recordEvents(
    tx,
    alerts.flatMap(({ alertId, rule, summary, since }) =>
      (incidents.get(alertId) ?? []).map(({ incident }) => ({
        incident,
        kind: 'alert_clear' as const,
        at: now,
        actor: { type: 'alert' as const, rule, alert: alertId },
        detail: { summary, since },
      })),
    ),
  )
}

async function stillFires(tx: Transaction, { id }: Incident): Promise<boolean> {
  const [one] = await tx.query('select from caretaker.incident_alerts where incident = $1::uuid and cleared_at is null limit 1', [id])
  return one !== undefined
}

/** Ends the incident if none of its alerts fires any more, now or after a while; the incident where it ended. */
async function closeWhenClear(tx: Transaction, ctx: Context, incident: Incident, now: Date): Promise<Incident | null> {
  // What a person opened is a person's to end.
  if ((await stillFires(tx, incident)) || incident.openedBy.type !== 'alert' || incident.clearSince !== null) return null
  const holdMs = settleMs(ctx, incident)
  if (holdMs === 0) return closeIncident(tx, ctx, incident, { now, by: { type: 'system' }, text: await goesOn(tx, incident) })
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

/** What a storm leaves behind, for those who hear that it is over: the incidents of what still fires of it. */
export async function goesOn(tx: Transaction, { id, component }: Incident): Promise<string | undefined> {
  if (component !== stormComponent) return undefined
  const others = await tx.query<{ number: number; component: string }>(
    `select distinct i.number, i.component from caretaker.incident_alerts was
     join caretaker.incident_alerts fires on fires.alert = was.alert and fires.incident <> was.incident and fires.cleared_at is null
     join caretaker.incidents i on i.id = fires.incident and i.state <> 'resolved'
     where was.incident = $1::uuid order by i.number`,
    [id],
  )
  const names = others.map((one) => `#${one.number} ${one.component}`)
  return names.length === 0 ? undefined : `Still wrong, each told for itself: ${names.join(', ')}`
}

const firstSettleMs = 15 * 60_000

/** How long an incident's alerts must stay clear before it ends: nothing the first time, then longer each time it came back. */
export function settleMs(ctx: Pick<Context, 'config'>, { reopened }: Pick<Incident, 'reopened'>): number {
  return reopened === 0 ? 0 : Math.min(firstSettleMs * 2 ** Math.min(reopened - 1, 10), remindEveryMs(ctx.config))
}
