import { aborted, isAborted } from './source.ts'

export interface Attempt {
  readonly signal: AbortSignal
  readonly timedOut: boolean
  abort(): void
  /** Forgets the caller's signal and the timer; call it when the attempt is over. */
  release(): void
}

/**
 * Ends one request by the caller's signal or after `timeoutMs`. Not `AbortSignal.any`: that one lives, with the body of
 * the request, as long as the caller's signal does, and a long upload then keeps everything it has sent in memory (1.3 GB
 * of RSS for 1 GiB, measured).
 */
export function startAttempt(signal: AbortSignal | undefined, timeoutMs: number | undefined): Attempt {
  const controller = new AbortController()
  let timedOut = false
  const stop = () => controller.abort(signal?.reason)
  if (isAborted(signal)) stop()
  signal?.addEventListener('abort', stop, { once: true })
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true
          controller.abort()
        }, timeoutMs)
  return {
    signal: controller.signal,
    get timedOut() {
      return timedOut
    },
    abort: stop,
    release() {
      clearTimeout(timer)
      signal?.removeEventListener('abort', stop)
    },
  }
}

export interface FailureWatch {
  /** The first failure rejects whoever waits, and everyone who waits later. */
  fail(error: unknown): void
  /** `work`, or the failure that comes first. One at a time. */
  wait<T>(work: Promise<T>): Promise<T>
}

/** Like racing against one promise of failure, but that one would hold on to every result until it is settled itself. */
export function watchFailure(): FailureWatch {
  let failed: { error: unknown } | undefined
  let reject: (error: unknown) => void = () => undefined
  return {
    fail(error) {
      failed ??= { error }
      reject(error)
    },
    wait(work) {
      return new Promise((resolve, rejectThis) => {
        reject = rejectThis
        work.then(resolve, rejectThis)
        if (failed !== undefined) rejectThis(failed.error)
      })
    },
  }
}

export interface BodyReader {
  /** The next bytes, null at the end. Throws what broke the connection, or `object_store_failed` after an abort. */
  next(): Promise<Uint8Array | null>
  /** Lets go of the connection, also of a body that was not read to its end. */
  close(): Promise<void>
}

/** Reads the body of an answer until `signal` aborts. */
export function readBody(body: ReadableStream<Uint8Array> | null, signal: AbortSignal | undefined): BodyReader {
  const reader = body?.getReader()
  const stop = () => void reader?.cancel().catch(() => undefined)
  signal?.addEventListener('abort', stop, { once: true })
  return {
    async next() {
      try {
        const read = await reader?.read()
        if (isAborted(signal)) throw aborted(signal)
        return read?.value ?? null
      } catch (error) {
        throw isAborted(signal) ? aborted(signal) : error
      }
    },
    async close() {
      signal?.removeEventListener('abort', stop)
      await reader?.cancel().catch(() => undefined)
    },
  }
}

/** fetch says only "fetch failed"; the code is in the cause. */
export function networkCode(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined
  const code = (cause as NodeJS.ErrnoException | undefined)?.code
  return code ?? (cause instanceof Error ? cause.name : 'connection lost')
}
