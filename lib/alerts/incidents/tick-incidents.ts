import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { environmentOf } from '../../platform/environment.ts'
import { isSilenced } from '../silences.ts'
import { goesOn, settleMs } from './apply-alerts.ts'
import { type Incident, lockIncidents, recordEvent } from './incident.ts'
import { channelsOf, channelsWith, remindEveryMs, tell } from './notify.ts'
import { severityOf } from './severities.ts'
import { closeIncident, reopenIncident } from './transitions.ts'

/**
 * What time does to incidents: one that stayed clear ends; one that nobody acknowledged is escalated and told of again, and
 * never once somebody has; one that a person ended while its alerts still fire comes back after a reminder period. A clock
 * that leaps ahead makes one reminder of many; one that leaps back puts no timer further off than it was.
 */
export async function tickIncidents(tx: Transaction, ctx: Context, now: Date): Promise<void> {
  const every = remindEveryMs(ctx.config)
  const incidents = await lockIncidents(tx, ctx, new Date(now.getTime() - every))
  const done: Done[] = []
  const open = new Set(incidents.flatMap(({ state, component }) => (state === 'resolved' || component === null ? [] : [component])))
  // The newest first: of a cause that has several it is the one that comes back.
  for (const incident of incidents.sort((a, b) => b.number - a.number)) {
    // What is wrong with one incident must keep nobody from hearing of the others.
    await tx.execute('savepoint incident')
    try {
      if (incident.state === 'resolved') done.push(...(await tickResolved(tx, ctx, incident, open, now, every)))
      else done.push(...(await tickOpen(tx, ctx, await bringBack(tx, ctx, incident, now, every), now, every)))
    } catch (error) {
      await tx.execute('rollback to savepoint incident')
      ctx.log.error({ err: error, incident: incident.number }, 'the timers of an incident could not be looked at')
      ctx.sentry.capture(error, { requestId: 'incidents' })
    }
  }
  for (const { action, incident } of done)
    await appendAudit(tx, ctx, {
      action,
      target: incident.id,
      detail: { number: incident.number, component: incident.component, severity: incident.severity },
    })
}

interface Done {
  action: string
  incident: Incident
}

async function tickResolved(
  tx: Transaction,
  ctx: Context,
  incident: Incident,
  open: Set<string>,
  now: Date,
  every: number,
): Promise<Done[]> {
  if (incident.resolvedAt !== null && incident.resolvedAt > now) {
    // It cannot have ended at a time that has not come.
    await tx.execute('update caretaker.incidents set resolved_at = $2::timestamptz where id = $1::uuid', [incident.id, now])
    return []
  }
  // Another incident of the same cause is open, which its alerts will join.
  if (incident.component !== null && open.has(incident.component)) return []
  if (!(await endedTooEarly(tx, incident, now, every))) return []
  if (incident.component !== null) open.add(incident.component)
  return [{ action: 'incident.reopened', incident: await reopenIncident(tx, ctx, incident, incident.severity, now, { type: 'system' }) }]
}

async function tickOpen(tx: Transaction, ctx: Context, incident: Incident, now: Date, every: number): Promise<Done[]> {
  if (incident.clearSince !== null) {
    // While it is clear there is nothing to remind of.
    if (incident.resolveAt === null || incident.resolveAt > now) return []
    const text = await goesOn(tx, incident)
    return [{ action: 'incident.resolved', incident: await closeIncident(tx, ctx, incident, { now, by: { type: 'system' }, text }) }]
  }
  if (incident.acknowledgedAt !== null) return []
  if (incident.responseMissedAt === null && incident.respondBy !== null && incident.respondBy <= now) {
    await tx.execute('update caretaker.incidents set response_missed_at = $2::timestamptz where id = $1::uuid', [incident.id, now])
    await recordEvent(tx, incident.id, {
      kind: 'response_missed',
      at: now,
      actor: { type: 'system' },
      detail: { respondBy: incident.respondBy },
    })
  }
  const escalates = incident.escalatedAt === null && incident.escalateAt !== null && incident.escalateAt <= now
  const reminds = incident.nextReminderAt !== null && incident.nextReminderAt <= now
  // What a silence holds back is put off until its end, not left out.
  if (!(escalates || reminds) || (await isSilenced(tx, environmentOf(ctx), incident.id, now))) return []
  if (escalates) {
    await escalate(tx, ctx, incident, now, every)
    return [{ action: 'incident.escalated', incident }]
  }
  await remind(tx, ctx, incident, now, every)
  return []
}

/** A person ended it a reminder period ago, and an alert of it fires all the same. */
async function endedTooEarly(tx: Transaction, incident: Incident, now: Date, every: number): Promise<boolean> {
  if (incident.resolvedAt === null || now.getTime() - incident.resolvedAt.getTime() < every) return false
  const [firing] = await tx.query('select from caretaker.incident_alerts where incident = $1::uuid and cleared_at is null limit 1', [
    incident.id,
  ])
  return firing !== undefined
}

/** The incident with its timers no further off than they were when they were set: the clock may have leapt back since. */
async function bringBack(tx: Transaction, ctx: Context, incident: Incident, now: Date, every: number): Promise<Incident> {
  const latest = (timer: Date | null, ms: number) => (timer === null ? null : new Date(Math.min(timer.getTime(), now.getTime() + ms)))
  const sinceOpened = (timer: Date | null) => latest(timer, Math.max(0, (timer?.getTime() ?? 0) - incident.openedAt.getTime()))
  const timers = {
    nextReminderAt: latest(incident.nextReminderAt, every),
    resolveAt: latest(incident.resolveAt, settleMs(ctx, incident)),
    respondBy: sinceOpened(incident.respondBy),
    escalateAt: sinceOpened(incident.escalateAt),
  }
  const same = (['nextReminderAt', 'resolveAt', 'respondBy', 'escalateAt'] as const).every(
    (name) => timers[name]?.getTime() === incident[name]?.getTime(),
  )
  if (same) return incident
  await tx.execute(
    `update caretaker.incidents set next_reminder_at = $2::timestamptz, resolve_at = $3::timestamptz, respond_by = $4::timestamptz,
       escalate_at = $5::timestamptz where id = $1::uuid`,
    [incident.id, timers.nextReminderAt, timers.resolveAt, timers.respondBy, timers.escalateAt],
  )
  return { ...incident, ...timers }
}

async function escalate(tx: Transaction, ctx: Context, incident: Incident, now: Date, every: number): Promise<void> {
  const to = channelsOf(ctx, severityOf(ctx.config, incident.severity).escalateTo)
  const channels = channelsWith(ctx, incident.channels, to)
  await paged(tx, incident, channels, now, every)
  await tx.execute('update caretaker.incidents set escalated_at = $2::timestamptz where id = $1::uuid', [incident.id, now])
  const event = await recordEvent(tx, incident.id, { kind: 'escalated', at: now, actor: { type: 'system' }, detail: { channels: to } })
  await tell(tx, ctx, incident, { kind: 'escalation', channels: to, event })
}

async function remind(tx: Transaction, ctx: Context, incident: Incident, now: Date, every: number): Promise<void> {
  await paged(tx, incident, incident.channels, now, every)
  if (incident.channels.length === 0) return
  const event = await recordEvent(tx, incident.id, {
    kind: 'reminded',
    at: now,
    actor: { type: 'system' },
    detail: { channels: incident.channels },
  })
  await tell(tx, ctx, incident, { kind: 'reminder', channels: incident.channels, event })
}

async function paged(tx: Transaction, incident: Incident, channels: readonly string[], now: Date, every: number): Promise<void> {
  await tx.execute(
    'update caretaker.incidents set last_paged_at = $2::timestamptz, next_reminder_at = $3::timestamptz, channels = $4::text[] where id = $1::uuid',
    [incident.id, now, new Date(now.getTime() + every), channels],
  )
}
