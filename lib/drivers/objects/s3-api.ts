import { setTimeout as delay } from 'node:timers/promises'
import { systemClock } from '../../platform/clock.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { Chunks } from './parts.ts'
import { type S3Credentials, signedHeaders, uriEncode } from './sigv4.ts'
import { aborted, isAborted } from './source.ts'
import { networkCode, startAttempt } from './transfer.ts'

export interface S3Settings {
  /** The address of the bucket, without a slash at the end: `https://HOST/BUCKET` or `https://BUCKET.HOST`. */
  bucketUrl: string
  credentials: S3Credentials
  fetch: typeof globalThis.fetch
  /** How long one attempt may take, milliseconds; of a download only until its first byte. */
  timeoutMs: number
  /** The first pause before a retry, milliseconds; it doubles each time. */
  retryDelayMs: number
}

export interface S3Call {
  method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  /** The whole name in the bucket; absent for calls on the bucket itself. */
  name?: string
  query?: Record<string, string>
  headers?: Record<string, string>
  body?: Chunks
  signal?: AbortSignal | undefined
}

export interface S3Answer {
  status: number
  headers: Headers
  /** What S3 calls the error, `''` where it named none. */
  code: string
  /** Of a successful GET. */
  body: ReadableStream<Uint8Array> | null
  /** Of everything else. */
  text: string
  /** How often the request was sent; from 2 on an earlier one may have had its effect without our hearing of it. */
  attempts: number
}

const attempts = 4
const transient = new Set([408, 429, 500, 502, 503, 504])

/**
 * Sends one signed request; network failures and answers that ask for patience are tried again, four times in all.
 * Every answer that came is returned: which ones are failures is the caller's to say (see `failure`).
 * @throws {CaretakerError} `object_store_failed` when no answer came.
 */
export async function callS3(settings: S3Settings, call: S3Call): Promise<S3Answer> {
  for (let attempt = 1; ; attempt++) {
    const answer = await send(settings, call, attempt)
    const again = answer instanceof CaretakerError || transient.has(answer.status) || answer.code === 'RequestTimeout'
    if (!again) return answer
    if (attempt === attempts) {
      if (answer instanceof CaretakerError) throw answer
      return answer
    }
    const asked = answer instanceof CaretakerError ? 0 : Number(answer.headers.get('retry-after') ?? 0) * 1_000
    // Half of the pause is jitter, so that parts refused together do not come back together.
    const pause = settings.retryDelayMs * 2 ** (attempt - 1) * (0.5 + Math.random() / 2)
    await delay(
      Math.max(pause, Math.min(Number.isFinite(asked) ? asked : 0, 10_000)),
      undefined,
      call.signal === undefined ? {} : { signal: call.signal },
    ).catch(() => {
      throw aborted(call.signal)
    })
  }
}

async function send(settings: S3Settings, call: S3Call, attempt: number): Promise<S3Answer | CaretakerError> {
  if (isAborted(call.signal)) throw aborted(call.signal)
  const path = call.name === undefined ? '/' : `/${call.name.split('/').map(uriEncode).join('/')}`
  const query = Object.entries(call.query ?? {}).map(([name, value]) => `${uriEncode(name)}=${uriEncode(value)}`)
  const url = new URL(`${settings.bucketUrl}${path}${query.length === 0 ? '' : `?${query.join('&')}`}`)
  const headers = signedHeaders(
    { method: call.method, url, headers: call.headers ?? {}, body: call.body },
    settings.credentials,
    systemClock.now(),
  )
  // Not signed: proxies on the way rewrite it. Without it fetch would ask for compressed bytes and unpack them.
  headers['accept-encoding'] = 'identity'
  if (call.body !== undefined) headers['content-length'] = String(call.body.reduce((sum, chunk) => sum + chunk.length, 0))
  const attempted = startAttempt(call.signal, settings.timeoutMs)
  try {
    const response = await settings.fetch(url, {
      method: call.method,
      headers,
      signal: attempted.signal,
      redirect: 'manual',
      ...bodyOf(call.body),
    })
    if (call.method === 'GET' && call.name !== undefined && response.ok)
      return { status: response.status, headers: response.headers, code: '', body: response.body, text: '', attempts: attempt }
    const text = await response.text()
    return { status: response.status, headers: response.headers, code: element(text, 'Code') ?? '', body: null, text, attempts: attempt }
  } catch (error) {
    if (isAborted(call.signal)) throw aborted(call.signal)
    const why = attempted.timedOut
      ? `did not answer ${call.method} within ${settings.timeoutMs} ms`
      : `cannot be reached (${networkCode(error)})`
    return new CaretakerError('object_store_failed', `The object store ${why}; tried ${attempt} time${attempt === 1 ? '' : 's'}.`)
  } finally {
    attempted.release()
  }
}

/** As a stream, because fetch makes a copy of a whole array; S3 is told the length all the same. */
function bodyOf(chunks: Chunks | undefined): Pick<RequestInit, 'body' | 'duplex'> {
  if (chunks === undefined) return {}
  const [only] = chunks
  if (only === undefined || (chunks.length === 1 && only.length < 65_536))
    return { body: (only ?? new Uint8Array()) as Uint8Array<ArrayBuffer> }
  let next = 0
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const chunk = chunks[next++]
      if (chunk === undefined) controller.close()
      else if (chunk.length > 0) controller.enqueue(chunk)
    },
  })
  return { body: body as NonNullable<RequestInit['body']>, duplex: 'half' }
}

const advice: Record<string, string> = {
  AccessDenied: ' The key must be allowed to list, read, write and delete in this bucket.',
  NoSuchBucket: " Check the bucket's name in the store's URL, and S3_ENDPOINT.",
  InvalidAccessKeyId: ' Check S3_ACCESS_KEY_ID and S3_ENDPOINT.',
  SignatureDoesNotMatch: ' Check S3_SECRET_ACCESS_KEY.',
  AuthorizationHeaderMalformed: ' Check S3_REGION.',
  PermanentRedirect: ' Check S3_REGION and S3_ENDPOINT.',
  RequestTimeTooSkewed: ' The clock of this machine is wrong.',
  NotImplemented: ' This store lacks what was asked for; for conditional create it must honour If-None-Match.',
  InvalidPart: ' A part did not arrive as it was sent, or the store limits the number of parts.',
  TooManyParts: ' Store smaller objects, or say how big they will be (expectedBytes).',
}

/** What an answer that should not have been means. Holds the status and S3's own code, never the key. */
export function failure(operation: string, answer: Pick<S3Answer, 'status' | 'code'>): CaretakerError {
  const code = answer.code === '' ? '' : ` ${/^\w{1,64}$/.test(answer.code) ? answer.code : 'with an unknown code'}`
  // An answer to HEAD has no body, and so no code.
  const hint = advice[answer.status === 403 && answer.code === '' ? 'AccessDenied' : answer.code] ?? ''
  return new CaretakerError('object_store_failed', `The object store answered ${operation} with ${answer.status}${code}.${hint}`)
}

/** The text of the first `<name>` in S3's XML, or undefined. */
export function element(xml: string, name: string): string | undefined {
  const match = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)
  return match === null ? undefined : unescapeXml(match[1] as string)
}

/** What stands between each `<name>` and `</name>`. */
export function elements(xml: string, name: string): string[] {
  return xml
    .split(`<${name}>`)
    .slice(1)
    .map((rest) => rest.slice(0, Math.max(0, rest.indexOf(`</${name}>`))))
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

function unescapeXml(text: string): string {
  return text.replace(/&(?:#(\d+)|#x([0-9a-fA-F]+)|(\w+));/g, (whole, decimal?: string, hex?: string, name?: string) => {
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal))
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16))
    return entities[name ?? ''] ?? whole
  })
}
