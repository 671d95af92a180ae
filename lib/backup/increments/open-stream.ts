import type { Context } from '../../platform/context.ts'
import type { Session } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import type { Scope } from '../supabase.ts'
import { schemaFingerprint } from './schema-fingerprint.ts'
import { createSlot, dropSlot, listSlots, type Slot, serverRefusal } from './slot.ts'
import { listStreams, newStream, readStream, type StoredStream, type Stream, streamFolder, writeStream } from './stream.ts'

export type Opened =
  | { on: true; stream: Stream; slot: Slot; stored: StoredStream; notes: string[] }
  /** Increments are not possible here; backups are. */
  | { on: false; reason: string; notes: string[] }

/**
 * The stream of this database and its slot, made where there is none. Slots of ours that lost their log, or that a newer
 * one replaces, are dropped; a slot that another store feeds from is left alone and named.
 */
export async function openStream(ctx: Context, store: ObjectStore, session: Session, scope: Scope): Promise<Opened> {
  const notes: string[] = []
  const refusal = await serverRefusal(session)
  if (refusal !== null) return { on: false, reason: refusal, notes }
  const mine = await findMine(store, session, notes)
  const usable = mine.filter(({ slot }) => !slot.lost && slot.confirmed !== null)
  const newest = usable.at(-1)
  for (const { slot } of mine) {
    if (slot === newest?.slot) continue
    if (slot.lost) notes.push(`Slot ${slot.name} has lost its log (max_slot_wal_keep_size) and was dropped.`)
    await dropSlot(session, slot)
  }
  if (newest !== undefined) return { on: true, ...newest, notes }

  const [database] = await session.query<{ name: string; keep: string; now: Date }>(
    `select current_database()::text as name, current_setting('max_slot_wal_keep_size') as keep, clock_timestamp() as now`,
  )
  const stream = newStream({
    app: ctx.config.app.name,
    database: database?.name ?? '',
    schema: await schemaFingerprint(session, scope),
    now: database?.now ?? ctx.clock.now(),
  })
  await writeStream(store, stream, ctx.signal)
  const refused = await createSlot(session, stream.slot)
  if (refused !== null) {
    await store.delete(`${streamFolder(stream.id)}stream.json`)
    return { on: false, reason: refused, notes }
  }
  const slot = (await listSlots(session)).find((one) => one.name === stream.slot)
  if (slot === undefined) throw new CaretakerError('internal', `Slot ${stream.slot} was made and is not there.`)
  if (database?.keep === '-1')
    notes.push(
      'max_slot_wal_keep_size is -1: if these runs ever end, the slot keeps log until the disk is full. Set it, or stop increments with "caretaker backup increment --stop".',
    )
  return { on: true, stream, slot, stored: { id: stream.id, segments: [], objects: [] }, notes }
}

/** One run at a time makes and reads slots of a database; false when another is at it. Held until the session ends. */
export async function takeLock(session: Session): Promise<boolean> {
  const [lock] = await session.query<{ taken: boolean }>(
    `select pg_try_advisory_lock(hashtextextended('caretaker.increments', 0)) as taken`,
  )
  return lock?.taken === true
}

type Mine = Omit<Extract<Opened, { on: true }>, 'on' | 'notes'>

async function findMine(store: ObjectStore, session: Session, notes: string[]): Promise<Mine[]> {
  const slots = await listSlots(session)
  if (slots.length === 0) return []
  const mine: Mine[] = []
  const known = new Set<string>()
  for (const stored of await listStreams(store)) {
    const stream = await readStream(store, stored.id)
    const slot = slots.find((one) => one.name === stream?.slot)
    if (stream === null || slot === undefined) continue
    known.add(slot.name)
    mine.push({ stream, slot, stored })
  }
  for (const slot of slots)
    if (!known.has(slot.name))
      notes.push(
        `Slot ${slot.name} belongs to increments in another store and keeps ${Math.round(slot.lagBytes / 1024 ** 2)} MB of log. If nothing reads it any more: select pg_drop_replication_slot('${slot.name}').`,
      )
  return mine
}

/** Drops every slot of this database that this store knows. Returns their names. What is stored stays. */
export async function dropStreams(store: ObjectStore, session: Session): Promise<string[]> {
  const mine = await findMine(store, session, [])
  for (const { slot } of mine) await dropSlot(session, slot)
  return mine.map(({ slot }) => slot.name)
}
