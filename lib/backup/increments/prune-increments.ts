import type { Context } from '../../platform/context.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { connectedDatabase, databaseKey } from '../select-backup.ts'
import { ownTrust, type Trust } from '../signing/index.ts'
import { type FullBackupsOf, fullBackups } from './full-backups.ts'
import { incrementsPolicy } from './policy.ts'
import { lsn } from './position.ts'
import { readSegment, segmentName } from './segment.ts'
import { listStreams, readStream, type StoredStream, streamFolder } from './stream.ts'

export interface PrunedIncrements {
  dryRun: boolean
  /** Segments that nothing within `backup.increments.keep` needs. */
  removed: number
  /** Objects that no manifest names, of runs that failed or were killed, untouched for a day. */
  swept: number
  /** Streams of which nothing was deleted: they are another database's, or nothing vouches for them. */
  others: string[]
}

const abandonedAfterMs = 24 * 3_600_000

/**
 * Deletes the increments that no moment within `backup.increments.keep` needs. Oldest first, and of each the manifest
 * before the object: what is left is always a chain without holes. What follows the newest full backup that is older than
 * that time stays, and so does the last segment of the newest stream, which the next one names. `database` (see `databaseKey`) is
 * the one this deployment is connected to unless it is given.
 */
export async function pruneIncrements(
  ctx: Pick<Context, 'config' | 'env' | 'db' | 'objects' | 'clock' | 'log'>,
  input: { dryRun?: boolean; database?: string | undefined } = {},
): Promise<PrunedIncrements> {
  const store = await ctx.objects()
  const report: PrunedIncrements = { dryRun: input.dryRun === true, removed: 0, swept: 0, others: [] }
  const trust = ownTrust(ctx)
  const database = input.database ?? (await connectedDatabase(ctx))
  const streams: StoredStream[] = []
  for (const stored of await listStreams(store)) {
    const found = await readStream(store, stored.id)
    // One that has lost its document: its slot is unknown, and what is left of it is swept when it is old.
    const own =
      found === null
        ? stored.segments.length === 0
        : databaseKey({ name: found.stream.database, instance: found.stream.instance }) === database
    if (own && (found === null || (await trust.accepts(found.signer)))) streams.push(stored)
    else report.others.push(stored.id)
  }
  const cutoff = new Date(ctx.clock.now().getTime() - incrementsPolicy(ctx).keepMs)
  const base = streams.some((stream) => oldOnes(stream, cutoff).length > 0) ? await neededBase(store, { trust, database }, cutoff) : null
  for (const stream of streams) {
    const newest = stream === streams.at(-1)
    const doomed: string[] = []
    let removed = 0
    for (const number of oldOnes(stream, cutoff)) {
      if (newest && number === stream.segments.at(-1)) break
      const { segment } = await readSegment(store, trust, stream.id, number)
      const needed = segment.coversUntil >= cutoff.toISOString() || (base !== null && lsn(segment.endLsn) > base)
      if (needed) break
      doomed.push(`${streamFolder(stream.id)}${segmentName(number)}.json`)
      if (segment.object !== null) doomed.push(`${streamFolder(stream.id)}${segment.object.key}`)
      removed++
    }
    const abandoned = await findAbandoned(ctx, trust, stream)
    const ended = !newest && removed === stream.segments.length && untouched(ctx, stream)
    const last = ended ? [`${streamFolder(stream.id)}stream.json`] : []
    if (!report.dryRun) for (const key of [...doomed, ...abandoned, ...last]) await store.delete(key)
    report.removed += removed
    report.swept += abandoned.length
  }
  if (!report.dryRun && report.removed + report.swept > 0) ctx.log.info({ ...report }, 'increments pruned')
  return report
}

/** Numbers of the segments that were stored before `cutoff`, oldest first: only these are worth reading. */
function oldOnes(stream: StoredStream, cutoff: Date): number[] {
  const old = new Set(stream.objects.filter((object) => object.modifiedAt < cutoff).map((object) => object.key))
  return stream.segments.filter((number) => old.has(`${streamFolder(stream.id)}${segmentName(number)}.json`))
}

function untouched(ctx: Pick<Context, 'clock'>, stream: StoredStream): boolean {
  const before = ctx.clock.now().getTime() - abandonedAfterMs
  return stream.objects.every((object) => object.modifiedAt.getTime() < before)
}

/** Where the log stood at the newest full backup before `time`, or else at the oldest; null where there is none. */
async function neededBase(store: ObjectStore, of: FullBackupsOf, time: Date): Promise<bigint | null> {
  let oldest: bigint | null = null
  for await (const base of fullBackups(store, of)) {
    oldest = lsn(base.snapshot.lsn)
    if (base.createdAt < time.toISOString()) return oldest
  }
  return oldest
}

/** Changes that a run stored and never came to name. */
async function findAbandoned(ctx: Pick<Context, 'objects' | 'clock'>, trust: Trust, stream: StoredStream): Promise<string[]> {
  const before = ctx.clock.now().getTime() - abandonedAfterMs
  const store = await ctx.objects()
  const abandoned: string[] = []
  for (const object of stream.objects) {
    const number = /\/(\d+)-[0-9a-f]+\.changes\.[a-z.]+$/.exec(object.key)?.[1]
    if (number === undefined || object.modifiedAt.getTime() >= before) continue
    const rivals = stream.objects.filter((other) => other.key.startsWith(`${streamFolder(stream.id)}${number}-`))
    const named = stream.segments.includes(Number(number))
    // With a manifest, and alone, it is the one that is named.
    if (named && rivals.length === 1) continue
    const kept = named ? (await readSegment(store, trust, stream.id, Number(number))).segment.object?.key : undefined
    if (kept === undefined || object.key !== `${streamFolder(stream.id)}${kept}`) abandoned.push(object.key)
  }
  return abandoned
}
