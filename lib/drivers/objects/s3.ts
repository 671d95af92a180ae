import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { systemClock } from '../../platform/clock.ts'
import { type Env, requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectInfo, ObjectStore, PutOptions } from '../../platform/objects.ts'
import { checkKey, checkPrefix, checkRange, isKey } from './key.ts'
import { type Chunks, inParts, mostParts, type Part, partBytesFor, partsInFlight } from './parts.ts'
import { callS3, element, elements, failure, type S3Answer, type S3Settings } from './s3-api.ts'
import { sweepUploads } from './s3-sweep.ts'
import { presignedUrl, uriEncode } from './sigv4.ts'
import { withSource } from './source.ts'
import { networkCode, readBody, startAttempt, watchFailure } from './transfer.ts'

/** Tells our own object from that of another writer, after an answer was lost. Kept by the store with the object. */
const putHeader = 'x-amz-meta-caretaker-put'

/**
 * A bucket of any S3-compatible store: `s3://BUCKET[/PREFIX]`, at `S3_ENDPOINT` (AWS where it is not set).
 * Bodies are signed, so the store refuses bytes that were damaged on the way. What is larger than one part goes up in
 * equal parts, is completed only when all have arrived, and aborted otherwise.
 */
export function openS3Store(
  url: string,
  env: Env,
  options: Partial<Pick<S3Settings, 'fetch' | 'timeoutMs' | 'retryDelayMs'>> = {},
): ObjectStore {
  const { bucket, prefix } = parse(url)
  const settings: S3Settings = {
    bucketUrl: bucketUrl(bucket, env),
    credentials: {
      accessKeyId: requireEnv(env, 'S3_ACCESS_KEY_ID', 'An s3:// store'),
      secretAccessKey: requireEnv(env, 'S3_SECRET_ACCESS_KEY', 'An s3:// store'),
      region: env.S3_REGION ?? 'us-east-1',
    },
    fetch: options.fetch ?? globalThis.fetch,
    timeoutMs: options.timeoutMs ?? 120_000,
    retryDelayMs: options.retryDelayMs ?? 200,
  }
  const nameOf = (key: string) => `${prefix}${key}`
  let swept: Promise<number> | undefined

  async function head(key: string): Promise<Stored | null> {
    const answer = await callS3(settings, { method: 'HEAD', name: nameOf(key) })
    if (answer.status === 404) return null
    if (answer.status !== 200) throw failure('HeadObject', answer)
    return {
      info: { key, bytes: Number(answer.headers.get('content-length')), modifiedAt: new Date(answer.headers.get('last-modified') ?? 0) },
      etag: answer.headers.get('etag') ?? '',
      put: answer.headers.get(putHeader),
    }
  }

  return {
    url,

    put(key, body, put = {}) {
      return withSource(body, put.signal, async (chunks) => {
        checkKey(key)
        // Refused before the bytes are sent, where it is known already; If-None-Match settles the race.
        if (put.ifAbsent === true && (await head(key)) !== null) throw taken()
        const id = randomUUID()
        const partBytes = partBytesFor(put.expectedBytes)
        const parts = inParts(chunks, partBytes)
        const first = (await parts.next()).value as Part
        // Once for each store opened, and only below a prefix: without one, the uploads may be another program's.
        if (!first.last && prefix !== '') swept ??= sweepUploads(settings, prefix)
        await swept
        const upload = { settings, name: nameOf(key), id, put, head: () => head(key) }
        const bytes = first.last ? await putWhole(upload, first) : await putParts(upload, first, parts, partsInFlight(partBytes))
        const stored = await head(key)
        if (stored === null) throw new CaretakerError('object_store_failed', 'The object store took the object and then did not have it.')
        // Another writer may have replaced it since; then its size says nothing about ours.
        const replaced = stored.put !== null && stored.put !== id
        if (!replaced && stored.info.bytes !== bytes) {
          await callS3(settings, { method: 'DELETE', name: nameOf(key) }).catch(() => undefined)
          throw new CaretakerError(
            'object_store_failed',
            `The object store kept ${stored.info.bytes} of ${bytes} bytes; what it kept was deleted.`,
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
        if (range.start === range.end) return (await head(key)) === null ? null : empty()
      }
      const name = nameOf(key)
      const answer = await callS3(settings, {
        method: 'GET',
        name,
        headers: range === undefined ? {} : rangeHeader(range.start, range.end),
        signal,
      })
      if (answer.status === 404 && answer.code !== 'NoSuchBucket') return null
      if (answer.status === 416 && range !== undefined) return empty()
      if (answer.status !== (range === undefined ? 200 : 206)) throw failure('GetObject', answer)
      const start = range?.start ?? 0
      return Readable.from(download(settings, { name, signal, start, end: start + Number(answer.headers.get('content-length')) }, answer), {
        objectMode: false,
      })
    },

    async head(key) {
      checkKey(key)
      return (await head(key))?.info ?? null
    },

    async downloadUrl(key, { seconds, fileName }) {
      checkKey(key)
      const url = new URL(`${settings.bucketUrl}/${nameOf(key).split('/').map(uriEncode).join('/')}`)
      url.searchParams.set('response-content-disposition', attachment(fileName))
      return presignedUrl(url, settings.credentials, systemClock.now(), seconds)
    },

    async *list(under) {
      checkPrefix(under)
      let token: string | undefined
      do {
        const query = { 'list-type': '2', prefix: nameOf(under), ...(token === undefined ? {} : { 'continuation-token': token }) }
        const answer = await callS3(settings, { method: 'GET', query })
        if (answer.status !== 200) throw failure('ListObjectsV2', answer)
        for (const entry of elements(answer.text, 'Contents')) {
          const key = element(entry, 'Key')?.slice(prefix.length) ?? ''
          if (!isKey(key)) continue
          yield { key, bytes: Number(element(entry, 'Size')), modifiedAt: new Date(element(entry, 'LastModified') ?? 0) }
        }
        token = element(answer.text, 'IsTruncated') === 'true' ? element(answer.text, 'NextContinuationToken') : undefined
      } while (token !== undefined)
    },

    async delete(key) {
      checkKey(key)
      const answer = await callS3(settings, { method: 'DELETE', name: nameOf(key) })
      const gone = answer.status === 200 || answer.status === 204 || (answer.status === 404 && answer.code !== 'NoSuchBucket')
      if (!gone) throw failure('DeleteObject', answer)
    },
  }
}

interface Stored {
  info: ObjectInfo
  etag: string
  put: string | null
}

interface Upload {
  settings: S3Settings
  name: string
  id: string
  put: PutOptions
  head: () => Promise<Stored | null>
}

function parse(url: string): { bucket: string; prefix: string } {
  const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/.exec(url)
  if (match === null)
    throw new CaretakerError(
      'invalid_input',
      `store: found "${url}"; expected s3://BUCKET or s3://BUCKET/PREFIX, the bucket of 3 to 63 characters a-z 0-9 . -`,
    )
  const prefix = (match[2] ?? '').replace(/\/$/, '')
  if (prefix !== '') checkKey(prefix)
  return { bucket: match[1] as string, prefix: prefix === '' ? '' : `${prefix}/` }
}

function bucketUrl(bucket: string, env: Env): string {
  if (env.S3_ENDPOINT !== undefined) return `${env.S3_ENDPOINT.replace(/\/+$/, '')}/${bucket}`
  const region = requireEnv(env, 'S3_REGION', 'An s3:// store on AWS')
  // A bucket with dots is not covered by the certificate of *.s3.REGION.amazonaws.com.
  return bucket.includes('.') ? `https://s3.${region}.amazonaws.com/${bucket}` : `https://${bucket}.s3.${region}.amazonaws.com`
}

async function putWhole(upload: Upload, { chunks, bytes }: Part): Promise<number> {
  const { settings, name, put } = upload
  const headers = { ...objectHeaders(upload), ...conditional(put) }
  for (let attempt = 1; ; attempt++) {
    const answer = await callS3(settings, { method: 'PUT', name, headers, body: chunks, signal: put.signal })
    if (answer.status === 200) return bytes
    // 409: another conditional write of this key was under way, and may yet fail.
    if (answer.status === 409 && answer.code === 'ConditionalRequestConflict' && attempt < 4) continue
    if (answer.status === 412 && (await isOurs(upload, answer))) return bytes
    throw refusal('PutObject', answer)
  }
}

async function putParts(upload: Upload, first: Part, rest: AsyncGenerator<Part, void, undefined>, inFlight: number): Promise<number> {
  const { settings, name, put } = upload
  const started = await callS3(settings, {
    method: 'POST',
    name,
    query: { uploads: '' },
    headers: objectHeaders(upload),
    signal: put.signal,
  })
  const uploadId = element(started.text, 'UploadId')
  if (started.status !== 200 || uploadId === undefined) throw failure('CreateMultipartUpload', started)
  // Ends the parts that are still on their way when one has failed, or the source has.
  const parts = startAttempt(put.signal, undefined)
  const sending = new Set<Promise<void>>()
  try {
    const etags: string[] = []
    let bytes = 0
    const watch = watchFailure()
    const sendPart = async (number: number, body: Chunks) => {
      const answer = await callS3(settings, {
        method: 'PUT',
        name,
        query: { partNumber: String(number), uploadId },
        body,
        signal: parts.signal,
      })
      const etag = answer.headers.get('etag')
      if (answer.status !== 200 || etag === null) throw failure('UploadPart', answer)
      etags[number - 1] = etag
    }
    for (let part: Part | undefined = first, number = 1; part !== undefined; number++) {
      if (number > mostParts)
        throw new CaretakerError(
          'object_store_failed',
          `The object has more than ${mostParts} parts. Say how big it will be (expectedBytes), or store smaller ones.`,
        )
      bytes += part.bytes
      const sent = sendPart(number, part.chunks)
        .catch(watch.fail)
        .finally(() => sending.delete(sent))
      sending.add(sent)
      if (sending.size >= inFlight) await watch.wait(Promise.race(sending))
      // A failed part ends the upload at once, even if the source is silent.
      part = (await watch.wait(rest.next())).value ?? undefined
    }
    while (sending.size > 0) await watch.wait(Promise.race(sending))
    await complete(upload, uploadId, etags)
    return bytes
  } catch (error) {
    parts.abort()
    await Promise.allSettled(sending)
    // Without the caller's signal: what was started is cleaned up in any case. What cannot be, the bucket's lifecycle rule takes.
    await callS3(settings, { method: 'DELETE', name, query: { uploadId } }).catch(() => undefined)
    throw error
  } finally {
    parts.release()
  }
}

async function complete(upload: Upload, uploadId: string, etags: readonly string[]): Promise<void> {
  const { settings, name, put } = upload
  const list = etags
    .map((etag, index) => `<Part><PartNumber>${index + 1}</PartNumber><ETag>${etag.replaceAll('"', '&quot;')}</ETag></Part>`)
    .join('')
  const body = Buffer.from(`<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${list}</CompleteMultipartUpload>`)
  const answer = await callS3(settings, {
    method: 'POST',
    name,
    query: { uploadId },
    headers: { 'content-type': 'application/xml', ...conditional(put) },
    body: [body],
    signal: put.signal,
  })
  // S3 begins its answer before it knows the outcome: 200 may carry an error.
  if (answer.status === 200 && answer.code === '') return
  // The answer to the first try was lost, and the upload is complete: the second finds it gone, or its own object.
  if ((answer.status === 404 || answer.status === 412) && (await isOurs(upload, answer))) return
  throw refusal('CompleteMultipartUpload', answer)
}

async function isOurs(upload: Upload, answer: S3Answer): Promise<boolean> {
  return answer.attempts > 1 && (await upload.head())?.put === upload.id
}

function objectHeaders(upload: Upload): Record<string, string> {
  return { 'content-type': upload.put.contentType ?? 'application/octet-stream', [putHeader]: upload.id }
}

function conditional(put: PutOptions): Record<string, string> {
  return put.ifAbsent === true ? { 'if-none-match': '*' } : {}
}

function refusal(operation: string, answer: S3Answer): CaretakerError {
  const lost = answer.status === 412 || (answer.status === 409 && answer.code === 'ConditionalRequestConflict')
  return lost ? taken() : failure(operation, answer)
}

function taken(): CaretakerError {
  return new CaretakerError('conflict', 'An object of that name exists already.')
}

function empty(): Readable {
  return Readable.from([], { objectMode: false })
}

function rangeHeader(start: number, end: number): Record<string, string> {
  return { range: `bytes=${start}-${end - 1}` }
}

interface Download {
  name: string
  signal: AbortSignal | undefined
  start: number
  end: number
}

/** The bytes from `start` to `end`. A connection that breaks is taken up where it broke, of the same version of the object. */
async function* download(settings: S3Settings, from: Download, first: S3Answer): AsyncGenerator<Uint8Array, void, undefined> {
  const { name, signal, end } = from
  const etag = first.headers.get('etag')
  let offset = from.start
  let answer = first
  for (let attempt = 1; ; attempt++) {
    let problem = 'connection closed early'
    const body = readBody(answer.body, signal)
    try {
      for (;;) {
        const chunk = await body.next().catch((error: unknown) => {
          if (error instanceof CaretakerError) throw error
          problem = networkCode(error)
          return null
        })
        if (chunk === null) break
        offset += chunk.length
        yield chunk
      }
    } finally {
      await body.close()
    }
    if (offset === end) return
    if (attempt === 4 || etag === null || offset > end)
      throw new CaretakerError(
        'object_store_failed',
        `The download broke ${end - offset} bytes before its end (${problem}), after ${attempt} tries.`,
      )
    answer = await callS3(settings, { method: 'GET', name, headers: { ...rangeHeader(offset, end), 'if-match': etag }, signal })
    if (answer.status === 412 || answer.status === 404)
      throw new CaretakerError('object_store_failed', 'The object was replaced or deleted while it was read.')
    if (answer.status !== 206) throw failure('GetObject', answer)
  }
}

/** Saved, not shown, whatever is in it. */
function attachment(fileName: string): string {
  return `attachment; filename="${fileName.replace(/[^\w .-]/g, '_')}"`
}
