import type { Queryable, Row, Transaction } from '../platform/db.ts'

export type InboxState = 'received' | 'applied' | 'ignored' | 'dead'

export interface NewEvent {
  source: string
  eventId: string
  type: string
  occurredAt: Date
  receivedAt: Date
  /** Where it stands among the events of its object. */
  position: number
  objectTag: Buffer | null
  payload: Buffer
  /** It never arrived, and was asked for. */
  fetched?: boolean
}

const columns = 'source, event_id, type, occurred_at, received_at, next_attempt_at, position, object_tag, payload, fetched'
const casts = ['text', 'text', 'text', 'timestamptz', 'timestamptz', 'bigint', 'bytea', 'bytea', 'boolean']
/** PostgreSQL takes 65,535 parameters; a statement of that size would be no quicker than several. */
const mostRows = 500

/** The text of an insert of so many rows, made once. */
const inserts = new Map<number, string>()

function insertOf(rows: number): string {
  const known = inserts.get(rows)
  if (known !== undefined) return known
  const row = (index: number) => {
    const [source, id, type, occurred, received, ...rest] = casts.map((cast, column) => `$${index * casts.length + column + 1}::${cast}`)
    return `(${[source, id, type, occurred, received, received, ...rest].join(', ')})`
  }
  const text = `insert into caretaker.inbox (${columns}) values ${Array.from({ length: rows }, (_, index) => row(index)).join(', ')}
    on conflict (source, event_id) do nothing returning source, event_id as "eventId"`
  inserts.set(rows, text)
  return text
}

/**
 * Inserts the events that are not there yet. A concurrent insert of the same event is waited for: the answer follows a commit.
 * Rows go in the order of their ids, so that two of these at once cannot each wait for the other.
 * @returns for each event whether it is new; of one that is given twice, one is
 */
export async function insertEvents(db: Queryable, events: readonly NewEvent[]): Promise<boolean[]> {
  const key = (event: { source: string; eventId: string }) => `${event.source} ${event.eventId}`
  const order = events.length < 2 ? events : [...events].sort((a, b) => (key(a) < key(b) ? -1 : 1))
  const inserted = new Set<string>()
  for (let from = 0; from < order.length; from += mostRows) {
    const rows = order.slice(from, from + mostRows)
    const params = rows.flatMap((event) => [
      event.source,
      event.eventId,
      event.type,
      // As texts: the driver's own rendering of a Date costs a tenth of all that accepting an event does.
      event.occurredAt.toISOString(),
      event.receivedAt.toISOString(),
      event.position,
      event.objectTag,
      event.payload,
      event.fetched === true,
    ])
    for (const row of await db.query<{ source: string; eventId: string }>(insertOf(rows.length), params)) inserted.add(key(row))
  }
  return events.map((event) => inserted.delete(key(event)))
}

export interface ClaimedEvent extends Row {
  id: string
  source: string
  eventId: string
  type: string
  payload: Buffer
  attempts: number
  position: number
  objectTag: Buffer | null
  receivedAt: Date
}

interface Due {
  source: string
  types: readonly string[]
  now: Date
  /** Only these rows; null for any. */
  ids: readonly string[] | null
}

/**
 * Locks the oldest due event that no earlier event of its object stands before, until the transaction ends.
 * An earlier one that another worker is applying is still 'received' in this snapshot, so nothing overtakes it;
 * one that failed and waits for its next attempt holds its object's later events back until it is applied or dead.
 *
 * `offset 0` keeps the question a subquery of its own, asked of one candidate after the other in index order until one
 * passes. As an anti-join over a table without statistics it read all that waited at every claim: 8 events/s of 5,000.
 */
export async function claimEvent(tx: Transaction, due: Due): Promise<ClaimedEvent | undefined> {
  const [row] = await tx.query<ClaimedEvent>(
    `select i.id::text as id, i.source, i.event_id as "eventId", i.type, i.payload, i.attempts, i.position::float8 as position,
       i.object_tag as "objectTag", i.received_at as "receivedAt"
     from caretaker.inbox i
     where i.state = 'received' and i.source = $1::text and i.type = any($2::text[]) and i.next_attempt_at <= $3::timestamptz
       and ($4::bigint[] is null or i.id = any($4::bigint[]))
       and not exists (
         select from caretaker.inbox earlier
         where earlier.state = 'received' and earlier.object_tag = i.object_tag
           and earlier.type = any($2::text[]) and (earlier.position, earlier.id) < (i.position, i.id)
         offset 0)
     order by i.occurred_at, i.id
     limit 1
     for update skip locked`,
    [due.source, due.types, due.now, due.ids],
  )
  return row
}

/** How far an object is: where what was applied last stands, and a keyed hash of the state it brought. */
export interface ObjectProgress extends Row {
  position: number
  stateTag: Buffer | null
  /** The newest event that was applied, and its own position: less than `position` where the object was looked up since. */
  newestId: string | null
  newestPosition: number
}

/**
 * Locks the object until the transaction ends, and says how far it is. An earlier event may arrive while a later one of
 * its object is being applied: it waits here, so that two handlers never work on one object at a time, and then sees
 * what the other has done: of a row that was waited for, `on conflict` returns the newest version.
 */
export async function lockObject(tx: Transaction, source: string, objectTag: Buffer): Promise<ObjectProgress> {
  const [row] = await tx.query<ObjectProgress>(
    `insert into caretaker.inbox_objects as o (source, object_tag) values ($1::text, $2::bytea)
     on conflict (source, object_tag) do update set touched_at = now()
     returning o.position::float8 as position, o.state_tag as "stateTag", o.newest_id::text as "newestId",
       o.newest_position::float8 as "newestPosition"`,
    [source, objectTag],
  )
  return row ?? { position: 0, stateTag: null, newestId: null, newestPosition: 0 }
}

export async function selectPayload(
  tx: Transaction,
  id: string,
): Promise<{ source: string; eventId: string; payload: Buffer } | undefined> {
  const [row] = await tx.query<{ source: string; eventId: string; payload: Buffer }>(
    'select source, event_id as "eventId", payload from caretaker.inbox where id = $1::bigint',
    [id],
  )
  return row
}

/**
 * Counts an attempt that is about to be made, and puts the next one off: it stands even if the process dies of this one.
 * @returns whether it was counted here; false where another worker was faster
 */
export async function countAttempt(db: Queryable, event: Pick<ClaimedEvent, 'id' | 'attempts'>, nextAttemptAt: Date): Promise<boolean> {
  const updated = await db.execute(
    `update caretaker.inbox set attempts = attempts + 1, next_attempt_at = $3::timestamptz
     where id = $1::bigint and attempts = $2::int and state = 'received'`,
    [event.id, event.attempts, nextAttemptAt],
  )
  return updated === 1
}

export interface Applied {
  id: string
  /** All of them, this one included. */
  attempts: number
  at: Date
  /** `ignored`: set aside as late. */
  state: 'applied' | 'ignored'
  /** Of its object, with the event itself as the newest if it stands at `own` or after what was. */
  progress?: { source: string; objectTag: Buffer; position: number; stateTag: Buffer; own: number }
}

export async function markApplied(tx: Transaction, event: Applied): Promise<void> {
  const { progress } = event
  await tx.execute(
    `with progress as (
       update caretaker.inbox_objects set
         position = greatest(position, $5::bigint),
         state_tag = case when $5::bigint >= position then $6::bytea else state_tag end,
         newest_id = case when $9::bigint >= newest_position then $1::bigint else newest_id end,
         newest_position = greatest(newest_position, $9::bigint)
       where source = $7::text and object_tag = $8::bytea)
     update caretaker.inbox
     set state = $4::text, applied_at = case when $4::text = 'applied' then $2::timestamptz end, attempts = $3::int,
       error = case when $4::text = 'ignored' then '{"code":"late"}'::jsonb end
     where id = $1::bigint and state = 'received'`,
    [
      event.id,
      event.at,
      event.attempts,
      event.state,
      progress?.position ?? null,
      progress?.stateTag ?? null,
      progress?.source ?? null,
      progress?.objectTag ?? null,
      progress?.own ?? null,
    ],
  )
}

/** Sets events of types that the policy has no handler for aside, at most `limit`. @returns how many */
export function ignoreUnhandled(db: Queryable, due: Due, limit: number): Promise<number> {
  return db.execute(
    `update caretaker.inbox set state = 'ignored'
     where id in (
       select id from caretaker.inbox
       where state = 'received' and source = $1::text and not type = any($2::text[]) and next_attempt_at <= $3::timestamptz
         and ($4::bigint[] is null or id = any($4::bigint[]))
       order by occurred_at, id limit $5::int for update skip locked)`,
    [due.source, due.types, due.now, due.ids, limit],
  )
}

/**
 * Counts a failed attempt, unless another worker has counted or applied it meanwhile.
 * @returns whether it was counted here
 */
export async function recordFailure(
  tx: Transaction,
  event: Pick<ClaimedEvent, 'id' | 'attempts'>,
  failure: { state: 'received' | 'dead'; attempts: number; nextAttemptAt: Date; error: Record<string, unknown> },
): Promise<boolean> {
  const updated = await tx.execute(
    `update caretaker.inbox set attempts = $6::int, state = $3::text, next_attempt_at = $4::timestamptz, error = $5::jsonb
     where id = $1::bigint and attempts = $2::int and state = 'received'`,
    [event.id, event.attempts, failure.state, failure.nextAttemptAt, JSON.stringify(failure.error), failure.attempts],
  )
  return updated === 1
}

export interface InboxEntry extends Row {
  id: string
  source: string
  eventId: string
  type: string
  state: InboxState
  attempts: number
  occurredAt: Date | null
  receivedAt: Date
  nextAttemptAt: Date
  appliedAt: Date | null
  error: { code: string } | null
  /** It never arrived, and was asked for. */
  fetched: boolean
}

const entryColumns = `id::text as id, source, event_id as "eventId", type, state, attempts, occurred_at as "occurredAt",
  received_at as "receivedAt", next_attempt_at as "nextAttemptAt", applied_at as "appliedAt", error, fetched`

/** The newest entries first. `order by id` alone would sort by the column of that name above, which is text: 9 before 10. */
export function selectEntries(
  db: Queryable,
  filter: { state: InboxState | null; source: string | null; type: string | null; limit: number },
): Promise<InboxEntry[]> {
  return db.query<InboxEntry>(
    `select ${entryColumns} from caretaker.inbox
     where ($1::text is null or state = $1::text) and ($2::text is null or source = $2::text) and ($3::text is null or type = $3::text)
     order by inbox.id desc limit $4::int`,
    [filter.state, filter.source, filter.type, filter.limit],
  )
}

/** Dead events that can be replayed, the oldest first; how many there are of them, and how many whose payload was pruned. */
export async function selectReplayable(db: Queryable, limit: number): Promise<{ ids: string[]; replayable: number; pruned: number }> {
  const [row] = await db.query<{ ids: string[]; replayable: number; pruned: number }>(
    `with dead as (select id, octet_length(payload) > 0 as whole from caretaker.inbox where state = 'dead')
     select array(select id::text from dead where whole order by dead.id limit $1::int) as ids,
       (select count(*)::int from dead where whole) as replayable, (select count(*)::int from dead where not whole) as pruned`,
    [limit],
  )
  return row ?? { ids: [], replayable: 0, pruned: 0 }
}

/** By the inbox's number, else by the provider's id (which two providers could share: then the oldest). */
export async function selectEntry(
  db: Queryable,
  id: string,
  lock: 'for update' | '' = '',
): Promise<(InboxEntry & { payload: Buffer }) | undefined> {
  const number = /^[1-9]\d{0,17}$/.test(id) ? id : null
  const [row] = await db.query<InboxEntry & { payload: Buffer }>(
    `select ${entryColumns}, payload from caretaker.inbox where id = $1::bigint or event_id = $2::text
     order by (inbox.id = $1::bigint) desc nulls last, inbox.id limit 1 ${lock}`,
    [number, id],
  )
  return row
}

export async function makeDue(tx: Transaction, id: string, now: Date): Promise<void> {
  await tx.execute(
    `update caretaker.inbox set state = 'received', attempts = 0, next_attempt_at = $2::timestamptz, error = null where id = $1::bigint`,
    [id, now],
  )
}

export interface WaitingType extends Row {
  source: string
  type: string
  state: 'received' | 'dead'
  count: number
}

export function countOpen(db: Queryable): Promise<WaitingType[]> {
  return db.query<WaitingType>(
    `select source, type, state, count(*)::int as count from caretaker.inbox
     where state in ('received', 'dead') group by source, type, state order by source, type, state`,
  )
}
