import type { Queryable, Transaction } from '../../platform/db.ts'
import type { OpenDump, WrittenPart } from '../open-dump.ts'

export type DumpState = 'open' | 'sealed' | 'lost'

/** Whether Caretaker's tables are in the database: only then can several invocations share a dump. */
export async function canShare(db: Queryable): Promise<boolean> {
  const [row] = await db.query<{ there: boolean }>(`select to_regclass('caretaker.dump_participants') is not null as there`)
  return row?.there === true
}

/** Records a dump that was just opened, with its first participant. */
export async function recordDump(tx: Transaction, dump: OpenDump, self: Participant): Promise<void> {
  await tx.execute('insert into caretaker.dumps (id, plan) values ($1, $2::jsonb)', [dump.id, JSON.stringify(dump)])
  await tx.execute(
    `insert into caretaker.dump_parts (dump_id, number) select $1, (part ->> 'number')::int from jsonb_array_elements($2::jsonb) part`,
    [dump.id, JSON.stringify(dump.parts)],
  )
  await recordParticipant(tx, dump.id, self)
}

export interface Participant {
  id: string
  /** What SET TRANSACTION SNAPSHOT takes. */
  snapshot: string
  leavesAt: Date
}

export async function recordParticipant(db: Queryable, dumpId: string, self: Participant): Promise<void> {
  await db.execute(
    'insert into caretaker.dump_participants (dump_id, id, snapshot, leaves_at) values ($1, $2::uuid, $3, $4::timestamptz)',
    [dumpId, self.id, self.snapshot, self.leavesAt],
  )
}

export async function loadDump(db: Queryable, id: string): Promise<{ dump: OpenDump; state: DumpState } | null> {
  const [row] = await db.query<{ plan: OpenDump; state: DumpState }>('select plan, state from caretaker.dumps where id = $1', [id])
  return row === undefined ? null : { dump: row.plan, state: row.state }
}

/** The newest dump that is open and has a participant alive. */
export async function findOpenDump(db: Queryable, leaseSeconds: number): Promise<OpenDump | null> {
  const [row] = await db.query<{ plan: OpenDump }>(
    `select d.plan from caretaker.dumps d
     where d.state = 'open' and exists (
       select from caretaker.dump_participants p where p.dump_id = d.id and p.heartbeat_at > now() - make_interval(secs => $1::int))
     order by d.opened_at desc limit 1`,
    [leaseSeconds],
  )
  return row?.plan ?? null
}

/** Those whose snapshot can be imported, the one that stays longest first. */
export async function listParticipants(db: Queryable, dumpId: string, leaseSeconds: number): Promise<Participant[]> {
  return db.query<{ id: string; snapshot: string; leavesAt: Date }>(
    `select id::text, snapshot, leaves_at as "leavesAt" from caretaker.dump_participants
     where dump_id = $1 and heartbeat_at > now() - make_interval(secs => $2::int) order by leaves_at desc`,
    [dumpId, leaseSeconds],
  )
}

/** Says that a participant is alive, and keeps what it has taken. False when nobody knows it any more. */
export async function keepLease(db: Queryable, dumpId: string, self: string, leaseSeconds: number): Promise<boolean> {
  const known = await db.execute('update caretaker.dump_participants set heartbeat_at = now() where dump_id = $1 and id = $2::uuid', [
    dumpId,
    self,
  ])
  await db.execute(
    `update caretaker.dump_parts set lease_until = now() + make_interval(secs => $3::int) where dump_id = $1 and taken_by = $2::uuid and state = 'taken'`,
    [dumpId, self, leaseSeconds],
  )
  return known > 0
}

/** Leaves: its snapshot is imported by nobody from now on, and its unfinished parts are free. */
export async function removeParticipant(db: Queryable, dumpId: string, self: string): Promise<void> {
  await db.execute('delete from caretaker.dump_participants where dump_id = $1 and id = $2::uuid', [dumpId, self])
  await db.execute(
    `update caretaker.dump_parts set state = 'waiting', lease_until = null where dump_id = $1 and taken_by = $2::uuid and state = 'taken'`,
    [dumpId, self],
  )
}

/** The next part that waits, or whose taker is gone. Two that ask at once get two parts. */
export async function takePart(
  db: Queryable,
  dumpId: string,
  self: string,
  leaseSeconds: number,
): Promise<{ number: number; attempt: number } | null> {
  const [row] = await db.query<{ number: number; attempt: number }>(
    `update caretaker.dump_parts p set state = 'taken', taken_by = $2::uuid, attempt = attempt + 1, lease_until = now() + make_interval(secs => $3::int)
     from (select number from caretaker.dump_parts
           where dump_id = $1 and (state = 'waiting' or (state = 'taken' and lease_until < now()))
           order by number limit 1 for update skip locked) next
     where p.dump_id = $1 and p.number = next.number returning p.number, p.attempt`,
    [dumpId, self, leaseSeconds],
  )
  return row ?? null
}

/** False when the part was another's by then: what this one stored is not used. */
export async function finishPart(
  db: Queryable,
  dumpId: string,
  self: string,
  taken: { number: number; attempt: number },
  written: WrittenPart,
): Promise<boolean> {
  const done = await db.execute(
    `update caretaker.dump_parts set state = 'done', result = $5::jsonb, lease_until = null
     where dump_id = $1 and number = $2::int and taken_by = $3::uuid and attempt = $4::int and state = 'taken'`,
    [dumpId, taken.number, self, taken.attempt, JSON.stringify(written)],
  )
  return done > 0
}

export async function freePart(db: Queryable, dumpId: string, self: string, taken: { number: number; attempt: number }): Promise<void> {
  await db.execute(
    `update caretaker.dump_parts set state = 'waiting', lease_until = null where dump_id = $1 and number = $2::int and taken_by = $3::uuid and attempt = $4::int and state = 'taken'`,
    [dumpId, taken.number, self, taken.attempt],
  )
}

export async function countOpenParts(db: Queryable, dumpId: string): Promise<number> {
  const [row] = await db.query<{ n: number }>(
    `select count(*)::int as n from caretaker.dump_parts where dump_id = $1 and state <> 'done'`,
    [dumpId],
  )
  return row?.n ?? 0
}

export async function listWritten(db: Queryable, dumpId: string): Promise<Map<number, WrittenPart>> {
  const rows = await db.query<{ number: number; result: WrittenPart }>(
    `select number, result from caretaker.dump_parts where dump_id = $1 and state = 'done'`,
    [dumpId],
  )
  return new Map(rows.map((row) => [row.number, row.result]))
}

/** Ends an open dump. False when it had ended. Parts of ended dumps are of no use any more. */
export async function endDump(db: Queryable, dumpId: string, state: 'sealed' | 'lost'): Promise<boolean> {
  const ended = await db.execute(`update caretaker.dumps set state = $2 where id = $1 and state = 'open'`, [dumpId, state])
  if (ended > 0) await db.execute(`delete from caretaker.dumps where state <> 'open' and opened_at < now() - interval '7 days'`)
  return ended > 0
}

export async function dumpState(db: Queryable, dumpId: string): Promise<DumpState | null> {
  const [row] = await db.query<{ state: DumpState }>('select state from caretaker.dumps where id = $1', [dumpId])
  return row?.state ?? null
}
