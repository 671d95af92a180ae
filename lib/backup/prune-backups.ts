import type { Context } from '../platform/context.ts'
import type { ObjectStore } from '../platform/objects.ts'
import { destroyDrillIdentities, drillsPrefix } from './drill/identity.ts'
import { type PrunedFiles, pruneFiles } from './files/prune-files.ts'
import { keepBases } from './increments/keep-bases.ts'
import { listBackups } from './list-backups.ts'
import { backupFolder, backupsPrefix } from './manifest.ts'
import { planRetention } from './retention.ts'

export interface PruneInput {
  /** Say what would be deleted, and delete nothing. */
  dryRun?: boolean
}

export interface PruneReport {
  dryRun: boolean
  kept: { id: string; because: string[] }[]
  /** Backups that the policy no longer keeps. */
  removed: string[]
  /** Folders without a manifest, of backups that failed or were killed, untouched for a day. */
  swept: string[]
  /** Backups whose manifest is damaged: they count as no copy, and are left for a person to look at. */
  damaged: string[]
  /** Contents of Storage files that no backup has any more. */
  files: PrunedFiles
}

/** A backup under way writes something at least this often. */
const abandonedAfterMs = 24 * 3_600_000

/**
 * Deletes the backups that `backup.keep` no longer keeps, and what failed ones have left. Never the newest sound one;
 * without `backup.keep`, none.
 */
export async function pruneBackups(
  ctx: Pick<Context, 'config' | 'objects' | 'clock' | 'log'>,
  input: PruneInput = {},
): Promise<PruneReport> {
  const store = await ctx.objects()
  const dryRun = input.dryRun === true
  const all = await listBackups(ctx)
  const sound = all
    .filter((backup) => backup.problem === undefined)
    .map((backup) => ({ id: backup.id, createdAt: new Date(backup.createdAt) }))
  const keep = ctx.config.backup?.keep
  const plan =
    keep === undefined
      ? { keep: sound.map((backup) => ({ id: backup.id, because: ['the policy has no backup.keep'] })), remove: [] }
      : keepBases(ctx, sound, planRetention(sound, keep, ctx.clock.now()))
  const swept = await findAbandoned(ctx, store, new Set(all.map((backup) => backup.id)))
  if (!dryRun) for (const id of [...plan.remove, ...swept]) await deleteBackup(store, id)
  // Only the newest backup is drilled by the server: identities of older ones have no use left, and are a risk.
  const [, ...older] = sound
    .map((backup) => backup.id)
    .sort()
    .reverse()
  if (!dryRun && older[0] !== undefined) await destroyDrillIdentities(store, older[0])
  const files = await pruneFiles(ctx, { dryRun, without: dryRun ? [...plan.remove, ...swept] : [] })
  if (!dryRun && plan.remove.length + swept.length > 0) ctx.log.info({ removed: plan.remove, swept }, 'backups pruned')
  return {
    dryRun,
    kept: plan.keep,
    removed: plan.remove,
    swept,
    damaged: all.filter((backup) => backup.problem !== undefined).map((backup) => backup.id),
    files,
  }
}

/** The manifest first: whatever interrupts this, what is left does not show as a backup. */
async function deleteBackup(store: ObjectStore, id: string): Promise<void> {
  await store.delete(`${backupFolder(id)}manifest.json`)
  const keys: string[] = []
  for (const folder of [backupFolder(id), `${drillsPrefix}${id}/`]) for await (const object of store.list(folder)) keys.push(object.key)
  for (const key of keys) await store.delete(key)
}

async function findAbandoned(ctx: Pick<Context, 'clock'>, store: ObjectStore, complete: ReadonlySet<string>): Promise<string[]> {
  const touched = new Map<string, number>()
  for await (const object of store.list(backupsPrefix)) {
    const id = object.key.slice(backupsPrefix.length).split('/')[0] ?? ''
    if (!complete.has(id)) touched.set(id, Math.max(touched.get(id) ?? 0, object.modifiedAt.getTime()))
  }
  const before = ctx.clock.now().getTime() - abandonedAfterMs
  return [...touched]
    .filter(([, at]) => at < before)
    .map(([id]) => id)
    .sort()
}
