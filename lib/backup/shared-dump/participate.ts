import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { type Context, remainingMs } from '../../platform/context.ts'
import type { Session } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { dumpPart } from '../dump-part.ts'
import type { Manifest } from '../manifest.ts'
import type { Sealing } from '../object-stream.ts'
import type { OpenDump } from '../open-dump.ts'
import { sealDump } from '../seal-dump.ts'
import { joinSnapshot } from '../snapshot.ts'
import * as queries from './queries.ts'

/** How one invocation takes part in a dump. */
export interface Participation {
  ctx: Context
  dump: OpenDump
  sealing: Sealing
  /** Whoever runs the backup's job seals the dump; the others stay with their snapshot until it has. */
  coordinator: boolean
  /** Wakes another worker; it assists, and so keeps the snapshot when this one has to leave. */
  callForHelp: () => Promise<void>
  pace: Pace
}

export type Outcome =
  | { status: 'sealed'; manifest: Manifest }
  /** Somebody else ended the dump. */
  | { status: 'ended' }
  /** Time was up; another participant keeps the snapshot. */
  | { status: 'left' }

export interface Pace {
  /** From so long before its deadline a participant takes no new part, and sees that another one is there, ms. */
  leaveMs: number
  /** Kept back for the last statements, ms. */
  lastMs: number
  /** Table bytes one part covers: small enough that it fits well into the time an invocation has. */
  partBytes: number
  /** A participant that has not been heard of for so long is gone, and its parts are others' to take, seconds. The same for all of them. */
  leaseSeconds: number
}

export const usualPace: Pace = { leaveMs: 20_000, lastMs: 2_000, partBytes: 64 * 1024 * 1024, leaseSeconds: 30 }

/**
 * Imports the dump's snapshot from any participant that is alive, on every session, and exports it again for those who
 * come after.
 * @returns null when nobody has it any more: the snapshot is lost
 */
export async function importSnapshot(
  ctx: Context,
  dump: OpenDump,
  sessions: readonly Session[],
  { leaseSeconds }: Pick<Pace, 'leaseSeconds'>,
): Promise<string | null> {
  for (const { snapshot } of await queries.listParticipants(ctx.db, dump.id, leaseSeconds)) {
    try {
      for (const session of sessions) await joinSnapshot(session, snapshot, dump.serverVersion.number, dump.tables)
    } catch (error) {
      // That participant has just left; its transaction is gone, and with it what it had exported.
      if (!isUnknownSnapshot(error)) throw error
      for (const session of sessions) await session.execute('rollback')
      continue
    }
    const [exported] = await (sessions[0] as Session).query<{ id: string }>('select pg_export_snapshot() as id')
    if (exported !== undefined) return exported.id
  }
  return null
}

function isUnknownSnapshot(error: unknown): boolean {
  // 22023: not the name of a snapshot file; 42704: there is none of that name; 55000: its transaction has just ended.
  return ['22023', '42704', '55000'].includes(sqlState(error) ?? '')
}

/** Dumps parts until none is left or the invocation's time is up. Heartbeats keep what it has taken. */
export async function participate(part: Participation, sessions: readonly Session[], self: queries.Participant): Promise<Outcome> {
  const { ctx, dump, coordinator } = part
  const { leaseSeconds } = part.pace
  const failed = new AbortController()
  const beat = setInterval(
    () => {
      void queries.keepLease(ctx.db, dump.id, self.id, leaseSeconds).then(
        (known) => known || failed.abort(new CaretakerError('lease_lost', 'This participant was presumed dead.')),
        (error: unknown) => ctx.log.warn({ err: error }, 'heartbeat of a dump failed'),
      )
    },
    (leaseSeconds * 1_000) / 3,
  )
  try {
    const results = await Promise.allSettled(sessions.map((session) => work(part, session, self, failed)))
    for (const result of results) if (result.status === 'rejected') throw result.reason
    if ((await queries.countOpenParts(ctx.db, dump.id)) > 0 || (coordinator && remainingMs(ctx) < part.pace.lastMs))
      return await leave(part, self)
    if (!coordinator) return await stayUntilEnded(part, self)
    const manifest = await sealDump(ctx, part.sealing, dump, await queries.listWritten(ctx.db, dump.id), sessions[0] as Session)
    await queries.endDump(ctx.db, dump.id, 'sealed')
    return { status: 'sealed', manifest }
  } finally {
    clearInterval(beat)
    await queries.removeParticipant(ctx.db, dump.id, self.id).catch(() => undefined)
  }
}

async function work(
  { ctx, dump, sealing, pace }: Participation,
  session: Session,
  self: queries.Participant,
  failed: AbortController,
): Promise<void> {
  while (remainingMs(ctx) > pace.leaveMs) {
    if (ctx.signal.aborted || failed.signal.aborted) return
    const taken = await queries.takePart(ctx.db, dump.id, self.id, pace.leaseSeconds)
    if (taken === null) {
      // Nothing waits. What others have taken may come back when one of them is gone.
      if ((await queries.countOpenParts(ctx.db, dump.id)) === 0 || (await queries.dumpState(ctx.db, dump.id)) !== 'open') return
      await delay(500)
      continue
    }
    const planned = dump.parts.find((one) => one.number === taken.number)
    if (planned === undefined) throw new CaretakerError('internal', `Backup ${dump.id} has no part ${taken.number}.`)
    // A name of its own for every attempt: a taker that was presumed dead may still be writing under the other.
    const name = taken.attempt === 1 ? planned.name : planned.name.replace(/\.copy$/, `-${taken.attempt}.copy`)
    try {
      const written = await dumpPart(sealing, dump, { ...planned, name }, session, () => undefined)
      if (!(await queries.finishPart(ctx.db, dump.id, self.id, taken, written)))
        await sealing.store.delete(`${sealing.folder}${written.object.key}`)
    } catch (error) {
      failed.abort()
      await queries.freePart(ctx.db, dump.id, self.id, taken).catch(() => undefined)
      throw error
    }
  }
}

/** The snapshot must outlive this invocation: it stays, to its last seconds, until one that leaves later is there. */
async function leave({ ctx, dump, callForHelp, pace }: Participation, self: queries.Participant): Promise<Outcome> {
  for (let round = 0; remainingMs(ctx) > pace.lastMs && !ctx.signal.aborted; round++) {
    if ((await queries.dumpState(ctx.db, dump.id)) !== 'open') return { status: 'ended' }
    const others = await queries.listParticipants(ctx.db, dump.id, pace.leaseSeconds)
    if (others.some((other) => other.id !== self.id && other.leavesAt.getTime() > self.leavesAt.getTime() + pace.leaveMs))
      return { status: 'left' }
    // Asked again now and then: a call that got lost must not lose the snapshot.
    if (round % 10 === 0) await callForHelp()
    await delay(500)
  }
  return { status: 'left' }
}

async function stayUntilEnded(part: Participation, self: queries.Participant): Promise<Outcome> {
  const { ctx, dump } = part
  while (remainingMs(ctx) > part.pace.leaveMs && !ctx.signal.aborted) {
    if ((await queries.dumpState(ctx.db, dump.id)) !== 'open') return { status: 'ended' }
    await delay(500)
  }
  return leave(part, self)
}

export function newParticipant(ctx: Pick<Context, 'deadline'>, snapshot: string): queries.Participant {
  return { id: randomUUID(), snapshot, leavesAt: ctx.deadline }
}
