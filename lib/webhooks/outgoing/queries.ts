import type { Queryable, Row, Transaction } from '../../platform/db.ts'

export type DeliveryState = 'waiting' | 'delivered' | 'dead'

export interface OutboxEvent extends Row {
  id: string
  topic: string
  at: Date
  payload: Record<string, unknown>
  app: boolean
}

/** Events nobody has looked at for subscribers yet, the oldest first, locked. Two forwarders at once take different ones. */
export function takeUnforwarded(tx: Transaction, limit: number): Promise<OutboxEvent[]> {
  return tx.query<OutboxEvent>(
    `select id::text as id, topic, at, payload, app from caretaker.outbox
     where forwarded_at is null order by outbox.id limit $1::int for update skip locked`,
    [limit],
  )
}

/** The payloads of the app's own events are emptied: what is sent of them is sealed in the messages. */
export async function markForwarded(tx: Transaction, ids: readonly string[], now: Date): Promise<void> {
  await tx.execute(
    `update caretaker.outbox set forwarded_at = $2::timestamptz, payload = case when app then '{}' else payload end,
       delivered_at = case when app then coalesce(delivered_at, $2::timestamptz) else delivered_at end
     where id = any($1::bigint[])`,
    [ids, now],
  )
}

export async function insertMessage(
  tx: Transaction,
  message: { id: string; type: string; at: Date; payload: Buffer; now: Date },
  subscribers: readonly string[],
): Promise<void> {
  await tx.execute(
    `with message as (
       insert into caretaker.messages (id, type, at, payload, created_at)
       values ($1::text, $2::text, $3::timestamptz, $4::bytea, $5::timestamptz) returning id)
     insert into caretaker.deliveries (message_id, subscriber, next_attempt_at, created_at)
     select message.id, name, $5::timestamptz, $5::timestamptz from message, unnest($6::text[]) name`,
    [message.id, message.type, message.at, message.payload, message.now, subscribers],
  )
}

export interface Circuit extends Row {
  name: string
  failures: number
  openUntil: Date | null
  goneAt: Date | null
}

export function selectCircuits(db: Queryable): Promise<Circuit[]> {
  return db.query<Circuit>('select name, failures, open_until as "openUntil", gone_at as "goneAt" from caretaker.subscribers')
}

/** Lets one of several senders at once try a circuit that has been open long enough. @returns whether it is this one */
export async function takeTrial(db: Queryable, name: string, now: Date, until: Date): Promise<boolean> {
  const taken = await db.execute(
    'update caretaker.subscribers set open_until = $3::timestamptz where name = $1::text and open_until <= $2::timestamptz',
    [name, now, until],
  )
  return taken === 1
}

export async function closeCircuit(db: Queryable, name: string): Promise<void> {
  await db.execute(
    'update caretaker.subscribers set failures = 0, open_until = null where name = $1::text and (failures > 0 or open_until is not null)',
    [name],
  )
}

/** Counts a failure. @returns how many there are now, one after the other */
export async function countFailure(db: Queryable, name: string): Promise<number> {
  const [row] = await db.query<{ failures: number }>(
    `insert into caretaker.subscribers as s (name, failures) values ($1::text, 1)
     on conflict (name) do update set failures = s.failures + 1 returning failures`,
    [name],
  )
  return row?.failures ?? 1
}

export async function openCircuit(db: Queryable, name: string, until: Date): Promise<void> {
  await db.execute(
    `insert into caretaker.subscribers as s (name, open_until) values ($1::text, $2::timestamptz)
     on conflict (name) do update set open_until = greatest(s.open_until, excluded.open_until)`,
    [name, until],
  )
}

export interface TakenDelivery extends Row {
  id: string
  subscriber: string
  attempts: number
  messageId: string
  type: string
  at: Date
  payload: Buffer
}

/**
 * Takes due deliveries of one subscriber, the longest due first. The attempt is counted and the next one put off before
 * it is made: a sender that dies of it leaves the rest to the next one, and cannot try for ever.
 */
export function takeDeliveries(
  db: Queryable,
  take: { subscriber: string; now: Date; nextAttemptAt: Date; limit: number },
): Promise<TakenDelivery[]> {
  return db.query<TakenDelivery>(
    `with taken as (
       select id from caretaker.deliveries
       where state = 'waiting' and subscriber = $1::text and next_attempt_at <= $2::timestamptz
       order by next_attempt_at, id limit $4::int for update skip locked)
     update caretaker.deliveries d set attempts = d.attempts + 1, next_attempt_at = $3::timestamptz
     from taken, caretaker.messages m where d.id = taken.id and m.id = d.message_id
     returning d.id::text as id, d.subscriber, d.attempts, d.message_id as "messageId", m.type, m.at, m.payload`,
    [take.subscriber, take.now, take.nextAttemptAt, take.limit],
  )
}

/** What became of an attempt; of one that another sender has taken since, nothing. @returns whether it was noted */
export async function recordAttempt(
  db: Queryable,
  delivery: Pick<TakenDelivery, 'id' | 'attempts'>,
  result: { state: DeliveryState; status: number | null; code: string | null; now: Date; nextAttemptAt: Date | null },
): Promise<boolean> {
  const noted = await db.execute(
    `update caretaker.deliveries
     set state = $3::text, status = $4::int, error = case when $5::text is null then null else jsonb_build_object('code', $5::text, 'at', $6::timestamptz) end,
       next_attempt_at = coalesce($7::timestamptz, next_attempt_at), delivered_at = case when $3::text = 'delivered' then $6::timestamptz end
     where id = $1::bigint and attempts = $2::int and state = 'waiting'`,
    [delivery.id, delivery.attempts, result.state, result.status, result.code, result.now, result.nextAttemptAt],
  )
  return noted === 1
}

/** Ends deliveries that have waited too long, or whose subscriber wants nothing any more. @returns how many */
export function giveUp(
  tx: Transaction,
  subscriber: string,
  code: string,
  options: { createdBefore: Date | null; now: Date },
): Promise<number> {
  return tx.execute(
    `update caretaker.deliveries set state = 'dead', error = jsonb_build_object('code', $2::text, 'at', $4::timestamptz)
     where state = 'waiting' and subscriber = $1::text and ($3::timestamptz is null or created_at < $3::timestamptz)`,
    [subscriber, code, options.createdBefore, options.now],
  )
}

/** Ends what waits for subscribers that the policy does not have any more. @returns how many */
export function endUnsubscribed(db: Queryable, names: readonly string[], now: Date): Promise<number> {
  return db.execute(
    `update caretaker.deliveries set state = 'dead', error = jsonb_build_object('code', 'unsubscribed', 'at', $2::timestamptz)
     where state = 'waiting' and subscriber <> all($1::text[])`,
    [names, now],
  )
}

export async function markGone(tx: Transaction, name: string, now: Date): Promise<boolean> {
  const marked = await tx.execute(
    `insert into caretaker.subscribers as s (name, gone_at) values ($1::text, $2::timestamptz)
     on conflict (name) do update set gone_at = excluded.gone_at where s.gone_at is null`,
    [name, now],
  )
  return marked === 1
}

export interface DeliveryEntry extends Row {
  id: string
  messageId: string
  type: string
  subscriber: string
  state: DeliveryState
  attempts: number
  status: number | null
  createdAt: Date
  nextAttemptAt: Date
  deliveredAt: Date | null
  error: { code: string } | null
}

const entryColumns = `d.id::text as id, d.message_id as "messageId", m.type, d.subscriber, d.state, d.attempts, d.status,
  d.created_at as "createdAt", d.next_attempt_at as "nextAttemptAt", d.delivered_at as "deliveredAt", d.error`

/** The newest first. */
export function selectDeliveries(
  db: Queryable,
  filter: { state: DeliveryState | null; subscriber: string | null; type: string | null; limit: number },
): Promise<DeliveryEntry[]> {
  return db.query<DeliveryEntry>(
    `select ${entryColumns} from caretaker.deliveries d join caretaker.messages m on m.id = d.message_id
     where ($1::text is null or d.state = $1::text) and ($2::text is null or d.subscriber = $2::text) and ($3::text is null or m.type = $3::text)
     order by d.id desc limit $4::int`,
    [filter.state, filter.subscriber, filter.type, filter.limit],
  )
}

/** Those of one message, or the one of that number, locked and in order. */
export function lockDeliveries(tx: Transaction, id: string): Promise<DeliveryEntry[]> {
  return tx.query<DeliveryEntry>(
    `select ${entryColumns} from caretaker.deliveries d join caretaker.messages m on m.id = d.message_id
     where d.message_id = $1::text or d.id = $2::bigint order by d.id for update of d`,
    [id, /^[1-9]\d{0,17}$/.test(id) ? id : null],
  )
}

export async function makeDeliveryDue(tx: Transaction, id: string, now: Date): Promise<void> {
  await tx.execute(
    `update caretaker.deliveries set state = 'waiting', attempts = 0, next_attempt_at = $2::timestamptz, created_at = $2::timestamptz, error = null,
       status = null, delivered_at = null where id = $1::bigint`,
    [id, now],
  )
}

export async function reopenSubscriber(tx: Transaction, name: string): Promise<void> {
  await tx.execute('update caretaker.subscribers set gone_at = null, failures = 0, open_until = null where name = $1::text', [name])
}
