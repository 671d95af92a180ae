import { type Env, requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { aborted, isAborted } from './source.ts'
import { networkCode, startAttempt } from './transfer.ts'

export interface SupabaseStoreOptions {
  fetch?: typeof globalThis.fetch
  /** How long a request without a body of its own may take, milliseconds. */
  timeoutMs?: number
}

interface CallOptions {
  headers?: Record<string, string>
  json?: unknown
  body?: Uint8Array | ReadableStream<Uint8Array>
  signal?: AbortSignal | undefined
  /** The answer or the request is a stream that may take its time: only the caller's signal ends it. */
  streams?: boolean
}

/** Sends one request to Storage with the service key, and gives whatever answer came. */
export type Caller = (method: string, path: string, options?: CallOptions) => Promise<Response>

/** @throws {CaretakerError} `not_configured` */
export function storageUrl(env: Env): string {
  return `${requireEnv(env, 'SUPABASE_URL', 'A supabase:// store').replace(/\/+$/, '')}/storage/v1`
}

/** @throws {CaretakerError} `not_configured`; the caller itself throws `object_store_failed` when no answer came. */
export function supabaseCaller(env: Env, options: SupabaseStoreOptions): Caller {
  const base = storageUrl(env)
  const key = requireEnv(env, 'SUPABASE_SERVICE_ROLE_KEY', 'A supabase:// store')
  const fetch = options.fetch ?? globalThis.fetch
  const timeoutMs = options.timeoutMs ?? 60_000
  return async (method, path, { headers, json, body, signal, streams } = {}) => {
    const attempt = startAttempt(signal, streams === true ? undefined : timeoutMs)
    try {
      return await fetch(`${base}${path}`, {
        method,
        headers: {
          apikey: key,
          authorization: `Bearer ${key}`,
          'accept-encoding': 'identity',
          ...(json === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        redirect: 'manual',
        signal: attempt.signal,
        ...(json === undefined ? {} : { body: JSON.stringify(json) }),
        ...(body === undefined ? {} : { body: body as NonNullable<RequestInit['body']>, duplex: 'half' as const }),
      })
    } catch (error) {
      if (isAborted(signal)) throw aborted(signal)
      const why = attempt.timedOut ? `did not answer within ${timeoutMs} ms` : `cannot be reached (${networkCode(error)})`
      throw new CaretakerError('object_store_failed', `Supabase Storage ${why}.`)
    } finally {
      attempt.release()
    }
  }
}

/** What Storage refused a request with. */
export interface Problem {
  statusCode: number
  code: string
}

/** Storage answers 400 to nearly everything; the status it means is in the body. `null` for success. */
export async function problemOf(answer: Response): Promise<Problem | null> {
  if (answer.ok) return null
  const text = await answer.text().catch(() => '')
  let body: { statusCode?: unknown; code?: unknown; error?: unknown } = {}
  try {
    body = (JSON.parse(text) ?? {}) as typeof body
  } catch {
    // Not Storage's own answer: a gateway's. Its status must do.
  }
  const statusCode = Number(body.statusCode)
  const code = [body.code, body.error].find((one) => typeof one === 'string' && /^[\w ]{1,64}$/.test(one))
  return { statusCode: Number.isInteger(statusCode) ? statusCode : answer.status, code: typeof code === 'string' ? code : '' }
}

export function isAbsent(problem: Problem): boolean {
  return problem.statusCode === 404 && !['NoSuchBucket', 'Bucket not found'].includes(problem.code)
}

const advice: Record<number, string> = {
  401: ' Check SUPABASE_SERVICE_ROLE_KEY.',
  403: ' Check SUPABASE_SERVICE_ROLE_KEY: only the service key may write to every bucket.',
  404: " Check the bucket's name in the store's URL.",
  413: " The bucket's or the project's size limit is smaller than this object.",
  415: ' The bucket does not allow this content type.',
}

export function failure(doing: string, problem: Problem): CaretakerError {
  return new CaretakerError(
    'object_store_failed',
    `Supabase Storage answered ${problem.statusCode}${problem.code === '' ? '' : ` ${problem.code}`} to ${doing}.${advice[problem.statusCode] ?? ''}`,
  )
}
