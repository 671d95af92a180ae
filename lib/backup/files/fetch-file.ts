import { createHash, randomBytes } from 'node:crypto'
import { Transform } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { SupabaseClient } from '@supabase/supabase-js'
import { CaretakerError } from '../../platform/errors.ts'
import { type Sealing, writeObject } from '../object-stream.ts'
import type { ListedFile } from './listing.ts'
import { filesPrefix } from './references.ts'
import { download, fileInfo, isAbsent, refusalOf, StallGuard, saidNo } from './storage-api.ts'

export interface FetchLimits {
  /** How often a file is asked for before it counts as failed. */
  attempts: number
  /** Before the second attempt; four times as long before each further one. */
  retryDelayMs: number
  /** A download of which nothing comes for so long has failed. */
  stallMs: number
}

export type Fetched =
  | {
      outcome: 'stored'
      object: string
      bytes: number
      sha256: string
      content: { bytes: number; sha256: string }
      /** It was overwritten since it was listed. */
      changed: boolean
    }
  /** Storage no longer has it. */
  | { outcome: 'missing' }
  /** `why` names no file. */
  | { outcome: 'failed'; why: string }

/**
 * Streams one file from Storage into an object of its own, compressed and sealed. A file that Storage does not give is an
 * outcome; only what must end the whole backup is thrown: an object store that fails, a run that is stopped.
 */
export async function fetchFile(supabase: SupabaseClient, sealing: Sealing, file: ListedFile, limits: FetchLimits): Promise<Fetched> {
  let why = ''
  for (let attempt = 1; attempt <= limits.attempts; attempt++) {
    if (attempt > 1) await delay(limits.retryDelayMs * 4 ** (attempt - 2), undefined, { signal: sealing.signal })
    const tried = await tryOnce(supabase, sealing, file, limits.stallMs)
    if (typeof tried !== 'string') return tried
    why = tried
  }
  return { outcome: 'failed', why }
}

/** What came of one attempt, or why another may do better. */
async function tryOnce(supabase: SupabaseClient, sealing: Sealing, file: ListedFile, stallMs: number): Promise<Fetched | string> {
  const guard = new StallGuard(sealing.signal, stallMs)
  try {
    const answer = await download(supabase, file, file.version ?? file.updatedAt ?? '', guard.signal)
    if ('refused' in answer) {
      sealing.signal.throwIfAborted()
      if (isAbsent(answer.refused)) return { outcome: 'missing' }
      const said = saidNo(answer.refused)
      return [401, 403].includes(answer.refused.status) ? { outcome: 'failed', why: said } : said
    }
    const md5 = createHash('md5')
    const tap = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        guard.progress()
        md5.update(chunk)
        done(null, chunk)
      },
    })
    answer.body.once('error', (error) => tap.destroy(error))
    const name = randomBytes(16).toString('hex')
    const written = await writeObject(
      { ...sealing, folder: filesPrefix },
      `${name.slice(0, 2)}/${name}`,
      'file',
      answer.body.pipe(tap),
    ).finally(() => answer.body.destroy())
    const object = `${filesPrefix}${written.key}`
    const content = { bytes: written.contentBytes, sha256: written.contentSha256 }
    const verdict = await compare(supabase, file, content.bytes, md5.digest('hex'))
    if (verdict === 'short') {
      await sealing.store.delete(object)
      return `${content.bytes} bytes came of ${file.size}`
    }
    return { outcome: 'stored', object, bytes: written.bytes, sha256: written.sha256, content, changed: verdict === 'changed' }
  } catch (error) {
    sealing.signal.throwIfAborted()
    if (error instanceof CaretakerError && error.code !== 'upstream_failed') throw error
    return saidNo(refusalOf(error))
  } finally {
    guard.release()
  }
}

/**
 * Whether what came is what was listed. Storage's ETag is the content's MD5 for most files, but not for those it took in
 * parts: where it differs, what Storage says of the file now decides.
 */
async function compare(supabase: SupabaseClient, file: ListedFile, bytes: number, md5: string): Promise<'same' | 'changed' | 'short'> {
  const sameSize = file.size === null || file.size === bytes
  if (sameSize && (file.etag === null || file.etag === md5 || !/^[0-9a-f]{32}$/.test(file.etag))) return 'same'
  const now = await fileInfo(supabase, file)
  const changed = now === null || now.version !== file.version || now.etag !== file.etag || now.size !== file.size
  if (changed) return 'changed'
  return sameSize ? 'same' : 'short'
}
