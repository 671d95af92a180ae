import type { SupabaseClient } from '@supabase/supabase-js'
import type { Env } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { Sealing } from '../object-stream.ts'
import type { OnProgress } from '../progress.ts'
import { shareOut } from '../sessions.ts'
import { type Fetched, type FetchLimits, fetchFile } from './fetch-file.ts'
import { FileJournal, KnownFiles, loadKnownFiles, storedSizes } from './known-files.ts'
import type { ListedFile } from './listing.ts'
import { type FileContent, FileKeys, type FileReference, filesPrefix, sealedForName } from './references.ts'

export interface CollectInput {
  /** Names the run's journal: the id of the backup, if there is one yet. */
  id: string
  files: readonly ListedFile[]
  sealing: Pick<Sealing, 'store' | 'signal'>
  /** Whom the files are sealed to. Only those of the policy: a recipient of one backup alone would make every file new. */
  recipients: readonly string[] | null
  onProgress?: OnProgress | undefined
  /** Called before each file; throws to end the run. What is stored by then is used by the next one. */
  checkTime?: (() => void) | undefined
  limits?: Partial<CollectLimits> | undefined
}

export interface CollectLimits extends FetchLimits {
  /** Files fetched at once. */
  atOnce: number
  /** So many files that Storage does not give end the run: it is Storage then, not the files. */
  maxFailures: number
}

// Four downloads hold four times the buffers of an upload in parts: 24 MiB each.
const defaults: CollectLimits = { attempts: 4, retryDelayMs: 500, stallMs: 60_000, atOnce: 4, maxFailures: 20 }

export interface CollectedFile {
  reference: FileReference
  content: FileContent
  changed: boolean
  /** No earlier backup has it. */
  fresh: boolean
}

export type Outcome = CollectedFile | 'missing'

/**
 * Brings the content of every listed file into the store, or finds it there. A file that Storage no longer has is noted; one
 * that it does not give after several attempts fails the run.
 * @returns what became of each file, in the order given
 * @throws {CaretakerError} `backup_incomplete` naming the buckets and counts, never a file; `object_store_failed`
 */
export function collectFiles(env: Env, supabase: SupabaseClient, input: CollectInput): Promise<Outcome[]> {
  return new Collecting(env, input).all(supabase)
}

class Collecting {
  readonly #sealedFor: string
  readonly #input: CollectInput
  readonly #limits: CollectLimits
  readonly #keys: FileKeys
  readonly #failures = new Map<string, { count: number; why: string }>()
  #doneBytes = 0
  readonly #totalBytes: number

  constructor(env: Env, input: CollectInput) {
    this.#input = input
    this.#limits = { ...defaults, ...input.limits }
    this.#keys = new FileKeys(env)
    this.#sealedFor = sealedForName(input.recipients)
    this.#totalBytes = input.files.reduce((sum, file) => sum + (file.size ?? 0), 0)
  }

  /** What became of each listed file, in the listing's order. */
  async all(supabase: SupabaseClient): Promise<Outcome[]> {
    const { files, sealing, id } = this.#input
    const known = this.#keys.usable ? await loadKnownFiles(sealing.store, this.#sealedFor) : new KnownFiles()
    const journal = new FileJournal(sealing.store, id, this.#sealedFor)
    const outcomes: (Outcome | undefined)[] = []
    // Before anything else: from now on nobody may delete what is used again.
    for (const file of files) {
      const found = this.#reused(known, file)
      outcomes.push(found)
      if (found !== undefined) await journal.add([found.reference])
    }
    await journal.flush()
    const stop = new AbortController()
    const fetching: Sealing = {
      store: sealing.store,
      folder: filesPrefix,
      recipients: this.#input.recipients,
      signal: AbortSignal.any([sealing.signal, stop.signal]),
    }
    let failure: unknown
    try {
      const slots = Array.from({ length: this.#limits.atOnce }, (_, slot) => slot)
      await shareOut(slots, [...files.entries()], async (_slot, [at, file]) => {
        if (outcomes[at] !== undefined) return this.#progress(file)
        try {
          this.#input.checkTime?.()
          const outcome = await this.#fetch(supabase, fetching, file, known)
          if (outcome !== undefined) outcomes[at] = outcome
          if (outcome !== undefined && outcome !== 'missing') await journal.add([outcome.reference])
        } catch (error) {
          // The others then fail too, because they are stopped.
          failure ??= error
          stop.abort()
          throw error
        }
        this.#progress(file)
      })
    } catch (error) {
      throw failure ?? error
    } finally {
      await journal.flush()
    }
    this.#refuseFailures()
    const all = outcomes.filter((outcome) => outcome !== undefined)
    this.#refuseAllMissing(all)
    await this.#stillStored(all.flatMap((outcome) => (outcome === 'missing' ? [] : [outcome.reference])))
    return all
  }

  #reused(known: KnownFiles, file: ListedFile): CollectedFile | undefined {
    const reference = known.ofFile(this.#keys.file(file))
    const content = reference === undefined ? undefined : this.#keys.open(reference)
    if (reference === undefined || content === undefined) return undefined
    return { reference, content, changed: false, fresh: !known.isBackedUp(reference.object) }
  }

  async #fetch(supabase: SupabaseClient, sealing: Sealing, file: ListedFile, known: KnownFiles): Promise<Outcome | undefined> {
    const fetched = await fetchFile(supabase, sealing, file, this.#limits)
    if (fetched.outcome === 'missing') return 'missing'
    if (fetched.outcome === 'failed') {
      this.#fail(file.bucket, fetched.why)
      return undefined
    }
    const tag = fetched.changed ? null : this.#keys.file(file)
    const twin = this.#twin(known, fetched)
    const reference = this.#keys.reference(twin ?? fetched, tag, fetched.content)
    known.add(reference)
    if (twin !== undefined) await sealing.store.delete(fetched.object)
    return { reference, content: fetched.content, changed: fetched.changed, fresh: !known.isBackedUp(reference.object) }
  }

  /** An object that holds the same content already: what Storage has twice is stored once. */
  #twin(
    known: KnownFiles,
    fetched: Extract<Fetched, { outcome: 'stored' }>,
  ): { object: string; bytes: number; sha256: string } | undefined {
    const twin = known.ofContent(this.#keys.content(fetched.content))
    const content = twin === undefined ? undefined : this.#keys.open(twin)
    if (twin === undefined || content?.sha256 !== fetched.content.sha256) return undefined
    return { object: twin.object, bytes: twin.bytes, sha256: twin.sha256 }
  }

  #fail(bucket: string, why: string): void {
    const failed = this.#failures.get(bucket) ?? { count: 0, why }
    failed.count++
    this.#failures.set(bucket, failed)
    const total = [...this.#failures.values()].reduce((sum, one) => sum + one.count, 0)
    if (total >= this.#limits.maxFailures) this.#refuseFailures()
  }

  #refuseFailures(): void {
    if (this.#failures.size === 0) return
    const { files } = this.#input
    const buckets = [...this.#failures].map(
      ([bucket, { count, why }]) =>
        `bucket "${bucket}": ${count} of ${files.filter((file) => file.bucket === bucket).length} files (${why})`,
    )
    throw new CaretakerError(
      'backup_incomplete',
      `Storage did not give ${buckets.join('; ')}. What was fetched is kept, and the next backup goes on there.`,
    )
  }

  #refuseAllMissing(outcomes: readonly Outcome[]): void {
    if (outcomes.length < 10 || outcomes.some((outcome) => outcome !== 'missing')) return
    throw new CaretakerError(
      'backup_incomplete',
      `Storage has none of the ${outcomes.length} files that this database lists. Is SUPABASE_URL the project of this database?`,
    )
  }

  /** Somebody may have deleted a backup, and with it some of these, since they were found. */
  async #stillStored(references: readonly FileReference[]): Promise<void> {
    if (references.length === 0) return
    const sizes = await storedSizes(this.#input.sealing.store)
    const gone = references.filter((reference) => sizes.get(reference.object) !== reference.bytes).length
    if (gone > 0)
      throw new CaretakerError(
        'backup_incomplete',
        `${gone} stored files were deleted from the store during this backup. Run it again: they will be fetched.`,
      )
  }

  #progress(file: ListedFile): void {
    this.#doneBytes += file.size ?? 0
    const { bucket } = file
    this.#input.onProgress?.({ phase: 'files', what: bucket, doneBytes: this.#doneBytes, totalBytes: this.#totalBytes })
  }
}
