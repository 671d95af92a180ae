import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Context, remainingMs } from '../../platform/context.ts'
import { qualified, type Session } from '../../platform/db.ts'
import { CaretakerError, hasCode, sqlState } from '../../platform/errors.ts'
import { caretakerVersion } from '../../platform/version.ts'
import { type LeftOut, listSequences } from '../catalogue.ts'
import { copyOutStream } from '../copy-out.ts'
import { type Sealing, writeObject } from '../object-stream.ts'
import { backupPolicy } from '../policy.ts'
import type { OnProgress } from '../progress.ts'
import { databaseKey } from '../select-backup.ts'
import { pinSession, serverVersion, withSessions } from '../sessions.ts'
import { ownTrust, signerOf } from '../signing/index.ts'
import { sourceScope } from '../supabase.ts'
import { nameOf } from '../table-name.ts'
import { ChangeFilter } from './change-filter.ts'
import { readChangeRules, type SourceRules } from './change-rules.ts'
import { fullBackups } from './full-backups.ts'
import { formatInstant, parseInstant } from './instant.ts'
import { type Opened, openStream, takeLock } from './open-stream.ts'
import { incrementsPolicy } from './policy.ts'
import { formatLsn, lsn } from './position.ts'
import { schemaFingerprint } from './schema-fingerprint.ts'
import { readSegment, type Segment, type StoredSegment, segmentName, writeSegment } from './segment.ts'
import { advanceSlot, dropSlot, type LogEnd, listSlots, markLogEnd } from './slot.ts'
import { streamFolder } from './stream.ts'

export interface IncrementInput {
  onProgress?: OnProgress
  /** True when the invocation ends soon: what is read by then is kept, the rest waits for the next run. */
  shouldStop?: () => boolean
  /** Changes one segment holds before it is closed at the end of a transaction. Default 200,000. */
  segmentChanges?: number
}

export interface IncrementReport {
  /** `off`: not possible here, full backups only. `stopped`: the slot kept too much log and was dropped. */
  status: 'stored' | 'off' | 'stopped'
  /** Why, where it is off or stopped. */
  reason: string | null
  stream: string | null
  segments: { number: number; transactions: number; changes: number; storedBytes: number }[]
  /** The newest moment that can be restored, once a full backup is there to start from. */
  coversUntil: string | null
  /** False where there is more to read: the run had no time left. */
  caughtUp: boolean
  /** Why increments cannot be used until there is a new full backup; null when the newest one will do. */
  fullNeeded: string | null
  /** Tables whose changes since the last full backup cannot be repeated. */
  gaps: { table: string; since: string; changes: number; why: string }[]
  /** What only the full backups hold. */
  fullOnly: LeftOut[]
  /** Log that the server keeps for the slot. */
  lagBytes: number
  notes: string[]
  /** What was lost with slots that had lost their log before this run, a sentence each: moments that nothing brings back. */
  lost: string[]
}

/**
 * Stores what was committed since the last increment, and only then lets the server forget its log. A run that is killed
 * at any moment leaves either a whole segment or none; the next run goes on behind the last whole one.
 * @throws {CaretakerError} `conflict` when another run is at it, `object_store_failed`, `database_unavailable`
 */
export async function takeIncrement(ctx: Context, input: IncrementInput = {}): Promise<IncrementReport> {
  backupPolicy(ctx)
  return withSessions(ctx.db.sessionUrl, ctx.env.DATABASE_CA, 1, async ([session]) => {
    if (session === undefined) throw new CaretakerError('internal', 'An increment needs a connection.')
    const version = await serverVersion(session)
    await pinSession(session, version.number, { lockTimeoutMs: 30_000 })
    if (!(await takeLock(session))) throw new CaretakerError('conflict', 'Another run is reading increments of this database now.')
    const store = await ctx.objects()
    const scope = await sourceScope(session, { excludeSchemas: backupPolicy(ctx).excludeSchemas })
    const opened = await openStream(ctx, store, session, scope)
    if (!opened.on) return notPossible('off', opened.reason, opened)
    const rules = await readChangeRules(session, scope)
    const run: Run = { ctx, session, opened, rules, input, version: version.number, excludeSchemas: scope.excludeSchemas }
    const outcome = await read(run).then(
      (report) => ({ report, failure: undefined }),
      (failure: unknown) => ({ report: undefined, failure }),
    )
    // Also after a failure: a store that is down for a day must not fill the database's disk.
    const over = await guardLag(run).catch((error: unknown) => {
      if (outcome.report !== undefined) throw error
      return null
    })
    if (over !== null) {
      const { failure } = outcome
      if (failure !== undefined) ctx.log.error({ err: failure }, 'increment failed')
      return notPossible('stopped', failure instanceof CaretakerError ? `${over} The last run failed: ${failure.detail}` : over, opened)
    }
    if (outcome.report === undefined) throw outcome.failure
    return outcome.report
  })
}

interface Run {
  ctx: Context
  session: Session
  opened: Extract<Opened, { on: true }>
  rules: SourceRules
  input: IncrementInput
  version: number
  excludeSchemas: readonly string[]
}

function notPossible(status: 'off' | 'stopped', reason: string, { notes, lost }: Opened): IncrementReport {
  return {
    status,
    reason,
    stream: null,
    segments: [],
    coversUntil: null,
    caughtUp: false,
    fullNeeded: status === 'off' ? null : 'Increments begin anew with the next full backup.',
    gaps: [],
    fullOnly: [],
    lagBytes: 0,
    notes,
    lost,
  }
}

async function read(run: Run): Promise<IncrementReport> {
  const { ctx, session, opened, rules, input } = run
  const { stream } = opened
  let last = await resume(run)
  const written: Segment[] = []
  const end = await markLogEnd(session)
  let caughtUp = false
  while (!caughtUp) {
    if (ctx.signal.aborted) throw new CaretakerError('backup_incomplete', 'The increment was stopped.')
    if (written.length > 0 && (remainingMs(ctx) < 10_000 || input.shouldStop?.() === true)) break
    const piece = await readPiece(run, last, end)
    last = await show(run, piece.segment)
    await advanceSlot(session, stream.slot, piece.segment.endLsn)
    written.push(piece.segment)
    caughtUp = piece.caughtUp
  }
  ctx.log.info(
    { stream: stream.id, segments: written.length, changes: written.reduce((sum, one) => sum + one.changes, 0), caughtUp },
    'increment stored',
  )
  const fullNeeded = last === undefined ? null : await whyFull(run, last.segment)
  const slot = (await listSlots(session)).find((one) => one.name === stream.slot)
  return {
    status: 'stored',
    reason: null,
    stream: stream.id,
    segments: written.map((segment) => ({
      number: segment.number,
      transactions: segment.transactions,
      changes: segment.changes,
      storedBytes: segment.object?.bytes ?? 0,
    })),
    coversUntil: last?.segment.coversUntil ?? null,
    caughtUp,
    fullNeeded,
    gaps: written
      .flatMap((segment) => segment.gaps)
      .map((gap) => ({ table: nameOf(gap), since: gap.since, changes: gap.changes, why: gapReason })),
    fullOnly: rules.fullOnly,
    lagBytes: slot?.lagBytes ?? 0,
    notes: opened.notes,
    lost: opened.lost,
  }
}

/** Shows the segment. Of two runs at once only one may; what the other has stored is of no use. */
async function show(run: Run, segment: Segment): Promise<StoredSegment> {
  const { ctx } = run
  const store = await ctx.objects()
  try {
    return await writeSegment(store, segment, signerOf(ctx.env), ctx.signal)
  } catch (error) {
    if (segment.object !== null && hasCode(error, 'conflict')) await store.delete(`${streamFolder(segment.stream)}${segment.object.key}`)
    throw error
  }
}

const gapReason =
  'It has no primary key, so the log does not say which rows were updated or deleted. A restore to a time brings it back as the last full backup has it. "alter table … replica identity full" changes that.'

/**
 * The last whole segment, with the slot brought to its end: a run that was killed between the two has left it behind.
 * @throws {CaretakerError} `backup_corrupt`, or `conflict` when somebody else has read from the slot
 */
async function resume(run: Run): Promise<StoredSegment | undefined> {
  const { ctx, session, opened } = run
  const number = opened.stored.segments.at(-1)
  if (number === undefined) return undefined
  const last = await readSegment(await ctx.objects(), ownTrust(ctx), opened.stream.id, number)
  const end = lsn(last.segment.endLsn)
  const confirmed = opened.slot.confirmed ?? 0n
  if (confirmed < end) await advanceSlot(session, opened.stream.slot, last.segment.endLsn)
  if (confirmed <= end) return last
  await dropSlot(session, opened.slot)
  throw new CaretakerError(
    'conflict',
    `Somebody else has read from slot ${opened.slot.name}: changes between ${last.segment.endLsn} and ${formatLsn(confirmed)} are in no increment. The slot was dropped; the next run begins anew, with a full backup.`,
  )
}

interface Piece {
  segment: Segment
  caughtUp: boolean
}

async function readPiece(run: Run, last: StoredSegment | undefined, end: LogEnd): Promise<Piece> {
  const { ctx, session, opened, input } = run
  const { stream, slot } = opened
  const number = (last?.segment.number ?? 0) + 1
  const limit = Math.max(1, Math.trunc(input.segmentChanges ?? 200_000))
  const reference = BigInt(end.nextTransactionId)
  const filter = new ChangeFilter(run.rules, reference)
  const policy = backupPolicy(ctx)
  const store = await ctx.objects()
  const sealing: Sealing = { store, folder: streamFolder(stream.id), recipients: policy.recipients, signal: ctx.signal }
  const copy = copyOutStream(
    session.client,
    `copy (select lsn, xid, data from pg_catalog.pg_logical_slot_peek_changes('${slot.name}', '${formatLsn(end.flushed)}', ${limit},
       'include-timestamp', '1', 'skip-empty-xacts', '1')) to stdout`,
  )
  const name = `${segmentName(number)}-${randomBytes(4).toString('hex')}.changes`
  const object = await storeChanges(sealing, name, copy, filter, (bytes) => {
    input.onProgress?.({ phase: 'data', what: `increment ${number}`, doneBytes: bytes, totalBytes: 0 })
  })
  const caughtUp = filter.rows < limit
  const lastCommit = filter.lastCommit
  // Behind the last commit nothing was read, unless the end of the log was reached.
  const endLsn = caughtUp ? bigger(end.flushed, lastCommit?.lsn ?? 0n) : (lastCommit?.lsn ?? 0n)
  const before = last === undefined ? (parseInstant(stream.createdAt) ?? 0n) : (parseInstant(last.segment.coversUntil) ?? 0n)
  const covers = caughtUp ? end.atMicros : (lastCommit?.at ?? before)
  const schema = await schemaFingerprint(session, { excludeSchemas: run.excludeSchemas })
  const sequences = await readSequences(run)
  // After the schema was read: a full backup that begins later has this one, or one that the next segment will tell of.
  const [now] = await session.query<{ at: Date }>('select clock_timestamp() as at')
  const readAt = (now?.at ?? end.at).toISOString()
  const same = schema === (last?.segment.schema ?? stream.schema)
  const segment: Segment = {
    format: 'caretaker-segment/1',
    stream: stream.id,
    number,
    previous: last?.sha256 ?? null,
    app: ctx.config.app.name,
    caretakerVersion: caretakerVersion,
    serverVersionNumber: run.version,
    startLsn: last?.segment.endLsn ?? formatLsn(slot.confirmed ?? 0n),
    endLsn: formatLsn(endLsn),
    readAt,
    coversUntil: formatInstant(bigger(covers, before)),
    maxCommitAt: filter.maxCommitAt === null ? null : formatInstant(filter.maxCommitAt),
    transactions: filter.transactions,
    changes: filter.changes,
    maxTransactionId: filter.maxTransactionId === null ? null : String(filter.maxTransactionId),
    transactionIdReference: String(reference),
    schema,
    schemaSince: same ? (last?.segment.schemaSince ?? stream.createdAt) : readAt,
    sequences,
    gaps: [...filter.gaps.values()].map((gap) => ({ ...gap, since: formatInstant(gap.since) })),
    encryption: policy.recipients === null ? 'none' : 'age',
    object,
  }
  return { segment, caughtUp }
}

/** Stores the changes, or nothing where there are none. */
async function storeChanges(
  sealing: Sealing,
  name: string,
  copy: Readable,
  filter: ChangeFilter,
  onBytes: (bytes: number) => void,
): Promise<Segment['object']> {
  // What fails in here fails the filter, and is met where it is read.
  pipeline(copy, filter).catch(() => undefined)
  const chunks = filter[Symbol.asyncIterator]()
  try {
    const first = await chunks.next()
    if (first.done === true) return null
    let bytes = 0
    const rest = async function* () {
      yield first.value as Buffer
      for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) yield next.value as Buffer
    }
    const object = await writeObject(sealing, name, 'data', Readable.from(rest()), undefined, (more) => {
      bytes += more
      onBytes(bytes)
    })
    return { ...object, kind: 'data' }
  } catch (error) {
    filter.destroy()
    throw peekFailure(error)
  }
}

function peekFailure(error: unknown): unknown {
  switch (sqlState(error)) {
    case '55006':
      return new CaretakerError('conflict', 'Another process is reading the slot now.', { cause: error })
    case '55000':
      return new CaretakerError('backup_incomplete', `The server does not decode its log: ${(error as Error).message}.`, { cause: error })
    default:
      return error
  }
}

async function readSequences(run: Run): Promise<Segment['sequences']> {
  const { session } = run
  const names = await listSequences(session, run.excludeSchemas)
  const states: Segment['sequences'] = []
  for (let at = 0; at < names.length; at += 200) {
    const some = names.slice(at, at + 200)
    const rows = await session.query<{ position: number; lastValue: string; isCalled: boolean }>(
      some
        .map(
          ({ schema, name }, index) =>
            `select ${index}::int4 as position, last_value::text as "lastValue", is_called as "isCalled" from ${qualified(schema, name)}`,
        )
        .join(' union all '),
    )
    for (const { position, ...state } of rows) {
      const named = some[position]
      if (named !== undefined) states.push({ schema: named.schema, name: named.name, ...state })
    }
  }
  return states
}

/** Why the increments do not go on from the newest full backup, or null when they do. */
async function whyFull(run: Run, last: Segment): Promise<string | null> {
  const { ctx, opened } = run
  const store = await ctx.objects()
  const trust = ownTrust(ctx)
  const [first] = opened.stored.segments
  const start =
    first === undefined ? (opened.slot.confirmed ?? 0n) : lsn((await readSegment(store, trust, opened.stream.id, first)).segment.startLsn)
  const database = databaseKey({ name: opened.stream.database, instance: opened.stream.instance })
  for await (const base of fullBackups(store, { trust, database })) {
    if (lsn(base.snapshot.lsn) < start) return 'The newest full backup is older than the slot: changes between the two are in no increment.'
    return base.createdAt <= last.schemaSince
      ? `The schema is another one than in the newest full backup (seen at ${last.schemaSince}).`
      : null
  }
  return 'There is no full backup to go on from.'
}

/** Drops the slot when the server keeps more log for it than the policy allows; says so, or null. */
async function guardLag(run: Run): Promise<string | null> {
  const { ctx, opened } = run
  const { maxLagBytes } = incrementsPolicy(ctx)
  // The connection of the run may be the one that failed.
  return withSessions(ctx.db.sessionUrl, ctx.env.DATABASE_CA, 1, async ([session]) => {
    if (session === undefined) return null
    const slot = (await listSlots(session)).find((one) => one.name === opened.stream.slot)
    if (slot === undefined || (slot.lagBytes <= maxLagBytes && !slot.lost)) return null
    await dropSlot(session, slot)
    const kept = `${Math.round(slot.lagBytes / 1024 ** 2)} MB`
    ctx.log.error({ slot: slot.name, lagBytes: slot.lagBytes, maxLagBytes, lost: slot.lost }, 'increments stopped: slot dropped')
    return slot.lost
      ? `Increments stopped: the server has thrown away log that slot ${slot.name} needed (max_slot_wal_keep_size).`
      : `Increments stopped: the server kept ${kept} of log for slot ${slot.name}, more than backup.increments.maxLag allows (${Math.round(maxLagBytes / 1024 ** 2)} MB). The slot was dropped so that the disk does not fill.`
  })
}

function bigger(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
