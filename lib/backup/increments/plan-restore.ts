import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import type { Manifest } from '../manifest.ts'
import { type BackupChoice, chooseDatabase, databaseKey, findBackups, selectBackup } from '../select-backup.ts'
import { openTrust, type Trust } from '../signing/index.ts'
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
  /** Backups and increments that were not looked at because nothing vouches for them, a sentence each. */
  passedOver: string[]
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
 * @throws {CaretakerError} `invalid_input` when nothing brings it back: the detail says the oldest or newest moment that can be;
 * `backup_untrusted` when nothing vouches for any of it
 */
export async function planRestore(
  ctx: Pick<Context, 'objects' | 'config' | 'env' | 'db'>,
  input: Omit<BackupChoice, 'id'> & { at: string; id?: string | undefined },
  trust: Trust = openTrust(ctx, input),
): Promise<RestorePlan> {
  const store = await ctx.objects()
  const wanted = input.at === 'latest' ? null : parseInstant(input.at)
  if (wanted === undefined)
    throw new CaretakerError('invalid_input', `--at: found "${input.at}", expected an ISO time such as 2026-11-21T10:30:00Z, or "latest".`)
  const { bases, reaches, newest, passedOver } = await readReaches(ctx, store, input, trust)
  const oldest = bases.at(-1)
  if (oldest === undefined)
    throw passedOver.length === 0
      ? new CaretakerError('object_missing', `There is no backup in ${store.url}.`)
      : new CaretakerError(
          'backup_untrusted',
          `There is no backup in ${store.url} to believe. ${passedOver.join(' ')} Name the key with --signer, or pass --trust-unsigned.`,
        )
  const at = wanted ?? newest
  const chosen = reaches.find((reach) => takenAt(reach.base) <= at && at <= reach.until)
  if (chosen !== undefined) return planFrom({ store, trust, at, newest, passedOver }, chosen.base, chosen.coverage)
  const unseen = passedOver.map((what) => ` ${what}`).join('')
  if (at > newest)
    throw new CaretakerError(
      'invalid_input',
      `--at ${input.at}: the newest moment that can be restored is ${formatInstant(newest)}. What was committed later is in no increment.${unseen}`,
    )
  if (at < takenAt(oldest))
    throw new CaretakerError(
      'invalid_input',
      `--at ${input.at}: the oldest full backup${input.id === undefined ? '' : ' that was asked for'} is of ${oldest.createdAt}.${unseen}`,
    )
  const earlier = reaches.filter((reach) => reach.until < at).reduce((until, reach) => larger(until, reach.until), 0n)
  const later = bases.filter((base) => takenAt(base) > at).at(-1)
  throw new CaretakerError(
    'invalid_input',
    `--at ${input.at}: there are no increments for that moment. The nearest before it is ${formatInstant(earlier)}${later === undefined ? '' : `, the nearest after it ${later.createdAt}`}.${unseen}`,
  )
}

interface Reaches extends Bases {
  /** How far each base reaches, with the increments that go on from it. */
  reaches: { base: Manifest; coverage: Coverage | undefined; until: bigint }[]
  /** The newest moment there is, microseconds; 0 where there is none. */
  newest: bigint
}

/** What can be restored of one database, without reading all of its increments. */
export async function readReaches(
  ctx: Pick<Context, 'config' | 'env' | 'db'>,
  store: ObjectStore,
  input: Omit<BackupChoice, 'id'> & { id?: string | undefined },
  trust: Trust,
): Promise<Reaches> {
  const found = await readBases(ctx, store, input, trust)
  const coverages = await readCoverages(store, trust, found.database, found.passedOver)
  const reaches = found.bases.map((base) => {
    const coverage = coverages.findLast((one) => covers(one, base))
    return { base, coverage, until: coverage === undefined ? takenAt(base) : larger(coverage.until, takenAt(base)) }
  })
  return { ...found, reaches, newest: reaches.reduce((until, reach) => larger(until, reach.until), 0n) }
}

interface Bases {
  /** Sound full backups of one database, newest first. */
  bases: Manifest[]
  /** See `databaseKey`. */
  database: string
  /** What was not looked at because nothing vouches for it, a sentence each. */
  passedOver: string[]
}

async function readBases(
  ctx: Pick<Context, 'config' | 'env' | 'db'>,
  store: ObjectStore,
  input: Omit<BackupChoice, 'id'> & { id?: string | undefined },
  trust: Trust,
): Promise<Bases> {
  if (input.id !== undefined && input.id !== 'latest') {
    const manifest = await selectBackup(ctx, store, { ...input, id: input.id })
    return { bases: [manifest], database: databaseKey(manifest.database), passedOver: [] }
  }
  const bases: Manifest[] = []
  const passedOver: string[] = []
  for (const found of await findBackups(store)) {
    if ('problem' in found) continue
    if (await trust.accepts(found.signer)) bases.push(found.manifest)
    else passedOver.push(`Backup ${found.id} was passed over: it is ${signedWith(found.signer)}.`)
  }
  const database = await chooseDatabase(ctx, bases, input.database, store.url)
  return { bases: bases.filter((base) => databaseKey(base.database) === database), database: database ?? '', passedOver }
}

function signedWith(signer: string | null): string {
  return signer === null ? 'not signed' : `signed with ${signer}, a key that nothing here vouches for`
}

async function readCoverages(store: ObjectStore, trust: Trust, database: string, passedOver: string[]): Promise<Coverage[]> {
  const coverages: Coverage[] = []
  for (const { id, segments } of await listStreams(store)) {
    const [first, last] = [segments[0], segments.at(-1)]
    if (first === undefined || last === undefined) continue
    const found = await readStream(store, id)
    if (found === null) throw new CaretakerError('backup_corrupt', `Increments ${id} have lost their stream.json.`)
    const { stream, signer } = found
    if (databaseKey({ name: stream.database, instance: stream.instance }) !== database) continue
    if (!(await trust.accepts(signer))) {
      passedOver.push(`Increments ${id} were passed over: they are ${signedWith(signer)}.`)
      continue
    }
    const [begin, end] = await Promise.all([readSegment(store, trust, id, first), readSegment(store, trust, id, last)])
    coverages.push({ stream, numbers: segments, from: lsn(begin.segment.startLsn), until: parseInstant(end.segment.coversUntil) ?? 0n })
  }
  return coverages
}

/** True when the stream goes on from the base: it began before the base's snapshot, and ended after it. */
function covers(coverage: Coverage, base: Manifest): boolean {
  return coverage.from <= lsn(base.snapshot.lsn) && coverage.until >= takenAt(base)
}

async function planFrom(
  { store, trust, ...about }: { store: ObjectStore; trust: Trust } & Pick<RestorePlan, 'at' | 'newest' | 'passedOver'>,
  base: Manifest,
  coverage: Coverage | undefined,
): Promise<RestorePlan> {
  const plan: RestorePlan = { ...about, base, stream: null, segments: [], last: null, schemaChanges: [] }
  const { at } = about
  if (coverage === undefined || at === takenAt(base)) return plan
  const chain = await readChain(store, trust, coverage.stream.id, coverage.numbers)
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
