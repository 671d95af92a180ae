import type { Counts } from '../platform/task.ts'

/** More than this of an answer is not read. */
const mostBytes = 16_384

/**
 * The counts of an answer such as `{ "rows": 12 }`, for the job's history. Only numbers at its top: texts may be about
 * somebody. An answer that is longer, or something else, has none.
 */
export async function readCounts(response: Response): Promise<Counts> {
  const json = /^application\/(?:[\w.+-]+\+)?json\b/i.test(response.headers.get('content-type') ?? '')
  if (!json || response.body === null) {
    await response.body?.cancel().catch(() => undefined)
    return {}
  }
  const text = await bounded(response.body)
  if (text === null) return {}
  try {
    return countsOf(JSON.parse(text))
  } catch {
    return {}
  }
}

async function bounded(body: ReadableStream<Uint8Array>): Promise<string | null> {
  const pieces: Uint8Array[] = []
  let bytes = 0
  const reader = body.getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return Buffer.concat(pieces).toString('utf8')
    bytes += value.byteLength
    if (bytes > mostBytes) {
      await reader.cancel().catch(() => undefined)
      return null
    }
    pieces.push(value)
  }
}

const mostCounts = 20
/** What the history says itself. */
const taken = new Set(['status', 'attempts', 'task'])

/** Finite numbers under plain names. */
export function countsOf(value: unknown): Counts {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return {}
  return Object.fromEntries(
    Object.entries(value)
      .filter((entry): entry is [string, number] => typeof entry[1] === 'number' && Number.isFinite(entry[1]))
      .filter(([name]) => /^[A-Za-z]\w{0,39}$/.test(name) && !taken.has(name))
      .slice(0, mostCounts),
  )
}
