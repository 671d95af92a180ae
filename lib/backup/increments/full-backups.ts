import { hasCode } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { listBackupIds, type Manifest, readManifest } from '../manifest.ts'

/** The sound full backups in a store, newest first, read as they are asked for. A damaged one counts as none. */
export async function* fullBackups(store: ObjectStore): AsyncGenerator<Manifest, void, undefined> {
  const ids = (await listBackupIds(store)).reverse()
  while (ids.length > 0) {
    // An id says the second; which of two in one second is newer, the manifest does.
    const second = ids[0]?.slice(0, 16) ?? ''
    const rest = ids.findIndex((id) => !id.startsWith(second))
    const manifests: Manifest[] = []
    for (const id of ids.splice(0, rest < 0 ? ids.length : rest)) {
      try {
        manifests.push(await readManifest(store, id))
      } catch (error) {
        if (!hasCode(error, 'backup_corrupt')) throw error
      }
    }
    yield* manifests.sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1))
  }
}
