import { CaretakerError } from '../../platform/errors.ts'
import { Digest } from '../meter.ts'
import { type Opening, readObjectInto } from '../object-stream.ts'
import { nameOf } from '../table-name.ts'
import { type Change, parseChange } from './change-text.ts'
import { CopyLines, splitLine, unescapeCopy } from './copy-lines.ts'
import { formatInstant, parseInstant } from './instant.ts'
import { fullTransactionId, lsn, snapshotOf } from './position.ts'
import type { Segment } from './segment.ts'

export interface Commit {
  lsn: bigint
  /** Microseconds. */
  at: bigint
  /** Which it is: of a segment's transactions, from 0. */
  place: Place
}

export interface Place {
  segment: number
  transaction: number
}

/** Takes the changes of one transaction after the other. */
export interface ChangeSink {
  change(change: RowChange): Promise<void> | void
  commit(commit: Commit): Promise<void> | void
}

export type RowChange = Exclude<Change, { kind: 'begin' | 'commit' | 'message' }>

export interface Replay {
  /** `pg_current_snapshot()` of the base: what it holds is not repeated. */
  visible: string
  /** Ends before the transaction of this ordinal (of a segment, from 0). */
  stop: Place | null
  /** Begins after this one: all up to it have been repeated. */
  after?: Place | null
}

/** Gives the changes of `segments`, as far as the base does not hold them, to `sink`. */
export async function replaySegments(opening: Opening, segments: readonly Segment[], replay: Replay, sink: ChangeSink): Promise<void> {
  const snapshot = snapshotOf(replay.visible)
  let reached = 0n
  for (const segment of segments) {
    if (segment.object === null) continue
    const stopAt = replay.stop?.segment === segment.number ? replay.stop.transaction : Number.POSITIVE_INFINITY
    const reference = BigInt(segment.transactionIdReference)
    const lines = new CopyLines()
    // Between the check of what is stored and now somebody could have put another object there.
    const digest = new Digest()
    let ordinal = -1
    let wanted = false
    const { after = null } = replay
    const isDone = (transaction: number) =>
      after !== null && (segment.number < after.segment || (segment.number === after.segment && transaction <= after.transaction))
    try {
      await readObjectInto(opening, segment.object, [
        async (from: AsyncIterable<Buffer>) => {
          for await (const chunk of from) {
            digest.update(chunk)
            for (const line of lines.push(chunk)) {
              const { lsn: position, data } = splitLine(line)
              // Only what is wanted is read whole: the rest may be a whole day.
              const letter = data[0]
              if (letter === letterT && !wanted) continue
              const change = parse(segment, unescapeCopy(data.toString('utf8')))
              if (change.kind === 'begin') {
                ordinal++
                wanted = ordinal < stopAt && !isDone(ordinal) && !snapshot.holds(fullTransactionId(change.transaction, reference))
              } else if (change.kind === 'commit') {
                const at = parseInstant(change.at) ?? 0n
                const end = lsn(position)
                if (wanted && end <= reached)
                  throw new CaretakerError('backup_corrupt', `Increment ${segment.number} repeats what is before it.`)
                if (wanted) await sink.commit({ lsn: end, at, place: { segment: segment.number, transaction: ordinal } })
                reached = end > reached ? end : reached
              } else if (change.kind !== 'message') {
                const done = sink.change(change)
                if (done !== undefined) await done
              }
            }
          }
        },
      ])
    } catch (error) {
      if (error instanceof SyntaxError)
        throw new CaretakerError('backup_corrupt', `Increment ${segment.number} cannot be read: ${error.message}.`, { cause: error })
      throw error
    }
    if (digest.measured().sha256 !== segment.object.contentSha256)
      throw new CaretakerError('backup_corrupt', `Increment ${segment.number} does not hold what its manifest says.`)
    if (lines.open) throw new CaretakerError('backup_corrupt', `Increment ${segment.number} ends in the middle of a line.`)
    if (stopAt !== Number.POSITIVE_INFINITY) return
  }
}

const letterT = 116

function parse(segment: Segment, text: string): Change {
  try {
    return parseChange(text)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new CaretakerError('backup_corrupt', `Increment ${segment.number} cannot be read: ${error.message}.`, { cause: error })
  }
}

export interface Survey {
  /** Before which transaction the replay ends; null when all of them are wanted. */
  stop: Replay['stop']
  /** The last transaction before that, of those in the surveyed segments. */
  last: Commit | null
  /** Tables with updates or deletes that name no row, as `schema.table`, with the time of the first. */
  gaps: Map<string, string>
  /** The first change of a table, or of a column of one, that the base does not have. */
  misfit: { table: string; column: string | null; at: string; previous: string | null } | null
}

/**
 * Reads segments without applying them: where `at` is, and what cannot be repeated before it. A transaction's commit time
 * stands behind its changes, which may be more than fit into memory.
 */
export async function surveySegments(
  opening: Opening,
  segments: readonly Segment[],
  about: { visible: string; at: bigint; tables: ReadonlyMap<string, ReadonlySet<string> | null>; noIdentity: ReadonlySet<string> },
): Promise<Survey> {
  const survey: Survey = { stop: null, last: null, gaps: new Map(), misfit: null }
  for (const segment of segments) {
    let stop = await findStop(opening, segment, about.at)
    const gaps = new Set<string>()
    let unknown: { table: string; column: string | null } | undefined
    await replaySegments(
      opening,
      [segment],
      { visible: about.visible, stop: stop === null ? null : { segment: segment.number, transaction: stop } },
      {
        change(change) {
          if (change.kind === 'truncate') return
          const name = nameOf(change.table)
          unknown ??= misfitOf(change, name, about.tables)
          const blind =
            (change.kind === 'delete' && change.old === null) ||
            (change.kind === 'update' && change.old === null && about.noIdentity.has(name))
          if (blind) gaps.add(name)
        },
        commit(commit) {
          if (unknown !== undefined)
            survey.misfit ??= {
              ...unknown,
              at: formatInstant(commit.at),
              previous: survey.last === null ? null : formatInstant(survey.last.at),
            }
          for (const name of gaps) if (!survey.gaps.has(name)) survey.gaps.set(name, formatInstant(commit.at))
          gaps.clear()
          survey.last = commit
        },
      },
    )
    if (stop !== null) {
      survey.stop = { segment: segment.number, transaction: stop }
      stop = null
      return survey
    }
  }
  return survey
}

function misfitOf(
  change: Exclude<RowChange, { kind: 'truncate' }>,
  name: string,
  tables: ReadonlyMap<string, ReadonlySet<string> | null>,
): { table: string; column: string | null } | undefined {
  const columns = tables.get(name)
  if (columns === undefined) return { table: name, column: null }
  if (columns === null || change.kind === 'delete') return undefined
  for (const column of change.row.keys()) if (!columns.has(column)) return { table: name, column }
  return undefined
}

/** The ordinal of the first transaction of a segment that committed after `at`, or null. */
async function findStop(opening: Opening, segment: Segment, at: bigint): Promise<number | null> {
  if (segment.object === null || segment.maxCommitAt === null || (parseInstant(segment.maxCommitAt) ?? 0n) <= at) return null
  const lines = new CopyLines()
  let ordinal = -1
  let found: number | null = null
  await readObjectInto(opening, segment.object, [
    async (from: AsyncIterable<Buffer>) => {
      for await (const chunk of from) {
        for (const line of lines.push(chunk)) {
          const { data } = splitLine(line)
          if (data[0] === letterT) continue
          const change = parse(segment, data.toString('utf8'))
          if (change.kind === 'begin') ordinal++
          if (change.kind === 'commit' && found === null && (parseInstant(change.at) ?? 0n) > at) found = ordinal
        }
      }
    },
  ])
  return found
}
