import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { type Manifest, readManifest, resolveBackupId } from '../manifest.ts'
import { fullBackups } from './full-backups.ts'
import { formatInstant, parseInstant } from './instant.ts'
import { lsn, snapshotOf } from './position.ts'
import { readChain, readSegment, type Segment } from './segment.ts'
import { listStreams, readStream, type Stream } from './stream.ts'

export interface RestorePlan {
  base: Manifest
  /** The moment to restore, microseconds. */
  at: bigint
  /** The newest moment there is, microseconds. */
  newest: bigint
  stream: Stream | null
  /** In order; those that hold nothing the base does not hold already are left out. */
  segments: Segment[]
  /** The first segment that reaches the moment: its sequences are restored. */
  last: Segment | null
  /** Spans in which the schema changed: the base has another one than the changes behind it. */
  schemaChanges: { after: string; before: string }[]
}

/** What a stream covers, and what its schema was at its beginning. */
interface Coverage {
  stream: Stream
  numbers: number[]
  from: bigint
  until: bigint
}

/**
 * The full backup and the increments that bring back the moment `at` (an ISO time, or `latest`).
 * @throws {CaretakerError} `invalid_input` when nothing brings it back: the detail says the oldest or newest moment that can be
 */
export async function planRestore(ctx: Pick<Context, 'objects'>, input: { at: string; id?: string | undefined }): Promise<RestorePlan> {
  const store = await ctx.objects()
  const wanted = input.at === 'latest' ? null : parseInstant(input.at)
  if (wanted === undefined)
    throw new CaretakerError('invalid_input', `--at: found "${input.at}", expected an ISO time such as 2026-11-21T10:30:00Z, or "latest".`)
  const bases = await readBases(store, input.id)
  const coverages = await readCoverages(store)
  const reaches = bases.map((base) => {
    const coverage = coverages.findLast((one) => covers(one, base))
    const until = coverage === undefined ? takenAt(base) : larger(coverage.until, takenAt(base))
    return { base, coverage, until }
  })
  const newest = reaches.reduce((until, reach) => larger(until, reach.until), 0n)
  const oldest = bases.at(-1)
  if (oldest === undefined) throw new CaretakerError('object_missing', `There is no backup in ${store.url}.`)
  const at = wanted ?? newest
  const chosen = reaches.find((reach) => takenAt(reach.base) <= at && at <= reach.until)
  if (chosen !== undefined) return planFrom(store, chosen.base, chosen.coverage, at, newest)
  if (at > newest)
    throw new CaretakerError(
      'invalid_input',
      `--at ${input.at}: the newest moment that can be restored is ${formatInstant(newest)}. What was committed later is in no increment.`,
    )
  if (at < takenAt(oldest))
    throw new CaretakerError(
      'invalid_input',
      `--at ${input.at}: the oldest full backup${input.id === undefined ? '' : ' that was asked for'} is of ${oldest.createdAt}.`,
    )
  const earlier = reaches.filter((reach) => reach.until < at).reduce((until, reach) => larger(until, reach.until), 0n)
  const later = bases.filter((base) => takenAt(base) > at).at(-1)
  throw new CaretakerError(
    'invalid_input',
    `--at ${input.at}: there are no increments for that moment. The nearest before it is ${formatInstant(earlier)}${later === undefined ? '' : `, the nearest after it ${later.createdAt}`}.`,
  )
}

/** Sound full backups, newest first. */
async function readBases(store: ObjectStore, id: string | undefined): Promise<Manifest[]> {
  if (id !== undefined && id !== 'latest') return [await readManifest(store, await resolveBackupId(store, id))]
  return Array.fromAsync(fullBackups(store))
}

async function readCoverages(store: ObjectStore): Promise<Coverage[]> {
  const coverages: Coverage[] = []
  for (const { id, segments } of await listStreams(store)) {
    const [first, last] = [segments[0], segments.at(-1)]
    if (first === undefined || last === undefined) continue
    const stream = await readStream(store, id)
    if (stream === null) throw new CaretakerError('backup_corrupt', `Increments ${id} have lost their stream.json.`)
    const [begin, end] = await Promise.all([readSegment(store, id, first), readSegment(store, id, last)])
    coverages.push({ stream, numbers: segments, from: lsn(begin.segment.startLsn), until: parseInstant(end.segment.coversUntil) ?? 0n })
  }
  return coverages
}

/** True when the stream goes on from the base: it began before the base's snapshot, and ended after it. */
function covers(coverage: Coverage, base: Manifest): boolean {
  return coverage.stream.database === base.database.name && coverage.from <= lsn(base.snapshot.lsn) && coverage.until >= takenAt(base)
}

async function planFrom(
  store: ObjectStore,
  base: Manifest,
  coverage: Coverage | undefined,
  at: bigint,
  newest: bigint,
): Promise<RestorePlan> {
  const plan: RestorePlan = { base, at, newest, stream: null, segments: [], last: null, schemaChanges: [] }
  if (coverage === undefined || at === takenAt(base)) return plan
  const chain = await readChain(store, coverage.stream.id, coverage.numbers)
  const { xmin } = snapshotOf(base.snapshot.visible)
  plan.stream = coverage.stream
  let schema = coverage.stream.schema
  let before = coverage.stream.createdAt
  for (const segment of chain) {
    if (segment.object !== null && segment.maxTransactionId !== null && BigInt(segment.maxTransactionId) >= xmin)
      plan.segments.push(segment)
    if (segment.schema !== schema && segment.readAt >= base.createdAt) plan.schemaChanges.push({ after: before, before: segment.readAt })
    schema = segment.schema
    before = segment.readAt
    plan.last = segment
    if ((parseInstant(segment.coversUntil) ?? 0n) >= at) break
  }
  return plan
}

function takenAt(base: Manifest): bigint {
  return parseInstant(base.createdAt) ?? 0n
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
