import type { Queryable, Row, Transaction } from '../platform/db.ts'
import type { NotificationKind, NotificationPayload } from './types.ts'

/*
 * A clock that was set back leaves times that lie further ahead than anybody waits: a lease is a minute, the longest patience an hour, and
 * after a success a channel rests for its pace alone. Such a time holds nothing up.
 */
const free = (now: string) => `(c.busy_until is null or c.busy_until <= ${now} or c.busy_until > ${now} + interval '5 minutes')
         and (c.next_at is null or c.next_at <= ${now} or c.next_at > ${now} + case when c.failures = 0 then interval '1 minute' else interval '65 minutes' end)`
const due = (now: string) => `(n.attempts = 0 or n.next_attempt_at <= ${now} or n.next_attempt_at > ${now} + interval '65 minutes')`

/** One sender at a time for a channel, and none before its time. @returns whether it is this one */
export async function takeChannel(db: Queryable, environment: string, name: string, now: Date, until: Date): Promise<boolean> {
  const taken = await db.execute(
    `insert into caretaker.alert_channels as c (environment, name, busy_until) values ($1, $2, $4::timestamptz)
     on conflict (environment, name) do update set busy_until = excluded.busy_until
     where ${free('$3::timestamptz')}`,
    [environment, name, now, until],
  )
  return taken === 1
}

/** Keeps the lease while there is more to send. */
export async function keepChannel(db: Queryable, environment: string, name: string, until: Date): Promise<void> {
  await db.execute('update caretaker.alert_channels set busy_until = $3::timestamptz where environment = $1 and name = $2', [
    environment,
    name,
    until,
  ])
}

export async function leaveChannel(db: Queryable, environment: string, name: string): Promise<void> {
  await db.execute('update caretaker.alert_channels set busy_until = null where environment = $1 and name = $2', [environment, name])
}

/** Notes that the channel takes messages; the next not before `nextAt`. */
export async function noteSuccess(tx: Queryable, environment: string, name: string, now: Date, nextAt: Date): Promise<void> {
  await tx.execute(
    `update caretaker.alert_channels set failures = 0, failing_since = null, delivered_at = $3::timestamptz, next_at = $4::timestamptz
     where environment = $1 and name = $2`,
    [environment, name, now, nextAt],
  )
}

/** Counts a failure of the channel. @returns how many there are now, one after the other */
export async function noteFailure(tx: Queryable, environment: string, name: string, now: Date): Promise<number> {
  const [row] = await tx.query<{ failures: number }>(
    `update caretaker.alert_channels set failures = failures + 1, failing_since = coalesce(failing_since, $3::timestamptz)
     where environment = $1 and name = $2 returning failures`,
    [environment, name, now],
  )
  return row?.failures ?? 1
}

export async function pauseChannel(tx: Queryable, environment: string, name: string, nextAt: Date): Promise<void> {
  await tx.execute('update caretaker.alert_channels set next_at = $3::timestamptz where environment = $1 and name = $2', [
    environment,
    name,
    nextAt,
  ])
}

/**
 * What is not worth sending any more. A resolution takes the place of everything before it that was not heard; a reminder says
 * nothing while what it reminds of still waits.
 */
export async function supersede(db: Queryable, environment: string, channel: string): Promise<number> {
  return db.execute(
    `update caretaker.notifications n set state = 'superseded'
     where n.environment = $1 and n.channel = $2 and n.state = 'waiting' and n.incident is not null and (
       (n.kind <> 'resolved' and exists (
         select from caretaker.notifications later where later.environment = $1 and later.channel = $2 and later.incident = n.incident
           and later.id > n.id and later.kind = 'resolved'))
       or (n.kind = 'reminder' and exists (
         select from caretaker.notifications before where before.environment = $1 and before.channel = $2 and before.incident = n.incident
           and before.id < n.id and before.state = 'waiting' and before.kind in ('opened', 'reopened', 'reminder'))))`,
    [environment, channel],
  )
}

export interface TakenNotification extends Row {
  id: string
  incident: string | null
  kind: NotificationKind
  severity: string
  payload: NotificationPayload
  attempts: number
  at: Date
  reached: string[]
  unheard: boolean
}

/**
 * Takes the message of a channel that has waited longest, if it is due: of each incident the first one only, so that its end is not
 * told before its beginning. The attempt is counted and the next one put off before it is made: a sender that dies of it leaves the
 * rest to the next one.
 */
export async function takeNotification(
  db: Queryable,
  take: { environment: string; channel: string; now: Date; nextAttemptAt: Date },
): Promise<TakenNotification | null> {
  const [row] = await db.query<TakenNotification>(
    `with next as (
       select n.id from caretaker.notifications n
       where n.environment = $1 and n.channel = $2 and n.state = 'waiting' and ${due('$3::timestamptz')}
         and not exists (
           select from caretaker.notifications before where before.environment = $1 and before.channel = $2 and before.state = 'waiting'
             and before.incident is not distinct from n.incident and before.id < n.id)
       order by n.id limit 1 for update skip locked)
     update caretaker.notifications n set attempts = n.attempts + 1, next_attempt_at = $4::timestamptz from next where n.id = next.id
     returning n.id::text as id, n.incident::text as incident, n.kind, n.severity, n.payload, n.attempts, n.created_at as at, n.reached,
       exists (select from caretaker.notifications before where before.environment = $1 and before.channel = $2
         and before.incident = n.incident and before.id < n.id and before.state in ('superseded', 'dead') and before.kind <> 'reminder') as unheard`,
    [take.environment, take.channel, take.now, take.nextAttemptAt],
  )
  return row ?? null
}

/** What became of an attempt; of one that another sender has taken since, nothing. @returns whether it was noted */
export async function noteAttempt(
  tx: Queryable,
  taken: Pick<TakenNotification, 'id' | 'attempts'>,
  result: {
    state: 'delivered' | 'waiting' | 'dead'
    status: number | null
    code: string | null
    now: Date
    nextAttemptAt: Date | null
    reached: readonly string[] | null
  },
): Promise<boolean> {
  const noted = await tx.execute(
    `update caretaker.notifications
     set state = $3, status = $4::int, error = case when $5::text is null then null else jsonb_build_object('code', $5::text, 'at', $6::timestamptz) end,
       next_attempt_at = coalesce($7::timestamptz, next_attempt_at), reached = coalesce($8::text[], reached),
       delivered_at = case when $3 = 'delivered' then $6::timestamptz end
     where id = $1::bigint and attempts = $2::int and state = 'waiting'`,
    [taken.id, taken.attempts, result.state, result.status, result.code, result.now, result.nextAttemptAt, result.reached],
  )
  return noted === 1
}

/**
 * Ends what waits for channels that the policy does not have any more. Another deployment on the database may have them, or whoever sends
 * from a desk lacks a setting: only what nobody has tried to send for an hour is ended. @returns how many
 */
export function endUnlisted(db: Queryable, environment: string, names: readonly string[], now: Date): Promise<number> {
  return db.execute(
    `update caretaker.notifications n set state = 'dead', error = jsonb_build_object('code', 'channel_removed', 'at', $3::timestamptz)
     where n.environment = $1 and n.state = 'waiting' and n.channel <> all($2::text[]) and not exists (
       select from caretaker.notifications tried where tried.environment = $1 and tried.channel = n.channel and tried.state = 'waiting'
         and tried.next_attempt_at > $3::timestamptz - interval '1 hour')`,
    [environment, names, now],
  )
}

/** Ends what has waited too long to be news; a resolution is waited for without end. @returns what was ended, by channel */
export function endOld(tx: Transaction, environment: string, before: Date, now: Date): Promise<{ channel: string; count: number }[]> {
  return tx.query<{ channel: string; count: number }>(
    `with ended as (
       update caretaker.notifications set state = 'dead', error = jsonb_build_object('code', 'expired', 'at', $3::timestamptz)
       where environment = $1 and state = 'waiting' and kind <> 'resolved' and created_at < $2::timestamptz returning channel)
     select channel, count(*)::int as count from ended group by channel`,
    [environment, before, now],
  )
}

/** Whether something is to be sent now. */
export async function sendingWaits(db: Queryable, environment: string, now: Date): Promise<boolean> {
  const [row] = await db.query<{ waits: boolean }>(
    `select exists (
       select from caretaker.notifications n left join caretaker.alert_channels c on c.environment = n.environment and c.name = n.channel
       where n.environment = $1 and n.state = 'waiting' and ${due('$2::timestamptz')}
         and (c.name is null or ${free('$2::timestamptz')})) as waits`,
    [environment, now],
  )
  return row?.waits === true
}
