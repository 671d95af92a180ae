import { CaretakerError } from '../../platform/errors.ts'
import type { Manifest } from '../manifest.ts'
import { Digest } from '../meter.ts'
import { digestSink, type Opening } from '../object-stream.ts'
import type { OnProgress } from '../progress.ts'
import { shareOut } from '../sessions.ts'
import { readIndex } from './index-lines.ts'
import { FileObjects } from './open-file.ts'

export interface VerifiedFiles {
  files: number
  objects: number
  storedBytes: number
}

/**
 * Reads every stored object that the backup's files are in and holds it against its hash; with an identity, or without encryption,
 * each is opened and its content held against the index. Null for a backup without files.
 * @throws {CaretakerError} `backup_corrupt` naming the object, never the file
 */
export async function verifyFiles(
  opening: Opening,
  manifest: Pick<Manifest, 'files' | 'objects'>,
  options: { content: boolean; onProgress?: OnProgress | undefined },
): Promise<VerifiedFiles | null> {
  const { files: summary } = manifest
  if (summary === undefined) return null
  const objects = await FileObjects.read(opening, summary.references)
  const totalBytes = [...objects.stored.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  if (totalBytes !== summary.storedBytes)
    throw new CaretakerError('backup_corrupt', `${summary.references} does not hold what the manifest says of it.`)
  const contents = options.content ? await contentsOf(opening, manifest, summary.index, objects) : undefined
  let doneBytes = 0
  const readers = Array.from({ length: 4 }, (_, reader) => reader)
  await shareOut(readers, [...objects.stored], async (_reader, [object, stored]) => {
    await checkStored(opening, object, stored)
    const content = contents?.get(object)
    if (content !== undefined) await objects.read({ object, ...content }, digestSink(new Digest()))
    doneBytes += stored.bytes
    options.onProgress?.({ phase: 'check', what: 'files', doneBytes, totalBytes })
  })
  return { files: summary.count, objects: objects.stored.size, storedBytes: totalBytes }
}

async function checkStored(opening: Opening, object: string, stored: { bytes: number; sha256: string }): Promise<void> {
  const stream = await opening.store.get(object, { signal: opening.signal })
  if (stream === null) throw new CaretakerError('backup_corrupt', `${object} is missing from the store: a file of this backup is lost.`)
  const digest = new Digest()
  await digestSink(digest)(stream)
  const found = digest.measured()
  if (found.bytes !== stored.bytes || found.sha256 !== stored.sha256)
    throw new CaretakerError('backup_corrupt', `${object} was changed after it was written.`)
}

/** What each object must hold. Two files may share one. */
async function contentsOf(
  opening: Opening,
  manifest: Pick<Manifest, 'objects'>,
  key: string,
  objects: FileObjects,
): Promise<Map<string, { bytes: number; sha256: string }>> {
  const index = manifest.objects.find((object) => object.key === key)
  if (index === undefined) throw new CaretakerError('backup_corrupt', `${key} is missing from the manifest.`)
  const contents = new Map<string, { bytes: number; sha256: string }>()
  for (const line of await readIndex(opening, index))
    if (line.kind === 'file') contents.set(line.object, { bytes: line.bytes, sha256: line.sha256 })
  for (const object of [...contents.keys(), ...objects.stored.keys()])
    if (!contents.has(object) || !objects.stored.has(object))
      throw new CaretakerError('backup_corrupt', `The index of the files and their references do not agree on ${object}.`)
  return contents
}
