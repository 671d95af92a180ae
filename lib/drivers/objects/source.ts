import { Readable } from 'node:stream'
import { CaretakerError } from '../../platform/errors.ts'

/**
 * Gives `work` the bytes of what is to be stored. The source is destroyed when `work` ends, whatever the reason, and an
 * error of the source is thrown as it is: its owner knows what it means.
 * @throws {CaretakerError} `object_store_failed` when `signal` aborts, also while the source is silent, and when the
 * source is closed before its end.
 */
export async function withSource<T>(
  body: Readable | Uint8Array,
  signal: AbortSignal | undefined,
  work: (chunks: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<T> {
  if (!(body instanceof Readable)) {
    if (isAborted(signal)) throw aborted(signal)
    return await work(once(body))
  }
  // A source may fail before anybody reads it: without a listener that would end the process.
  body.on('error', () => undefined)
  const stop = () => body.destroy(aborted(signal))
  if (isAborted(signal)) stop()
  signal?.addEventListener('abort', stop, { once: true })
  try {
    return await work(bytesOf(body, signal))
  } finally {
    signal?.removeEventListener('abort', stop)
    body.destroy()
  }
}

async function* once(body: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  if (body.length > 0) yield body
}

async function* bytesOf(body: Readable, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for await (const chunk of body) {
      if (isAborted(signal)) throw aborted(signal)
      if (typeof chunk === 'string') yield Buffer.from(chunk)
      else if (chunk instanceof Uint8Array) yield chunk
      else throw new CaretakerError('invalid_input', `body: found a stream of ${typeof chunk} values; expected bytes.`)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
    throw new CaretakerError('object_store_failed', 'The stream to store was closed before its end.', { cause: error })
  }
  if (isAborted(signal)) throw aborted(signal)
}

/** As a function, because TypeScript takes a property once read as settled. */
export function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true
}

export function aborted(signal: AbortSignal | undefined): CaretakerError {
  return new CaretakerError('object_store_failed', 'The transfer was aborted before it was complete.', { cause: signal?.reason })
}
