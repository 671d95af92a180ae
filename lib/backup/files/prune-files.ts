import type { Context } from '../../platform/context.ts'
import { hasCode } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { backupsPrefix } from '../manifest.ts'
import { journalPrefix } from './known-files.ts'
import { filesPrefix, indexName, readReferences, referencesKey } from './references.ts'

export interface PrunedFiles {
  /** Stored contents that no backup has any more. */
  objects: number
  bytes: number
  /** Set when nothing was deleted because it cannot be known what the backup with this id has. */
  undecided?: string
}

/** What was stored or written down less long ago may belong to a backup that is being made. */
const youngMs = 24 * 3_600_000

/**
 * Deletes the contents of files that no backup refers to any more, and the journals of runs that ended long ago. To be called
 * after backups were deleted. Knows what is in use from the references beside each backup, complete or not: no identity is needed.
 * If one of them cannot be read, nothing is deleted.
 */
export async function pruneFiles(
  ctx: Pick<Context, 'objects' | 'clock' | 'log'>,
  input: { dryRun?: boolean; without?: readonly string[] } = {},
): Promise<PrunedFiles> {
  const store = await ctx.objects()
  const before = ctx.clock.now().getTime() - youngMs
  const found = await unreferencedFiles(store, before, new Set(input.without))
  if ('undecided' in found) {
    ctx.log.error({ backup: found.undecided }, 'files are not pruned: the references of a backup cannot be read')
    return { objects: 0, bytes: 0, undecided: found.undecided }
  }
  if (input.dryRun !== true) {
    for (const { key } of found.unreferenced) await store.delete(key)
    for (const key of found.oldJournals) await store.delete(key)
  }
  return { objects: found.unreferenced.length, bytes: found.unreferenced.reduce((sum, { bytes }) => sum + bytes, 0) }
}

/**
 * Objects under `files/`, untouched since `before` (ms), that neither a backup nor a run under way refers to.
 * @param without backups to count as deleted already, for a dry run
 */
export async function unreferencedFiles(
  store: ObjectStore,
  before: number,
  without: ReadonlySet<string> = new Set(),
): Promise<{ unreferenced: { key: string; bytes: number }[]; oldJournals: string[] } | { undecided: string }> {
  const candidates = new Map<string, number>()
  const journals: string[] = []
  const oldJournals: string[] = []
  for await (const { key, bytes, modifiedAt } of store.list(filesPrefix)) {
    const old = modifiedAt.getTime() < before
    if (key.startsWith(journalPrefix)) (old ? oldJournals : journals).push(key)
    else if (old) candidates.set(key, bytes)
  }
  // Read after the listing: what a run refers to since then was written down before it was looked up again.
  const backups = await referenceDocuments(store, without)
  if ('undecided' in backups) return backups
  const documents = [...backups.documents, ...journals.map((key) => ({ key, of: key }))]
  for (const { key, of } of documents) {
    if (candidates.size === 0) break
    try {
      await readReferences(store, key, (reference) => candidates.delete(reference.object))
    } catch (error) {
      if (hasCode(error, 'backup_corrupt')) return { undecided: of }
      throw error
    }
  }
  return { unreferenced: [...candidates].map(([key, bytes]) => ({ key, bytes })), oldJournals }
}

async function referenceDocuments(
  store: ObjectStore,
  without: ReadonlySet<string>,
): Promise<{ documents: { key: string; of: string }[] } | { undecided: string }> {
  const documents = new Map<string, { key: string; of: string }>()
  const indexed = new Set<string>()
  for await (const { key } of store.list(backupsPrefix)) {
    const [id = '', name = ''] = key.slice(backupsPrefix.length).split('/')
    if (without.has(id)) continue
    if (name === referencesKey) documents.set(id, { key, of: id })
    if (name.startsWith(`${indexName}.`)) indexed.add(id)
  }
  for (const id of indexed) if (!documents.has(id) && (await isComplete(store, id))) return { undecided: id }
  return { documents: [...documents.values()] }
}

/** The index is written first: a backup that is not complete may lack its references, and then refers to nothing. */
async function isComplete(store: ObjectStore, id: string): Promise<boolean> {
  return (await store.head(`${backupsPrefix}${id}/manifest.json`)) !== null
}
