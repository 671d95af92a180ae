import type { Context } from '../../platform/context.ts'
import type { Session } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { databaseInstance } from '../instance.ts'
import { ownTrust, pinSigner, signerOf } from '../signing/index.ts'
import type { Scope } from '../supabase.ts'
import { schemaFingerprint } from './schema-fingerprint.ts'
import { createSlot, dropSlot, listSlots, type Slot, serverRefusal } from './slot.ts'
import { listStreams, newStream, readStream, type StoredStream, type Stream, streamFolder, writeStream } from './stream.ts'

export type Opened =
  | { on: true; stream: Stream; slot: Slot; stored: StoredStream; notes: string[]; lost: string[] }
  /** Increments are not possible here; backups are. */
  | { on: false; reason: string; notes: string[]; lost: string[] }

/**
 * The stream of this database and its slot, made where there is none. Slots of ours that lost their log, or that a newer
 * one replaces, are dropped; a slot that another store feeds from is left alone and named. `lost` says what was lost with
 * slots, for people who are to be told.
 */
export async function openStream(ctx: Context, store: ObjectStore, session: Session, scope: Scope): Promise<Opened> {
  const notes: string[] = []
  const lost: string[] = []
  const refusal = await serverRefusal(session)
  if (refusal !== null) return { on: false, reason: refusal, notes, lost }
  const { mine, unsigned, strangers } = await findFeeds(ctx, store, session, notes)
  const [stranger] = strangers
  if (stranger !== undefined)
    return {
      on: false,
      reason: `Slot ${stranger.slot.name} feeds increments in this store that were signed with another key, ${stranger.signer}. Run this with the deployment's own ENCRYPTION_KEY, or name that key in backup.signers; "caretaker backup increment --stop" ends those increments.`,
      notes,
      lost,
    }
  const usable = mine.filter(({ slot }) => !slot.lost && slot.confirmed !== null)
  const newest = usable.at(-1)
  for (const { slot } of mine) {
    if (slot === newest?.slot) continue
    if (slot.lost) {
      lost.push(
        `Slot ${slot.name} has lost its log: the server threw away what was not read yet, as max_slot_wal_keep_size (${await keptSize(session)}) says. What was committed since the last increment can only be restored as of the next full backup; the slot was dropped, and increments begin anew with that.`,
      )
      // Before the slot goes: if this run is killed here, the next one says it again.
      await tellLost(ctx, slot, lost.at(-1) ?? '')
    }
    await dropSlot(session, slot)
  }
  for (const { slot } of unsigned) {
    notes.push(`Slot ${slot.name} fed increments that are not signed; it was dropped, and they begin anew.`)
    await dropSlot(session, slot)
  }
  notes.push(...lost)
  if (newest !== undefined) return { on: true, ...newest, notes, lost }

  const [database] = await session.query<{ name: string; now: Date }>(`select current_database()::text as name, clock_timestamp() as now`)
  const signer = signerOf(ctx.env)
  const stream = newStream({
    app: ctx.config.app.name,
    database: database?.name ?? '',
    instance: await databaseInstance(session),
    scheduled: ctx.config.backup?.increments !== undefined,
    schema: await schemaFingerprint(session, scope),
    now: database?.now ?? ctx.clock.now(),
  })
  // Before the first thing is signed: whoever reads it later must know the key.
  if (signer !== null) await pinSigner(ctx, signer.publicKey)
  await writeStream(store, stream, signer, ctx.signal)
  const refused = await createSlot(session, stream.slot)
  if (refused !== null) {
    await store.delete(`${streamFolder(stream.id)}stream.json`)
    return { on: false, reason: refused, notes, lost }
  }
  const slot = (await listSlots(session)).find((one) => one.name === stream.slot)
  if (slot === undefined) throw new CaretakerError('internal', `Slot ${stream.slot} was made and is not there.`)
  if ((await keptSize(session)) === '-1')
    notes.push(
      'max_slot_wal_keep_size is -1: if these runs ever end, the slot keeps log until the disk is full. Set it, or stop increments with "caretaker backup increment --stop".',
    )
  return { on: true, stream, slot, stored: { id: stream.id, segments: [], objects: [] }, notes, lost }
}

/** In the log, and in the outbox where there is one that this role may write to. */
async function tellLost(ctx: Context, slot: Slot, reason: string): Promise<void> {
  ctx.log.error({ slot: slot.name }, 'increments were lost with the log of their slot')
  const [outbox] = await ctx.db.query<{ open: boolean }>(
    `select coalesce(has_table_privilege(to_regclass('caretaker.outbox'), 'insert'), false) as open`,
  )
  if (outbox?.open === true) await ctx.db.transaction((tx) => emitEvent(tx, 'backup.increments_lost', { slot: slot.name, reason }))
}

async function keptSize(session: Session): Promise<string> {
  const [row] = await session.query<{ size: string }>(`select current_setting('max_slot_wal_keep_size') as size`)
  return row?.size ?? ''
}

/** One run at a time makes and reads slots of a database; false when another is at it. Held until the session ends. */
export async function takeLock(session: Session): Promise<boolean> {
  const [lock] = await session.query<{ taken: boolean }>(
    `select pg_try_advisory_lock(hashtextextended('caretaker.increments', 0)) as taken`,
  )
  return lock?.taken === true
}

/** A slot of this database and the stream in this store that it feeds. */
interface Feed {
  stream: Stream
  signer: string | null
  slot: Slot
  stored: StoredStream
}

interface Feeds {
  /** Of this deployment, as far as signatures tell. */
  mine: Feed[]
  /** Not signed, although this deployment signs: made by an older release, or by somebody who may write to the store. */
  unsigned: Feed[]
  /** Signed with a key that this deployment does not know. */
  strangers: Feed[]
}

async function findFeeds(ctx: Context, store: ObjectStore, session: Session, notes: string[]): Promise<Feeds> {
  const feeds: Feeds = { mine: [], unsigned: [], strangers: [] }
  const slots = await listSlots(session)
  if (slots.length === 0) return feeds
  const trust = ownTrust(ctx)
  const known = new Set<string>()
  for (const stored of await listStreams(store)) {
    const found = await readStream(store, stored.id)
    const slot = slots.find((one) => one.name === found?.stream.slot)
    if (found === null || slot === undefined) continue
    const feed: Feed = { ...found, slot, stored }
    known.add(slot.name)
    if (await trust.accepts(found.signer)) feeds.mine.push(feed)
    else (found.signer === null ? feeds.unsigned : feeds.strangers).push(feed)
  }
  // Whatever else names a slot of ours, it is ours.
  const own = new Set(feeds.mine.map((feed) => feed.slot.name))
  feeds.unsigned = feeds.unsigned.filter((feed) => !own.has(feed.slot.name))
  feeds.strangers = feeds.strangers.filter((feed) => !own.has(feed.slot.name))
  for (const slot of slots)
    if (!known.has(slot.name))
      notes.push(
        `Slot ${slot.name} belongs to increments in another store and keeps ${Math.round(slot.lagBytes / 1024 ** 2)} MB of log. If nothing reads it any more: select pg_drop_replication_slot('${slot.name}').`,
      )
  return feeds
}

/** Drops every slot of this database that this store knows. Returns their names. What is stored stays. */
export async function dropStreams(ctx: Context, store: ObjectStore, session: Session): Promise<string[]> {
  const { mine, unsigned, strangers } = await findFeeds(ctx, store, session, [])
  return drop(session, [...mine, ...unsigned, ...strangers])
}

/** Drops the slots that a policy asked for; those that a person asked for stay. Returns their names. */
export async function dropScheduledStreams(ctx: Context, store: ObjectStore, session: Session): Promise<string[]> {
  const { mine } = await findFeeds(ctx, store, session, [])
  return drop(
    session,
    mine.filter((feed) => feed.stream.scheduled === true),
  )
}

async function drop(session: Session, feeds: readonly Feed[]): Promise<string[]> {
  const slots = new Map(feeds.map(({ slot }) => [slot.name, slot]))
  for (const slot of slots.values()) await dropSlot(session, slot)
  return [...slots.keys()]
}
