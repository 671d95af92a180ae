/** The longest an app may ask to be left alone within one slot, milliseconds. */
export const longestPauseMs = 15 * 60_000
const firstPauseMs = 1_000
const longestBackoffMs = 60_000

/**
 * How long to wait before the next attempt: twice as long each time, up to a minute, with jitter, so that what failed
 * together does not come again together.
 * @param attempts how many there have been, 1 or more
 * @param random from 0 to 1
 */
export function backoffMs(attempts: number, random: number): number {
  const full = Math.min(firstPauseMs * 2 ** Math.min(attempts - 1, 20), longestBackoffMs)
  return Math.round(full * (0.5 + random / 2))
}

/** What Retry-After asks for, in seconds or as a date (RFC 9110, 10.2.3), in milliseconds; undefined when it says nothing usable. */
export function retryAfterMs(header: string | null, now: Date): number | undefined {
  if (header === null) return undefined
  const text = header.trim()
  if (/^\d{1,10}$/.test(text)) return Number(text) * 1_000
  // Date.parse takes nearly anything; a date of HTTP says GMT.
  const at = /GMT$/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(at) ? undefined : Math.max(0, at - now.getTime())
}
