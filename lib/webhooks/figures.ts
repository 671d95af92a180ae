import type { Context } from '../platform/context.ts'

export interface SourceFigures {
  source: string
  waiting: number
  dead: number
  /** How long the oldest waiting event has waited, seconds; null where none waits. */
  oldestSeconds: number | null
  /** Applied in the last 24 hours. */
  applied: number
  lastReceivedAt: Date | null
  silentSince: Date | null
  reconciledUntil: Date | null
}

export interface SubscriberFigures {
  subscriber: string
  waiting: number
  dead: number
  oldestSeconds: number | null
  /** Delivered in the last 24 hours. */
  delivered: number
  /** Nothing is sent there until then. */
  openUntil: Date | null
  goneAt: Date | null
}

export interface WebhookFigures {
  sources: SourceFigures[]
  subscribers: SubscriberFigures[]
}

/** How the inbox and the deliveries are, by source and by subscriber: what metrics and pages show. Two queries. */
export async function webhookFigures(ctx: Context): Promise<WebhookFigures> {
  const now = ctx.clock.now()
  const sources = await ctx.db.query<SourceFigures & Record<string, unknown>>(
    `select coalesce(i.source, s.source) as source, coalesce(i.waiting, 0) as waiting, coalesce(i.dead, 0) as dead, i."oldestSeconds",
       coalesce(i.applied, 0) as applied, i."lastReceivedAt", s.silent_since as "silentSince", s.reconciled_until as "reconciledUntil"
     from (
       select source, (count(*) filter (where state = 'received'))::int as waiting, (count(*) filter (where state = 'dead'))::int as dead,
         (count(*) filter (where applied_at > $1::timestamptz - interval '24 hours'))::int as applied,
         extract(epoch from $1::timestamptz - min(received_at) filter (where state = 'received'))::float8 as "oldestSeconds",
         max(received_at) as "lastReceivedAt"
       from caretaker.inbox group by source) i
     full join caretaker.webhook_sources s on s.source = i.source
     order by 1`,
    [now],
  )
  const subscribers = await ctx.db.query<SubscriberFigures & Record<string, unknown>>(
    `select coalesce(d.subscriber, s.name) as subscriber, coalesce(d.waiting, 0) as waiting, coalesce(d.dead, 0) as dead, d."oldestSeconds",
       coalesce(d.delivered, 0) as delivered, s.open_until as "openUntil", s.gone_at as "goneAt"
     from (
       select subscriber, (count(*) filter (where state = 'waiting'))::int as waiting, (count(*) filter (where state = 'dead'))::int as dead,
         (count(*) filter (where delivered_at > $1::timestamptz - interval '24 hours'))::int as delivered,
         extract(epoch from $1::timestamptz - min(created_at) filter (where state = 'waiting'))::float8 as "oldestSeconds"
       from caretaker.deliveries group by subscriber) d
     full join caretaker.subscribers s on s.name = d.subscriber
     order by 1`,
    [now],
  )
  return { sources, subscribers }
}

/** How many events and messages are dead. Two indexes of nothing else answer it, however much there is. */
export async function countDeadLetters(ctx: Pick<Context, 'db'>): Promise<{ events: number; messages: number }> {
  const [row] = await ctx.db.query<{ events: number; messages: number }>(
    `select (select count(*)::int from caretaker.inbox where state = 'dead') as events,
       (select count(*)::int from caretaker.deliveries where state = 'dead') as messages`,
  )
  return row ?? { events: 0, messages: 0 }
}
