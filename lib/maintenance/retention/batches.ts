import { setTimeout as delay } from 'node:timers/promises'
import type { Context } from '../../platform/context.ts'
import type { Session, Transaction } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { isContention, withLockRetry } from '../lock-retry.ts'
import { pinSession, reading } from '../session-settings.ts'
import type { Limits } from './limits.ts'
import { type Pressure, sensePressure } from './pressure.ts'
import { type Contention, type Taken, type TouchWork, touch } from './touch.ts'
import { beginWalk, type Cursor, type Edge, edgeQuery, type Window, windowAt } from './walk.ts'

/** How long a batch waits for a row before it gives way, milliseconds. */
const rowWaitMs = 25
/** How long it waits for a table's lock when it comes again. */
const tableWaitMs = 200
const rowsFirst = 1_000
const rowsLeast = 200
const rowsMost = 50_000
/** How often others are looked at, milliseconds. */
const senseMs = 250
/** A rest shorter than this is saved up for the next one: timers are no finer. */
const leastRestMs = 2
/** How long a batch that somebody waited for is followed by nothing. */
const giveWayMs = 50

export interface BatchWork extends TouchWork {
  /** Where an earlier taking of the run stopped; null to begin. */
  cursor: Cursor | null
  limits: Limits
  /** Rows that may still be taken; infinite where there is no budget of rows. */
  rowsLeft: () => number
  /** True when the time of the rule's budget is over. */
  timeOver: () => boolean
  stop: () => boolean
  /** Called inside each batch's transaction, last: what it stores commits with the batch. */
  commitWith: (tx: Transaction, cursor: Cursor, taken: Taken) => Promise<void>
  /** Called after the commit. */
  committed: (cursor: Cursor, taken: Taken) => void
}

export type Ending =
  | { end: 'done' | 'hand-over' | 'budget' }
  /** Others need the table, or what the batches cause is not yet digested. */
  | { end: 'obstacle'; obstacle: string }

/**
 * Walks one physical table in short transactions, on a session of its own.
 * @throws {CaretakerError} `conflict` when the table stays locked, `job_failed` when rows cannot be touched
 */
export async function runBatches(ctx: Context, work: BatchWork): Promise<Ending> {
  const cursor = work.cursor ?? (await reading(ctx, (tx) => beginWalk(tx, work)))
  return ctx.db.session(async (session) => {
    // Each commit waits for the disk: without that, whoever commits meanwhile waits for all the log that the batches have
    // written by then. It costs speed.
    await pinSession(ctx, session, { lockTimeoutMs: rowWaitMs, ...(cursor.walk === 'index' ? { seqScan: false } : {}) })
    return walk(ctx, session, work, cursor)
  })
}

async function walk(ctx: Context, session: Session, work: BatchWork, start: Cursor): Promise<Ending> {
  const pace = startPace(ctx, work.limits)
  let cursor = start
  let idle = 0
  for (;;) {
    if (work.stop()) return { end: 'hand-over' }
    if (work.rowsLeft() <= 0 || work.timeOver()) return { end: 'budget' }
    const size = Math.min(pace.size(), work.rowsLeft())
    const edge = await askEdge(session, work, cursor, size)
    const window = windowAt(work, cursor, edge, size, work.rowsLeft())
    pace.begin()
    const batch = await commitBatch(ctx, session, work, cursor, window, pace)
    if (batch === 'hand-over') return { end: 'hand-over' }
    if ('obstacle' in batch) return { end: 'obstacle', obstacle: batch.obstacle }
    work.committed(batch.next, batch.taken)
    // Rows that match and yet stay: changed by another session in between, or kept by a trigger for good.
    idle = edge !== null && batch.taken.rows === 0 && JSON.stringify(cursor) === JSON.stringify(batch.next) ? idle + 1 : 0
    if (idle >= 20)
      throw new CaretakerError(
        'job_failed',
        `${work.label}: rows of ${work.leaf.label} stay although the statement succeeds. A trigger or rule on the table seems to keep them.`,
      )
    if (batch.end) return { end: 'done' }
    if (batch.pressure?.obstacle !== undefined) return { end: 'obstacle', obstacle: batch.pressure.obstacle }
    cursor = batch.next
    await pace.rest(batch.pressure?.rowAwaited === true)
  }
}

async function askEdge(session: Session, work: BatchWork, cursor: Cursor, size: number): Promise<Edge> {
  const query = edgeQuery(work, cursor, size)
  if (query === undefined) return null
  const [row] = await session.query<{ edge: string[] }>(query)
  return row?.edge ?? null
}

interface Batch {
  taken: Taken
  next: Cursor
  end: boolean
  /** What was seen of others from inside the batch, where it was time to look. */
  pressure: Pressure | undefined
}

/**
 * One batch, with the checkpoint in its transaction: first waiting for rows, then passing over those that are held. A
 * table that is locked because somebody is about to change it is left to them.
 */
async function commitBatch(
  ctx: Context,
  session: Session,
  work: BatchWork,
  cursor: Cursor,
  window: Window,
  pace: Pace,
): Promise<Batch | { obstacle: string } | 'hand-over'> {
  const commit = (contention: Contention) => transact(session, work, cursor, window, contention, pace)
  try {
    return await commit('wait')
  } catch (error) {
    if (!isContention(error)) throw error
  }
  const { obstacle } = await sensePressure(session, relationsOf(work), work.limits)
  if (obstacle !== undefined) return { obstacle }
  const patience = { tries: 8, firstPauseMs: 50, stop: work.stop }
  return withLockRetry(ctx, `${work.label}: ${work.leaf.label}`, patience, () => commit('skip'))
}

async function transact(
  session: Session,
  work: BatchWork,
  cursor: Cursor,
  window: Window,
  contention: Contention,
  pace: Pace,
): Promise<Batch> {
  try {
    const began = contention === 'wait' ? 'begin' : `begin; set local lock_timeout = ${tableWaitMs}`
    const taken = await touch(session, work, window, contention, began)
    pace.worked()
    // A budget's limit that was reached leaves rows in the window; held ones match again in the next run.
    const stays = window.limit !== undefined && taken.rows >= window.limit
    const next = stays ? cursor : window.next
    await work.commitWith({ kind: 'transaction', query: session.query, execute: session.execute }, next, taken)
    const pressure = pace.timeToLook() ? await sensePressure(session, relationsOf(work), work.limits) : undefined
    await session.execute('commit')
    pace.committed()
    return { taken, next, end: window.end && !stays, pressure }
  } catch (error) {
    // Where the connection is gone there is nothing to roll back, and the first error says more.
    await session.execute('rollback').catch(() => undefined)
    throw error
  }
}

/** Tables that somebody may wait for because of the batches. */
function relationsOf(work: TouchWork): number[] {
  return [work.leaf.oid, work.table.oid, ...work.descents.map(({ table }) => table.oid)]
}

interface Pace {
  /** Rows of the next batch. */
  size(): number
  begin(): void
  /** The rows are touched; what follows is ours. */
  worked(): void
  committed(): void
  timeToLook(): boolean
  rest(awaited: boolean): Promise<void>
}

/** Fits batches to the time they may take, and the time between them to the share of it that they may use. */
function startPace(ctx: Pick<Context, 'clock' | 'signal'>, { batchMs, load }: Limits): Pace {
  const now = () => ctx.clock.monotonicMs()
  let size = rowsFirst
  let began = now()
  let worked = began
  let ended = began
  let looked = began - senseMs
  let debtMs = 0
  return {
    size: () => size,
    begin() {
      // What passed since the last batch was rest already: the round trips, and the reading of what comes next.
      debtMs = Math.max(0, debtMs - (now() - ended))
      began = now()
    },
    worked() {
      worked = now()
    },
    committed() {
      ended = now()
      // Twice or half as much at most: one slow batch (a cold page, a checkpoint of the server's) must not stop the work.
      size = Math.round(Math.min(rowsMost, Math.max(rowsLeast, size * Math.min(2, Math.max(0.5, batchMs / Math.max(worked - began, 0.1))))))
      debtMs += (worked - began) / load - (ended - began)
    },
    timeToLook() {
      if (now() - looked < senseMs) return false
      looked = now()
      return true
    },
    async rest(awaited) {
      if (awaited) size = Math.max(rowsLeast, size >> 1)
      const restMs = awaited ? giveWayMs : debtMs
      if (restMs >= leastRestMs) await delay(restMs, undefined, { signal: ctx.signal }).catch(() => undefined)
    },
  }
}
