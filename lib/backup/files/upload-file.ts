import { setTimeout as delay } from 'node:timers/promises'
import type { SupabaseClient } from '@supabase/supabase-js'
import { CaretakerError } from '../../platform/errors.ts'
import type { Sink } from '../object-stream.ts'
import type { IndexedFile } from './index-lines.ts'
import type { FileObjects } from './open-file.ts'
import { fileInfo, refusalOf, type StorageRefusal, saidNo, urlPath } from './storage-api.ts'

/** Up to here a file is sent as a whole: with its length, and again from memory when it did not arrive. */
const wholeBytes = 8 * 1024 * 1024
const attempts = 4
const firstDelayMs = 500

/**
 * Puts one file into Storage, over what is there.
 * @throws {CaretakerError} `upstream_failed` when Storage does not take it; `backup_corrupt` before Storage has all of it
 */
export async function uploadFile(supabase: SupabaseClient, objects: FileObjects, file: IndexedFile, signal: AbortSignal): Promise<void> {
  const whole = file.bytes <= wholeBytes ? await readWhole(objects, file) : undefined
  for (let attempt = 1; ; attempt++) {
    const refused = await (whole === undefined ? sendStream(supabase, objects, file) : send(supabase, file, whole))
    if (refused === null) break
    const temporary = refused.status === 0 || refused.status === 429 || refused.status >= 500
    if (!temporary || attempt === attempts) throw new CaretakerError('upstream_failed', `Storage did not take it: ${saidNo(refused)}`)
    await delay(firstDelayMs * 4 ** (attempt - 1), undefined, { signal })
  }
  const stored = await fileInfo(supabase, file)
  if (stored !== null && (stored.size === null || stored.size === file.bytes)) return
  throw new CaretakerError('upstream_failed', `Storage has ${stored?.size ?? 'nothing'} of ${file.bytes} bytes`)
}

async function readWhole(objects: FileObjects, file: IndexedFile): Promise<Buffer> {
  const chunks: Buffer[] = []
  const collect: Sink = async (from) => {
    for await (const chunk of from) chunks.push(chunk)
  }
  await objects.read(file, collect)
  return Buffer.concat(chunks)
}

/** The refusal, or null. */
async function send(supabase: SupabaseClient, file: IndexedFile, body: Uint8Array | ReadableStream): Promise<StorageRefusal | null> {
  const { error } = await supabase.storage.from(file.bucket).upload(urlPath(file.name), body, {
    upsert: true,
    contentType: file.mimetype ?? 'application/octet-stream',
    // As Storage had it: supabase-js would make "max-age=…" of anything.
    headers: { 'cache-control': file.cacheControl ?? 'no-cache' },
    ...(file.userMetadata === null ? {} : { metadata: file.userMetadata }),
  })
  return error === null ? null : refusalOf(error)
}

async function sendStream(supabase: SupabaseClient, objects: FileObjects, file: IndexedFile): Promise<StorageRefusal | null> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
  const writer = writable.getWriter()
  // Ended without its last bytes an upload leaves nothing.
  const giveUp = (why: unknown) => writer.abort(why).catch(() => undefined)
  const sink: Sink = async (from) => {
    for await (const chunk of from) await writer.write(chunk)
    await writer.close()
  }
  const reading = objects.read(file, sink).catch(async (error: unknown) => {
    await giveUp(error)
    return error
  })
  const refused = await send(supabase, file, readable)
  // Refused before all of it was read: nobody reads the rest.
  if (refused !== null) await giveUp(new Error('refused'))
  const failure = await reading
  if (failure instanceof CaretakerError) throw failure
  if (refused === null && failure !== undefined) throw failure
  return refused
}
