import type { Context } from '../platform/context.ts'
import type { Transaction } from '../platform/db.ts'
import { environmentOf } from '../platform/environment.ts'
import type { NotificationKind, NotificationPayload } from './types.ts'

export interface NewNotification {
  /** The incident's id; null for what speaks of the watcher itself. */
  incident: string | null
  kind: NotificationKind
  severity: string
  /**
   * Channels that are opened, reminded or escalated to. Without it every channel that was told of the incident before, which is what
   * an acknowledgement or a resolution is for. One that the policy here does not have may be another deployment's.
   */
  channels?: readonly string[]
  /** Names what is told within the incident, so that telling it twice is one message. Default: the kind and the moment. */
  key?: string
  payload: NotificationPayload
}

/**
 * Notes, inside the caller's transaction, that people are to be told: a row a channel, which the job `notify` sends when the
 * transaction has committed. Nothing is sent here.
 * @returns the channels that will be told
 */
export async function enqueueNotification(
  tx: Transaction,
  ctx: Pick<Context, 'config' | 'env' | 'clock'>,
  notification: NewNotification,
): Promise<string[]> {
  const { incident, kind, severity, payload } = notification
  const environment = environmentOf(ctx)
  const now = ctx.clock.now()
  const channels = notification.channels === undefined ? await toldChannels(tx, environment, incident) : [...new Set(notification.channels)]
  if (channels.length === 0) return []
  const key = `${incident ?? 'watcher'}:${notification.key ?? `${kind}:${now.toISOString()}`}`
  const rows = await tx.query<{ channel: string }>(
    `insert into caretaker.notifications (environment, incident, channel, kind, severity, key, payload, next_attempt_at, created_at)
     select $1::text, $2::uuid, name, $4::text, $5::text, $6::text, $7::jsonb, $8::timestamptz, $8::timestamptz
     from unnest($3::text[]) with ordinality as c(name, place) order by place
     on conflict (environment, channel, key) do nothing returning channel`,
    [environment, incident, channels, kind, severity, key, JSON.stringify(payload), now],
  )
  return rows.map(({ channel }) => channel)
}

async function toldChannels(tx: Transaction, environment: string, incident: string | null): Promise<string[]> {
  const rows = await tx.query<{ channel: string }>(
    `select distinct channel from caretaker.notifications where environment = $1::text and incident is not distinct from $2::uuid order by channel`,
    [environment, incident],
  )
  return rows.map(({ channel }) => channel)
}
