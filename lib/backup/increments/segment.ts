import { createHash } from 'node:crypto'
import * as z from 'zod/mini'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { readSignedDocument, signDocument } from '../signed-document.ts'
import type { Signer, Trust } from '../signing/index.ts'
import { streamFolder } from './stream.ts'

const count = z.number().check(z.nonnegative())
const sha256 = z.string().check(z.regex(/^[0-9a-f]{64}$/))
const position = z.string().check(z.regex(/^[0-9A-F]+\/[0-9A-F]+$/))
const transactionId = z.string().check(z.regex(/^\d+$/))

const segmentSchema = z.strictObject({
  format: z.literal('caretaker-segment/1'),
  stream: z.string(),
  number: count,
  /** SHA-256 of the manifest before this one; null for the first. */
  previous: z.nullable(sha256),
  app: z.string(),
  caretakerVersion: z.string(),
  serverVersionNumber: count,
  /** Every transaction whose commit record begins in [startLsn, endLsn) is here. */
  startLsn: position,
  endLsn: position,
  /** When the schema and the sequences were read, by the database's clock. */
  readAt: z.iso.datetime(),
  /** Any time up to this one can be restored: what was committed by then is in this segment or before it. */
  coversUntil: z.iso.datetime({ precision: 6 }),
  /** The latest commit time in here; null where it has none. Not always the last one's: clocks and the log are read apart. */
  maxCommitAt: z.nullable(z.iso.datetime({ precision: 6 })),
  transactions: count,
  changes: count,
  /** The highest transaction id in here; null where it has none. Segments below a snapshot's horizon need not be read. */
  maxTransactionId: z.nullable(transactionId),
  /** A whole transaction id of the time it was read, for those in the log, which have the lower 32 bits. */
  transactionIdReference: transactionId,
  /** Fingerprint of the schema after it. */
  schema: z.string(),
  /** When that schema was first seen: a full backup from before it has, or may have, another one. */
  schemaSince: z.iso.datetime(),
  sequences: z.array(z.strictObject({ schema: z.string(), name: z.string(), lastValue: z.string(), isCalled: z.boolean() })),
  /** Tables whose updates or deletes name no row, because the table has no replica identity. */
  gaps: z.array(z.strictObject({ schema: z.string(), name: z.string(), since: z.iso.datetime({ precision: 6 }), changes: count })),
  encryption: z.enum(['age', 'none']),
  object: z.nullable(
    z.strictObject({
      key: z.string().check(z.regex(/^[A-Za-z0-9._-]+$/)),
      kind: z.literal('data'),
      bytes: count,
      sha256,
      contentBytes: count,
      contentSha256: sha256,
    }),
  ),
})

export type Segment = z.output<typeof segmentSchema>

function keyOf(stream: string, number: number): string {
  return `${streamFolder(stream)}${segmentName(number)}.json`
}

export function segmentName(number: number): string {
  return String(number).padStart(6, '0')
}

/** A segment, and the SHA-256 of its manifest, which the next one names. */
export interface StoredSegment {
  segment: Segment
  sha256: string
}

/**
 * Shows a segment. Only one can have a number: of two runs at once the second is refused.
 * @throws {CaretakerError} `conflict`
 */
export async function writeSegment(
  store: ObjectStore,
  segment: Segment,
  signer: Signer | null,
  signal: AbortSignal,
): Promise<StoredSegment> {
  const bytes = signDocument(segmentSchema.parse(segment), signer)
  await store.put(keyOf(segment.stream, segment.number), bytes, { contentType: 'application/json', ifAbsent: true, signal })
  return { segment, sha256: digest(bytes) }
}

/**
 * A segment that was written by somebody to believe.
 * @throws {CaretakerError} `backup_corrupt` also when it is missing, `backup_untrusted`
 */
export async function readSegment(store: ObjectStore, trust: Trust, stream: string, number: number): Promise<StoredSegment> {
  const found = await readSignedDocument(store, keyOf(stream, number), segmentSchema)
  if (found === null || found.content.stream !== stream || found.content.number !== number)
    throw new CaretakerError('backup_corrupt', `Increment ${segmentName(number)} of stream ${stream} is missing.`)
  await trust.require(`Increment ${segmentName(number)} of stream ${stream}`, found.signer)
  return { segment: found.content, sha256: digest(found.bytes) }
}

/**
 * The segments of those numbers, each proven to follow the one before it.
 * @throws {CaretakerError} `backup_corrupt`, `backup_untrusted`
 */
export async function readChain(store: ObjectStore, trust: Trust, stream: string, numbers: readonly number[]): Promise<Segment[]> {
  const chain: Segment[] = []
  let before: StoredSegment | undefined
  const all: StoredSegment[] = []
  for (let at = 0; at < numbers.length; at += 16)
    all.push(...(await Promise.all(numbers.slice(at, at + 16).map((number) => readSegment(store, trust, stream, number)))))
  for (const stored of all) {
    const { segment } = stored
    const follows =
      before === undefined ||
      (segment.number === before.segment.number + 1 && segment.previous === before.sha256 && segment.startLsn === before.segment.endLsn)
    if (!follows)
      throw new CaretakerError(
        'backup_corrupt',
        `Increment ${segmentName(segment.number)} of stream ${stream} does not follow the one before it.`,
      )
    chain.push(segment)
    before = stored
  }
  return chain
}

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
