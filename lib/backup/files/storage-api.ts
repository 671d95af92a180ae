import { Readable } from 'node:stream'
import type { ReadableStream as WebStream } from 'node:stream/web'
import type { SupabaseClient } from '@supabase/supabase-js'
import type { Context } from '../../platform/context.ts'
import { CaretakerError, hasCode } from '../../platform/errors.ts'

/** The Supabase client, or undefined where it is not configured. */
export async function supabaseIfConfigured(ctx: Pick<Context, 'supabase'>): Promise<SupabaseClient | undefined> {
  try {
    return await ctx.supabase()
  } catch (error) {
    if (hasCode(error, 'not_configured')) return undefined
    throw error
  }
}

/** supabase-js puts names into the URL as they are: a "?" in one would end it. */
export function urlPath(name: string): string {
  return name.split('/').map(encodeURIComponent).join('/')
}

/** What Storage said no with. */
export interface StorageRefusal {
  /** As in the answer's body: Storage answers 400 to nearly everything. 0 where no answer came. */
  status: number
  /** Its code, such as `NoSuchKey`; the network's where no answer came. Never a name. */
  code: string
}

export function refusalOf(error: unknown): StorageRefusal {
  const found = error as { status?: unknown; statusCode?: unknown; code?: unknown; originalError?: unknown }
  const meant = Number(found.statusCode)
  const status = Number.isInteger(meant) && meant >= 100 ? meant : typeof found.status === 'number' ? found.status : 0
  const code = typeof found.code === 'string' ? found.code : networkCode(found.originalError ?? error)
  return { status, code: /^[\w ]{1,64}$/.test(code) ? code : '' }
}

function networkCode(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException
    if (typeof code === 'string') return code
  }
  return ''
}

export function isAbsent({ status, code }: StorageRefusal): boolean {
  return status === 404 || code === 'NoSuchKey' || code === 'NoSuchBucket'
}

export function saidNo({ status, code }: StorageRefusal): string {
  const what = [status === 0 ? 'no answer' : `HTTP ${status}`, code].filter((part) => part !== '').join(' ')
  if (status === 401 || status === 403) return `${what}; check SUPABASE_SERVICE_ROLE_KEY`
  if (status === 413) return `${what}; the size limit of the bucket or the project is smaller`
  if (status === 415) return `${what}; the bucket does not allow the type`
  return what
}

/** Ends a download of which nothing comes any more. */
export class StallGuard {
  readonly signal: AbortSignal
  readonly #stop = new AbortController()
  readonly #stallMs: number
  #timer: NodeJS.Timeout | undefined

  constructor(signal: AbortSignal, stallMs: number) {
    this.signal = AbortSignal.any([signal, this.#stop.signal])
    this.#stallMs = stallMs
    this.progress()
  }

  progress(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#stop.abort(new Error(`nothing came for ${this.#stallMs} ms`)), this.#stallMs)
  }

  release(): void {
    clearTimeout(this.#timer)
  }
}

/**
 * A file's bytes as Storage serves them, or the refusal.
 * @param nonce keeps a cache between here and there from serving another version
 */
export async function download(
  supabase: SupabaseClient,
  file: { bucket: string; name: string },
  nonce: string,
  signal: AbortSignal,
): Promise<{ body: Readable } | { refused: StorageRefusal }> {
  const { data, error } = await supabase.storage
    .from(file.bucket)
    .download(urlPath(file.name), { cacheNonce: nonce }, { signal, cache: 'no-store' })
    .asStream()
  if (error !== null) return { refused: refusalOf(error) }
  // A file without bytes may come without a body.
  return { body: (data as unknown) === null ? Readable.from([]) : Readable.fromWeb(data as unknown as WebStream<Uint8Array>) }
}

/** What Storage's row says of a file now; null where there is none. */
export async function fileInfo(
  supabase: SupabaseClient,
  file: { bucket: string; name: string },
): Promise<{ size: number | null; etag: string | null; version: string | null } | null> {
  const { data, error } = await supabase.storage.from(file.bucket).info(urlPath(file.name))
  if (error !== null) {
    const refused = refusalOf(error)
    if (isAbsent(refused)) return null
    throw new CaretakerError('upstream_failed', `Supabase Storage did not describe a file of bucket "${file.bucket}": ${saidNo(refused)}.`)
  }
  const { size, etag, version } = data as { size?: unknown; etag?: unknown; version?: unknown }
  return {
    size: typeof size === 'number' ? size : null,
    etag: typeof etag === 'string' ? etag.replace(/^"|"$/g, '') || null : null,
    version: typeof version === 'string' ? version : null,
  }
}
