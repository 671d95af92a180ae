import { hasCode } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { listBackupIds, type Manifest, readManifest } from '../manifest.ts'
import { databaseKey } from '../select-backup.ts'
import type { Trust } from '../signing/index.ts'

/** Whose full backups, and whom to believe. */
export interface FullBackupsOf {
  trust: Trust
  /** See `databaseKey`. */
  database: string
}

/**
 * The full backups of one database, newest first, read as they are asked for. A damaged one counts as none, and so does one that
 * nothing vouches for.
 */
export async function* fullBackups(store: ObjectStore, of: FullBackupsOf): AsyncGenerator<Manifest, void, undefined> {
  const ids = (await listBackupIds(store)).reverse()
  while (ids.length > 0) {
    // An id says the second; which of two in one second is newer, the manifest does.
    const second = ids[0]?.slice(0, 16) ?? ''
    const rest = ids.findIndex((id) => !id.startsWith(second))
    const manifests: Manifest[] = []
    for (const id of ids.splice(0, rest < 0 ? ids.length : rest)) {
      try {
        const { manifest, signer } = await readManifest(store, id)
        if (databaseKey(manifest.database) === of.database && (await of.trust.accepts(signer))) manifests.push(manifest)
      } catch (error) {
        if (!hasCode(error, 'backup_corrupt')) throw error
      }
    }
    yield* manifests.sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1))
  }
}
