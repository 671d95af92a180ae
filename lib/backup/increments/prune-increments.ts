import type { Context } from '../../platform/context.ts'
import { listBackupIds, readManifest } from '../manifest.ts'
import { incrementsPolicy } from './policy.ts'
import { lsn } from './position.ts'
import { readSegment } from './segment.ts'
import { listStreams, type StoredStream, streamFolder } from './stream.ts'

export interface PrunedIncrements {
  dryRun: boolean
  /** Segments that are older than `backup.increments.keep`. */
  removed: number
  /** Objects that no manifest names, of runs that failed or were killed, untouched for a day. */
  swept: number
}

const abandonedAfterMs = 24 * 3_600_000

/**
 * Deletes increments that nothing within `backup.increments.keep` needs: oldest first, and of each the manifest before the
 * object, so that what is left is a chain without holes. The segment that a kept full backup inside that time goes on from
 * stays, and so does the last of a stream.
 */
export async function pruneIncrements(
  ctx: Pick<Context, 'config' | 'objects' | 'clock' | 'log'>,
  input: { dryRun?: boolean } = {},
): Promise<PrunedIncrements> {
  const store = await ctx.objects()
  const dryRun = input.dryRun === true
  const now = ctx.clock.now().getTime()
  const before = new Date(now - incrementsPolicy(ctx).keepMs).toISOString()
  const report: PrunedIncrements = { dryRun, removed: 0, swept: 0 }
  const streams = await listStreams(store)
  const needed = streams.some((stream) => stream.segments.length > 0) ? await neededFrom(ctx, before) : 0n
  for (const stream of streams) {
    const named = new Set<string>([`${streamFolder(stream.id)}stream.json`])
    let prefix = true
    for (const number of stream.segments) {
      const { segment } = await readSegment(store, stream.id, number)
      const keys = [
        ...manifestKeys(stream, number),
        ...(segment.object === null ? [] : [`${streamFolder(stream.id)}${segment.object.key}`]),
      ]
      const newest = stream.segments.at(-1) === number && streams.at(-1) === stream
      prefix = prefix && !newest && segment.coversUntil < before && (lsn(segment.endLsn) <= needed || streams.at(-1) !== stream)
      if (!prefix) {
        for (const key of keys) named.add(key)
        continue
      }
      report.removed++
      if (!dryRun) for (const key of keys) await store.delete(key)
    }
    const empty = stream.segments.length > 0 && prefix
    for (const object of stream.objects) {
      const old = now - object.modifiedAt.getTime() > abandonedAfterMs
      const isStream = object.key.endsWith('/stream.json')
      if (isStream ? !(empty && streams.at(-1) !== stream) : named.has(object.key) || !old) continue
      if (isStream || !stream.segments.some((number) => manifestKeys(stream, number).includes(object.key))) {
        if (!isStream) report.swept++
        if (!dryRun) await store.delete(object.key)
      }
    }
  }
  if (!dryRun && report.removed + report.swept > 0) ctx.log.info({ ...report }, 'increments pruned')
  return report
}

function manifestKeys(stream: StoredStream, number: number): string[] {
  const suffix = `/${String(number).padStart(6, '0')}.json`
  return stream.objects.filter((object) => object.key.endsWith(suffix)).map((object) => object.key)
}

/** Where the newest full backup before `time` ends: what follows it is needed for any moment since. */
async function neededFrom(ctx: Pick<Context, 'objects'>, time: string): Promise<bigint> {
  const store = await ctx.objects()
  for (const id of (await listBackupIds(store)).reverse()) {
    const base = await readManifest(store, id).catch(() => null)
    if (base !== null && base.createdAt < time) return lsn(base.snapshot.lsn)
  }
  return 0n
}
