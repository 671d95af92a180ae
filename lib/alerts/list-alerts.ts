import type { Context } from '../platform/context.ts'
import type { Row } from '../platform/db.ts'
import { environmentOf } from '../platform/environment.ts'
import type { NotificationKind, NotificationPayload } from './types.ts'

/** A condition that holds, or did a moment ago. */
export interface Alert extends Row {
  id: string
  rule: string
  labels: Record<string, string>
  source: 'rule' | 'check' | 'event' | 'channel'
  component: string
  severity: string
  state: 'ok' | 'pending' | 'firing'
  summary: string
  cause: string | null
  value: number | null
  /** Since when the condition holds; of one that is well again, since when it held. */
  since: Date | null
  firedAt: Date | null
  resolvedAt: Date | null
  /** Why it opened no incident of its own. */
  withheld: 'inhibited' | 'silenced' | 'maintenance' | null
  /** The component that explains it. */
  root: string | null
  /** Whether an incident speaks of it. */
  announced: boolean
}

/** What fires or is about to, the longest first. With `resolved` also what was over within that many hours. */
export function listAlerts(ctx: Context, options: { resolvedHours?: number } = {}): Promise<Alert[]> {
  return ctx.db.query<Alert>(
    `select id::text as id, rule, labels, source, component, severity, state, summary, cause, value, since, fired_at as "firedAt",
       resolved_at as "resolvedAt", withheld, root, announced
     from caretaker.alerts
     where environment = $1 and (state <> 'ok' or resolved_at > $2::timestamptz - make_interval(hours => $3::int))
     order by state = 'ok', since, rule, labels::text`,
    [environmentOf(ctx), ctx.clock.now(), options.resolvedHours ?? 0],
  )
}

export interface Notification extends Row {
  id: string
  incident: string | null
  channel: string
  kind: NotificationKind
  severity: string
  payload: NotificationPayload
  state: 'waiting' | 'delivered' | 'dead' | 'superseded'
  attempts: number
  status: number | null
  error: { code: string } | null
  createdAt: Date
  nextAttemptAt: Date
  deliveredAt: Date | null
}

/** What people were told, or are about to be; newest first. `limit` defaults to 50, at most 1,000. */
export function listNotifications(ctx: Context, filter: { limit?: number; incident?: string } = {}): Promise<Notification[]> {
  const limit = Math.min(1_000, Math.max(1, filter.limit ?? 50))
  return ctx.db.query<Notification>(
    `select id::text as id, incident::text as incident, channel, kind, severity, payload, state, attempts, status, error,
       created_at as "createdAt", next_attempt_at as "nextAttemptAt", delivered_at as "deliveredAt"
     from caretaker.notifications where environment = $1 and ($2::uuid is null or incident = $2::uuid) order by notifications.id desc limit $3::int`,
    [environmentOf(ctx), filter.incident ?? null, limit],
  )
}
