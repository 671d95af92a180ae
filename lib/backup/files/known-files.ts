import { randomBytes } from 'node:crypto'
import { hasCode } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { backupFolder, listBackupIds } from '../manifest.ts'
import { type FileReference, filesPrefix, readReferences, referenceLines, referencesKey } from './references.ts'

/** Where a run writes down what it has stored and what it uses again, until its backup is complete. */
export const journalPrefix = `${filesPrefix}journal/`

/** How many backups back a document for the same recipients is looked for. */
const looksBack = 30

/** What is stored already and can be used again. */
export class KnownFiles {
  readonly #byFile = new Map<string, FileReference>()
  readonly #byContent = new Map<string, FileReference>()

  readonly #backedUp = new Set<string>()

  /** One of an earlier backup. */
  addBackedUp(reference: FileReference): void {
    this.#backedUp.add(reference.object)
    this.add(reference)
  }

  /** True for an object that an earlier backup has. */
  isBackedUp(object: string): boolean {
    return this.#backedUp.has(object)
  }

  add(reference: FileReference): void {
    if (reference.file !== null) this.#byFile.set(reference.file, reference)
    if (reference.content !== null) this.#byContent.set(reference.content, reference)
  }

  ofFile(file: string | null): FileReference | undefined {
    return file === null ? undefined : this.#byFile.get(file)
  }

  ofContent(content: string | null): FileReference | undefined {
    return content === null ? undefined : this.#byContent.get(content)
  }

  get size(): number {
    return this.#byFile.size
  }

  /** Forgets what the store no longer has, or has in another size. */
  async keepStored(store: ObjectStore): Promise<void> {
    if (this.#byFile.size === 0 && this.#byContent.size === 0) return
    const stored = await storedSizes(store)
    for (const known of [this.#byFile, this.#byContent])
      for (const [key, reference] of known) if (stored.get(reference.object) !== reference.bytes) known.delete(key)
  }
}

/** Sizes of the objects below `files/`, by name. */
export async function storedSizes(store: ObjectStore): Promise<Map<string, number>> {
  const sizes = new Map<string, number>()
  for await (const object of store.list(filesPrefix)) if (!object.key.startsWith(journalPrefix)) sizes.set(object.key, object.bytes)
  return sizes
}

/** What the newest backup for the same recipients holds, and what runs that did not end have stored. */
export async function loadKnownFiles(store: ObjectStore, sealedFor: string): Promise<KnownFiles> {
  const known = new KnownFiles()
  for (const id of (await listBackupIds(store)).reverse().slice(0, looksBack)) {
    await read(store, `${backupFolder(id)}${referencesKey}`, (reference) => known.addBackedUp(reference), sealedFor)
    if (known.size > 0) break
  }
  for (const key of await journals(store)) await read(store, key, (reference) => known.add(reference), sealedFor)
  await known.keepStored(store)
  return known
}

/** A damaged document costs a second download, not the backup. */
async function read(store: ObjectStore, key: string, take: (reference: FileReference) => void, sealedFor: string): Promise<void> {
  try {
    await readReferences(store, key, take, sealedFor)
  } catch (error) {
    if (!hasCode(error, 'backup_corrupt')) throw error
  }
}

async function journals(store: ObjectStore): Promise<string[]> {
  const keys: string[] = []
  for await (const object of store.list(journalPrefix)) keys.push(object.key)
  return keys
}

/**
 * Writes down what a run has stored, so that the next one goes on there when this one is killed or runs out of time, and so
 * that nobody deletes what this run is about to speak of.
 */
export class FileJournal {
  readonly #store: ObjectStore
  readonly #folder: string
  readonly #sealedFor: string
  #waiting: FileReference[] = []
  #waitingBytes = 0
  readonly #name = randomBytes(4).toString('hex')
  #number = 0
  #writing: Promise<void> = Promise.resolve()

  constructor(store: ObjectStore, backupId: string, sealedFor: string) {
    this.#store = store
    this.#folder = `${journalPrefix}${backupId}/`
    this.#sealedFor = sealedFor
  }

  /** Written every 200 files or 64 MiB: at most that is fetched a second time. */
  async add(references: readonly FileReference[]): Promise<void> {
    this.#waiting.push(...references)
    this.#waitingBytes += references.reduce((sum, reference) => sum + reference.bytes, 0)
    if (this.#waiting.length >= 200 || this.#waitingBytes >= 64 * 1024 * 1024) await this.flush()
  }

  flush(): Promise<void> {
    const references = this.#waiting
    this.#waiting = []
    this.#waitingBytes = 0
    if (references.length > 0) {
      this.#number++
      const key = `${this.#folder}${this.#name}-${String(this.#number).padStart(6, '0')}.ndjson`
      const text = [...referenceLines(this.#sealedFor, references)].join('')
      this.#writing = this.#writing.then(async () => {
        await this.#store.put(key, Buffer.from(text), { contentType: 'application/x-ndjson' })
      })
    }
    return this.#writing
  }
}

/** Removes the journal of a backup that is complete: its own document says the same. What is left, prune takes later. */
export async function closeFileJournal(store: ObjectStore, backupId: string): Promise<void> {
  try {
    const keys: string[] = []
    for await (const object of store.list(`${journalPrefix}${backupId}/`)) keys.push(object.key)
    for (const key of keys) await store.delete(key)
  } catch {
    // The backup is complete by then, and must not count as failed.
  }
}
