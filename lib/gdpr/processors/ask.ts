import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'

const answerLimitMs = 20_000
/** Nobody's record is as large; whatever answers so much is something else. */
const answerLimitBytes = 16 * 1024 * 1024

export interface Question {
  method?: 'GET' | 'POST' | 'DELETE'
  headers: Record<string, string>
  body?: string
  /** Statuses beside 2xx that are an answer: 404 for what is not there. */
  accept?: readonly number[]
}

/**
 * One call of a processor's interface. The address may hold an e-mail address or an id, because the provider wants it
 * there: it is in no error and no log.
 * @throws {CaretakerError} `upstream_failed` naming the processor, with what to do where it is known
 */
export async function ask(
  ctx: Pick<Context, 'fetch' | 'signal'>,
  processor: string,
  url: string,
  question: Question,
): Promise<{ status: number; body: unknown }> {
  let response: Response
  try {
    response = await ctx.fetch(url, {
      method: question.method ?? 'GET',
      headers: { accept: 'application/json', ...question.headers },
      ...(question.body === undefined ? {} : { body: question.body }),
      redirect: 'error',
      signal: AbortSignal.any([ctx.signal, AbortSignal.timeout(answerLimitMs)]),
    })
  } catch {
    // The cause may quote the address.
    throw new CaretakerError('upstream_failed', `${processor} was not reached; the request goes on from here when it is tried again.`, {
      retryAfterSeconds: 300,
    })
  }
  if (!response.ok && question.accept?.includes(response.status) !== true) {
    await response.body?.cancel().catch(() => undefined)
    const hint =
      response.status === 401 || response.status === 403
        ? ': its key is not valid, or may not do this'
        : response.status === 429
          ? ': too many calls'
          : ''
    throw new CaretakerError('upstream_failed', `${processor} answered ${response.status}${hint}.`, {
      retryAfterSeconds: Number(response.headers.get('retry-after')) || 300,
    })
  }
  const text = await readText(response, processor)
  if (text === '') return { status: response.status, body: null }
  try {
    return { status: response.status, body: JSON.parse(text) }
  } catch {
    if (!response.ok) return { status: response.status, body: null }
    throw new CaretakerError('upstream_failed', `${processor} answered with something that is not JSON.`)
  }
}

async function readText(response: Response, processor: string): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > answerLimitBytes)
      throw new CaretakerError('upstream_failed', `${processor} answered with more than ${answerLimitBytes} bytes.`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/**
 * Fails where an answer holds what was not asked for: an interface that overlooks a filter lists everybody, and everything
 * listed is exported, or deleted.
 */
export function requireAsked(processor: string, matches: boolean): void {
  if (!matches)
    throw new CaretakerError(
      'upstream_failed',
      `${processor} answered with records of others than it was asked for; nothing more was done there.`,
    )
}

/** The list under `key` of an answer, or none. */
export function listIn(body: unknown, key: string): Record<string, unknown>[] {
  const list = typeof body === 'object' && body !== null ? (body as Record<string, unknown>)[key] : undefined
  return Array.isArray(list) ? list.filter((one): one is Record<string, unknown> => typeof one === 'object' && one !== null) : []
}

export function textIn(body: unknown, key: string): string | undefined {
  const value = typeof body === 'object' && body !== null ? (body as Record<string, unknown>)[key] : undefined
  return typeof value === 'string' && value !== '' ? value : undefined
}
