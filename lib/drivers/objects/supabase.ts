import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import type { Env } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectInfo, ObjectStore, PutOptions } from '../../platform/objects.ts'
import { checkKey, checkPrefix, checkRange, isKey, type Range } from './key.ts'
import { inParts, type Part } from './parts.ts'
import { withSource } from './source.ts'
import { type Caller, failure, isAbsent, problemOf, type SupabaseStoreOptions, storageUrl, supabaseCaller } from './supabase-api.ts'
import { listNames } from './supabase-listing.ts'
import { networkCode, readBody } from './transfer.ts'

/** Supabase's advice for one plain request; what is larger is streamed. */
const bufferedBytes = 6 * 1_048_576

/**
 * A bucket of Supabase Storage: `supabase://BUCKET[/PREFIX]` in the project of `SUPABASE_URL`, with the service key.
 * Storage shows an object only when its upload has ended, and `x-upsert: false` refuses a second one of the same name.
 *
 * What is larger than 6 MiB goes up in one streamed request that cannot be tried again, within the bucket's own size
 * limit. For big backups use the project's S3 endpoint (`https://PROJECT.supabase.co/storage/v1/s3`) with `s3://`.
 */
export function openSupabaseStore(url: string, env: Env, options: SupabaseStoreOptions = {}): ObjectStore {
  const { bucket, prefix } = parse(url)
  const call = supabaseCaller(env, options)
  const pathOf = (key: string) => `${bucket}/${`${prefix}${key}`.split('/').map(encodeURIComponent).join('/')}`

  async function head(key: string): Promise<Stored | null> {
    const answer = await call('GET', `/object/info/${pathOf(key)}`)
    const problem = await problemOf(answer)
    if (problem === null) {
      const info = (await answer.json()) as {
        size?: number
        last_modified?: string
        created_at?: string
        metadata?: Marked | null
        user_metadata?: Marked | null
      }
      const put = info.user_metadata?.caretakerPut ?? info.metadata?.caretakerPut ?? null
      return { info: { key, bytes: Number(info.size), modifiedAt: new Date(info.last_modified ?? info.created_at ?? 0) }, put }
    }
    if (isAbsent(problem)) return null
    throw failure('looking up an object', problem)
  }

  async function remove(key: string): Promise<void> {
    const answer = await call('DELETE', `/object/${bucket}`, { json: { prefixes: [`${prefix}${key}`] } })
    const problem = await problemOf(answer)
    if (problem !== null && !isAbsent(problem)) throw failure('deleting an object', problem)
    await answer.body?.cancel()
  }

  return {
    url,

    put(key, body, put = {}) {
      return withSource(body, put.signal, async (chunks) => {
        checkKey(key)
        if (put.ifAbsent === true && (await head(key)) !== null) throw taken()
        const parts = inParts(chunks, bufferedBytes)
        const first = (await parts.next()).value as Part
        const send = { call, path: `/object/${pathOf(key)}`, put, id: randomUUID() }
        const bytes = first.last ? await sendWhole(send, Buffer.concat(first.chunks)) : await sendStream(send, first, parts)
        const stored = await head(key)
        if (stored === null) throw new CaretakerError('object_store_failed', 'Supabase Storage took the object and then did not have it.')
        // Another writer may have replaced it since; then its size says nothing about ours.
        const replaced = stored.put !== null && stored.put !== send.id
        if (!replaced && stored.info.bytes !== bytes) {
          await remove(key).catch(() => undefined)
          throw new CaretakerError(
            'object_store_failed',
            `Supabase Storage kept ${stored.info.bytes} of ${bytes} bytes; what it kept was deleted.`,
          )
        }
        return { ...stored.info, bytes }
      })
    },

    async get(key, get = {}) {
      checkKey(key)
      const { range, signal } = get
      if (range !== undefined) {
        checkRange(range)
        // HTTP has no empty range.
        if (range.start === range.end) return (await head(key)) === null ? null : Readable.from([], { objectMode: false })
      }
      const headers = range === undefined ? {} : { range: `bytes=${range.start}-${range.end - 1}` }
      const answer = await call('GET', `/object/authenticated/${pathOf(key)}`, { headers, signal, streams: true })
      if (answer.status === 416) return Readable.from([], { objectMode: false })
      const problem = await problemOf(answer)
      if (problem === null) return Readable.from(download(answer, range, signal), { objectMode: false })
      if (isAbsent(problem)) return null
      // Behind some proxies a range past the end comes as a 400.
      if (problem.statusCode === 416) return Readable.from([], { objectMode: false })
      throw failure('reading an object', problem)
    },

    async head(key) {
      checkKey(key)
      return (await head(key))?.info ?? null
    },

    async downloadUrl(key, { seconds, fileName }) {
      checkKey(key)
      const answer = await call('POST', `/object/sign/${pathOf(key)}`, { json: { expiresIn: seconds } })
      const problem = await problemOf(answer)
      // Storage signs only what is there.
      if (problem !== null && isAbsent(problem)) return null
      if (problem !== null) throw failure('signing an address', problem)
      const { signedURL } = (await answer.json()) as { signedURL: string }
      return `${storageUrl(env)}${signedURL}&download=${encodeURIComponent(fileName)}`
    },

    async *list(under) {
      checkPrefix(under)
      for await (const entry of listNames({ call, bucket, prefix: `${prefix}${under}` })) {
        const key = entry.name.slice(prefix.length)
        // The dashboard keeps empty folders alive with a file of this name.
        if (isKey(key) && !key.endsWith('.emptyFolderPlaceholder')) yield { key, bytes: entry.bytes, modifiedAt: entry.modifiedAt }
      }
    },

    async delete(key) {
      checkKey(key)
      await remove(key)
    },
  }
}

/** Tells our own object from that of another writer. Kept by Storage with the object. */
interface Marked {
  caretakerPut?: string
}

interface Stored {
  info: ObjectInfo
  put: string | null
}

function parse(url: string): { bucket: string; prefix: string } {
  const match = /^supabase:\/\/([A-Za-z0-9._-]{1,100})(?:\/(.*))?$/.exec(url)
  if (match === null)
    throw new CaretakerError('invalid_input', `store: found "${url}"; expected supabase://BUCKET or supabase://BUCKET/PREFIX.`)
  const prefix = (match[2] ?? '').replace(/\/$/, '')
  if (prefix !== '') checkKey(prefix)
  return { bucket: match[1] as string, prefix: prefix === '' ? '' : `${prefix}/` }
}

function taken(): CaretakerError {
  return new CaretakerError('conflict', 'An object of that name exists already.')
}

interface Send {
  call: Caller
  path: string
  put: PutOptions
  id: string
}

async function sendWhole(send: Send, body: Uint8Array): Promise<number> {
  const { call, path, put } = send
  for (let attempt = 1; ; attempt++) {
    const problem = await problemOf(await call('POST', path, { headers: uploadHeaders(send), body, signal: put.signal }))
    if (problem === null) return body.length
    const duplicate = problem.statusCode === 409
    if (duplicate && put.ifAbsent === true) throw taken()
    // Without ifAbsent: 409 is another writer's upload of the same name at the same moment. A conditional create is
    // never sent twice, because the first may have succeeded.
    const again = (duplicate || problem.statusCode >= 500 || problem.statusCode === 429) && put.ifAbsent !== true
    if (!again || attempt === 5) throw failure('storing an object', problem)
  }
}

async function sendStream(send: Send, first: Part, rest: AsyncGenerator<Part, void, undefined>): Promise<number> {
  const { call, path, put } = send
  let bytes = 0
  let broken: { error: unknown } | undefined
  const source = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      bytes += first.bytes
      yield* first.chunks
      for await (const part of rest) {
        bytes += part.bytes
        yield* part.chunks
      }
    } catch (error) {
      broken = { error }
      throw error
    }
  }
  try {
    const body = Readable.toWeb(Readable.from(source(), { objectMode: false })) as ReadableStream<Uint8Array>
    const problem = await problemOf(await call('POST', path, { headers: uploadHeaders(send), body, signal: put.signal, streams: true }))
    if (problem?.statusCode === 409) throw taken()
    if (problem !== null) throw failure('storing an object', problem)
    return bytes
  } catch (error) {
    // fetch says only that it failed: what failed was the source.
    if (broken !== undefined) throw (broken as { error: unknown }).error
    throw error
  }
}

function uploadHeaders({ put, id }: Send): Record<string, string> {
  const marked: Marked = { caretakerPut: id }
  return {
    'content-type': put.contentType ?? 'application/octet-stream',
    'x-upsert': put.ifAbsent === true ? 'false' : 'true',
    'x-metadata': Buffer.from(JSON.stringify(marked)).toString('base64'),
    'cache-control': 'no-cache',
  }
}

async function* download(
  answer: Response,
  range: Range | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  // Without 206 the whole object comes: cut the range out of it.
  const cut = range !== undefined && answer.status !== 206
  const skip = cut ? range.start : 0
  const take = cut ? range.end - range.start : Number.POSITIVE_INFINITY
  const declared = answer.headers.get('content-length')
  let received = 0
  const body = readBody(answer.body, signal)
  try {
    for (;;) {
      const chunk = await body.next().catch((error: unknown) => {
        if (error instanceof CaretakerError) throw error
        throw new CaretakerError('object_store_failed', `The download broke after ${received} bytes (${networkCode(error)}).`)
      })
      if (chunk === null) break
      const before = received
      received += chunk.length
      const piece = chunk.subarray(Math.max(0, skip - before), Math.max(0, Math.min(chunk.length, skip + take - before)))
      if (piece.length > 0) yield piece
      if (received >= skip + take) return
    }
    if (declared !== null && received !== Number(declared))
      throw new CaretakerError('object_store_failed', `The download broke after ${received} of ${declared} bytes.`)
  } finally {
    await body.close()
  }
}
