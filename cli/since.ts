import { durationMs, isDuration } from '../lib/config/index.ts'
import { CaretakerError } from '../lib/platform/errors.ts'

const short: Record<string, string> = { m: 'minutes', h: 'hours', d: 'days', w: 'weeks' }

/** "24h", "30d" or "3 days" in milliseconds; undefined for what is no duration. */
export function lengthMs(text: string): number | undefined {
  const [, count, unit] = /^([1-9]\d{0,5})\s*([mhdw])$/.exec(text.trim()) ?? []
  const duration = unit === undefined ? text.trim() : `${count} ${short[unit]}`
  return isDuration(duration) ? durationMs(duration) : undefined
}

/**
 * What `--since` says: "24h", "30d", "3 days", or a time with its zone.
 * @throws {CaretakerError} `invalid_input` for anything else, and for what is still to come
 */
export function sinceTime(given: unknown, now: Date, otherwise: string): Date {
  const text = given === undefined ? otherwise : String(given).trim()
  const length = lengthMs(text)
  if (length !== undefined) return new Date(now.getTime() - length)
  const at = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text) ? new Date(text) : new Date(Number.NaN)
  if (Number.isNaN(at.getTime()) || at > now)
    throw new CaretakerError(
      'invalid_input',
      `--since: found "${text.slice(0, 40)}", expected a duration such as 24h, 30d or "3 days", or a time that is past, such as 2026-11-01T12:00:00Z.`,
    )
  return at
}
