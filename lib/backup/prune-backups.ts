import type { Context } from '../platform/context.ts'
import type { ObjectStore } from '../platform/objects.ts'
import { destroyDrillIdentities, drillsPrefix } from './drill/identity.ts'
import { type PrunedFiles, pruneFiles } from './files/prune-files.ts'
import { keepBases } from './increments/keep-bases.ts'
import { type BackupSummary, listBackups } from './list-backups.ts'
import { backupFolder, backupsPrefix } from './manifest.ts'
import { planRetention } from './retention.ts'
import { databaseKey, ownDatabase } from './select-backup.ts'
import { openTrust, ownTrust } from './signing/index.ts'

export interface PruneInput {
  /** Say what would be deleted, and delete nothing. */
  dryRun?: boolean
  /** Whose backups, where they are not those of the database this deployment is connected to: its name, or its instance. */
  database?: string | undefined
  /** Count backups that nothing vouches for as copies, and delete them as others. */
  trustUnsigned?: boolean | undefined
}

export interface PruneReport {
  dryRun: boolean
  /** Whose backups were looked at (see `databaseKey`); null where there are none. */
  database: string | null
  kept: { id: string; because: string[] }[]
  /** Backups that the policy no longer keeps. */
  removed: string[]
  /** Folders without a manifest, of backups that failed or were killed, untouched for a day. */
  swept: string[]
  /** Backups whose manifest is damaged: they count as no copy, and are left for a person to look at. */
  damaged: string[]
  /** Backups of this database that are not signed, or with an unknown key: the same goes for them. */
  untrusted: string[]
  /** Backups of other databases, which are left alone, by database. */
  others: { database: string; instance: string | null; backups: number }[]
  /** Contents of Storage files that no backup has any more. */
  files: PrunedFiles
}

/** A backup under way writes something at least this often. */
const abandonedAfterMs = 24 * 3_600_000

/**
 * Deletes the backups of this database that `backup.keep` no longer keeps, and what failed ones have left. Never the newest sound
 * one, nor one of another database; without `backup.keep`, none. What nothing vouches for counts as no copy: otherwise
 * whoever may write to the store could have every real one deleted by adding newer ones.
 * @throws {CaretakerError} `invalid_input` where it cannot be known whose backups are meant
 */
export async function pruneBackups(
  ctx: Pick<Context, 'config' | 'env' | 'db' | 'objects' | 'clock' | 'log'>,
  input: PruneInput = {},
): Promise<PruneReport> {
  const store = await ctx.objects()
  const dryRun = input.dryRun === true
  const all = await listBackups(ctx, input.trustUnsigned === true ? openTrust(ctx, { trustUnsigned: true }) : ownTrust(ctx))
  const readable = all.filter((backup) => backup.problem === undefined)
  const own = await ownDatabase(ctx, readable, input.database, store.url)
  const mine = readable.filter((backup) => keyOf(backup) === own)
  const sound = mine.filter((backup) => backup.trusted).map((backup) => ({ id: backup.id, createdAt: new Date(backup.createdAt) }))
  const keep = ctx.config.backup?.keep
  const plan =
    keep === undefined
      ? { keep: sound.map((backup) => ({ id: backup.id, because: ['the policy has no backup.keep'] })), remove: [] }
      : keepBases(ctx, sound, planRetention(sound, keep, ctx.clock.now()))
  const complete = new Set(all.map((backup) => backup.id))
  const swept = await findAbandoned(ctx, store, complete)
  if (!dryRun) for (const id of [...plan.remove, ...swept]) await deleteBackup(store, id)
  // Only the newest backup is drilled by the server: identities of older ones have no use left, and are a risk.
  const [newest] = sound
  if (!dryRun && newest !== undefined)
    await destroyDrillIdentities(
      store,
      mine.filter((backup) => backup.createdAt < newest.createdAt.toISOString()).map((backup) => backup.id),
    )
  const files = await pruneFiles(ctx, { dryRun, without: dryRun ? [...plan.remove, ...swept] : [] })
  if (!dryRun && plan.remove.length + swept.length > 0) ctx.log.info({ removed: plan.remove, swept }, 'backups pruned')
  return {
    dryRun,
    database: own,
    kept: plan.keep,
    removed: plan.remove,
    swept,
    damaged: all.filter((backup) => backup.problem !== undefined).map((backup) => backup.id),
    untrusted: mine.filter((backup) => !backup.trusted).map((backup) => backup.id),
    others: countOthers(readable.filter((backup) => keyOf(backup) !== own)),
    files,
  }
}

function keyOf(backup: Pick<BackupSummary, 'database' | 'instance'>): string {
  return databaseKey({ name: backup.database, instance: backup.instance })
}

function countOthers(backups: readonly BackupSummary[]): PruneReport['others'] {
  const others = new Map<string, PruneReport['others'][number]>()
  for (const backup of backups) {
    const other = others.get(keyOf(backup)) ?? { database: backup.database, instance: backup.instance, backups: 0 }
    other.backups++
    others.set(keyOf(backup), other)
  }
  return [...others.values()]
}

/** The manifest first: whatever interrupts this, what is left does not show as a backup. */
async function deleteBackup(store: ObjectStore, id: string): Promise<void> {
  await store.delete(`${backupFolder(id)}manifest.json`)
  const keys: string[] = []
  for (const folder of [backupFolder(id), `${drillsPrefix}${id}/`]) for await (const object of store.list(folder)) keys.push(object.key)
  for (const key of keys) await store.delete(key)
}

/** Also identities that were made for a backup which never came to write anything. */
async function findAbandoned(ctx: Pick<Context, 'clock'>, store: ObjectStore, complete: ReadonlySet<string>): Promise<string[]> {
  const touched = new Map<string, number>()
  for (const prefix of [backupsPrefix, drillsPrefix])
    for await (const object of store.list(prefix)) {
      const id = object.key.slice(prefix.length).split('/')[0] ?? ''
      if (!complete.has(id)) touched.set(id, Math.max(touched.get(id) ?? 0, object.modifiedAt.getTime()))
    }
  const before = ctx.clock.now().getTime() - abandonedAfterMs
  return [...touched]
    .filter(([, at]) => at < before)
    .map(([id]) => id)
    .sort()
}
