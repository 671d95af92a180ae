import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { settleMs } from './apply-alerts.ts'
import { type Incident, lockIncidents, recordEvent } from './incident.ts'
import { channelsOf, remindEveryMs, tell } from './notify.ts'
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
  const done: { action: string; incident: Incident }[] = []
  const open = new Set(incidents.flatMap(({ state, component }) => (state === 'resolved' || component === null ? [] : [component])))
  // The newest first: of a cause that has several it is the one that comes back.
  for (const found of incidents.sort((a, b) => b.number - a.number)) {
    if (found.state === 'resolved') {
      if (found.resolvedAt !== null && found.resolvedAt > now) {
        // It cannot have ended at a time that has not come.
        await tx.execute('update caretaker.incidents set resolved_at = $2::timestamptz where id = $1::uuid', [found.id, now])
      } else if ((found.component === null || !open.has(found.component)) && (await endedTooEarly(tx, found, now, every))) {
        if (found.component !== null) open.add(found.component)
        done.push({ action: 'incident.reopened', incident: await reopenIncident(tx, ctx, found, found.severity, now, { type: 'system' }) })
      }
      continue
    }
    const incident = await bringBack(tx, ctx, found, now, every)
    if (incident.clearSince !== null) {
      if (incident.resolveAt !== null && incident.resolveAt <= now)
        done.push({ action: 'incident.resolved', incident: await closeIncident(tx, ctx, incident, { now, by: { type: 'system' } }) })
      // While it is clear there is nothing to remind of.
      continue
    }
    if (incident.acknowledgedAt !== null) continue
    if (incident.responseMissedAt === null && incident.respondBy !== null && incident.respondBy <= now) {
      await tx.execute('update caretaker.incidents set response_missed_at = $2::timestamptz where id = $1::uuid', [incident.id, now])
      await recordEvent(tx, incident.id, {
        kind: 'response_missed',
        at: now,
        actor: { type: 'system' },
        detail: { respondBy: incident.respondBy },
      })
    }
    if (incident.escalatedAt === null && incident.escalateAt !== null && incident.escalateAt <= now) {
      await escalate(tx, ctx, incident, now, every)
      done.push({ action: 'incident.escalated', incident })
    } else if (incident.nextReminderAt !== null && incident.nextReminderAt <= now) await remind(tx, ctx, incident, now, every)
  }
  for (const { action, incident } of done)
    await appendAudit(tx, ctx, {
      action,
      target: incident.id,
      detail: { number: incident.number, component: incident.component, severity: incident.severity },
    })
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
  const channels = channelsOf(ctx, [...incident.channels, ...to])
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
