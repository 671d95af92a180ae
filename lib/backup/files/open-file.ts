import { pipeline } from 'node:stream/promises'
import { createZstdDecompress } from 'node:zlib'
import { CaretakerError } from '../../platform/errors.ts'
import { decryptWith } from '../age/index.ts'
import { Digest, Meter } from '../meter.ts'
import type { Opening, Sink } from '../object-stream.ts'
import type { IndexedFile } from './index-lines.ts'
import { readReferences } from './references.ts'

/** The stored objects of a backup's files: what the references say of them. */
export class FileObjects {
  readonly #opening: Opening
  readonly #stored = new Map<string, { bytes: number; sha256: string }>()

  private constructor(opening: Opening) {
    this.#opening = opening
  }

  static async read(opening: Opening, referencesKey: string): Promise<FileObjects> {
    const made = new FileObjects(opening)
    const found = await readReferences(opening.store, `${opening.folder}${referencesKey}`, ({ object, bytes, sha256 }) => {
      made.#stored.set(object, { bytes, sha256 })
    })
    if (!found) throw new CaretakerError('backup_corrupt', `${referencesKey} is missing from the backup.`)
    return made
  }

  /** Names and sizes, each once. */
  get stored(): ReadonlyMap<string, { bytes: number; sha256: string }> {
    return this.#stored
  }

  /**
   * Gives a file's content to `sink`, which has all of it only if it is what was backed up: the last bytes are held back until
   * the hash is right.
   * @throws {CaretakerError} `backup_corrupt`
   */
  async read(file: Pick<IndexedFile, 'object' | 'bytes' | 'sha256'>, sink: Sink | NodeJS.WritableStream): Promise<void> {
    const stored = this.#stored.get(file.object)
    if (stored === undefined)
      throw new CaretakerError('backup_corrupt', `${file.object} is in the index of the files, but not among their references.`)
    const source = await this.#opening.store.get(file.object, { signal: this.#opening.signal })
    if (source === null) throw new CaretakerError('backup_corrupt', `${file.object} is missing from the store.`)
    const meter = new Meter()
    const decrypt = this.#opening.encrypted ? [decryptWith(this.#opening.identities)] : []
    const stages = [source, meter, ...decrypt, createZstdDecompress({ chunkSize: 128 * 1024 }), holdBack(file), sink]
    try {
      await pipeline(stages as never, { signal: this.#opening.signal })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code?.startsWith('ZSTD_') === true)
        throw new CaretakerError('backup_corrupt', `${file.object} cannot be decompressed.`, { cause: error })
      throw error
    }
  }
}

/** Passes chunks on one behind, and the last only when size and hash are those of `file`. */
function holdBack(file: Pick<IndexedFile, 'object' | 'bytes' | 'sha256'>) {
  return async function* (from: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    const digest = new Digest()
    let held: Buffer | undefined
    for await (const chunk of from) {
      digest.update(chunk)
      if (held !== undefined) yield held
      held = Buffer.from(chunk)
    }
    const found = digest.measured()
    if (found.bytes !== file.bytes || found.sha256 !== file.sha256)
      throw new CaretakerError('backup_corrupt', `${file.object} does not hold what the index of the files says.`)
    if (held !== undefined) yield held
  }
}
