import { type Html, html } from './html.ts'

const formats = new Map<string, Intl.DateTimeFormat>()

function format(timezone: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${timezone} ${JSON.stringify(options)}`
  let found = formats.get(key)
  if (found === undefined) {
    // Sweden writes dates as ISO 8601 does.
    found = new Intl.DateTimeFormat('sv-SE', { timeZone: timezone, ...options })
    formats.set(key, found)
  }
  return found
}

/** `2026-11-21 04:00 UTC`, or the same instant in the zone with the zone's name and, for who reads closely, UTC in the title. */
export function time(at: Date | null | undefined, timezone: string, absent = 'never'): Html {
  if (at === null || at === undefined || Number.isNaN(at.getTime())) return html`${absent}`
  return html`<time datetime="${at.toISOString()}" title="${utc(at)}">${instantText(at, timezone)}</time>`
}

/** The same as text alone. */
export function instantText(at: Date, timezone: string): string {
  return `${format(timezone, { dateStyle: 'short', timeStyle: 'short' }).format(at)} ${zoneName(at, timezone)}`
}

/** `5 minutes ago` or `in 2 hours`, with the instant in the title and for machines. */
export function relative(at: Date | null | undefined, now: Date, timezone: string, absent = 'never'): Html {
  if (at === null || at === undefined || Number.isNaN(at.getTime())) return html`${absent}`
  const away = at.getTime() - now.getTime()
  const text = Math.abs(away) < 45_000 ? 'now' : away < 0 ? `${spanText(-away)} ago` : `in ${spanText(away)}`
  return html`<time datetime="${at.toISOString()}" title="${instantText(at, timezone)}">${text}</time>`
}

/** The hour and minute, for the axes of plots. */
export function clockText(at: Date, timezone: string): string {
  return format(timezone, { hour: '2-digit', minute: '2-digit' }).format(at)
}

/** The day as `2026-11-21`. */
export function dayText(at: Date, timezone: string): string {
  return format(timezone, { dateStyle: 'short' }).format(at)
}

function utc(at: Date): string {
  return `${at.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}

function zoneName(at: Date, timezone: string): string {
  if (timezone === 'UTC') return 'UTC'
  const part = format(timezone, { timeZoneName: 'short' })
    .formatToParts(at)
    .find((one) => one.type === 'timeZoneName')
  return part?.value ?? timezone
}

const units: readonly [string, number][] = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1_000],
]

/** A length of time in its largest unit that is at least two, or one of: `90 minutes`, `3 days`, `250 ms`. */
export function spanText(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  for (const [name, length] of units) {
    const count = Math.floor(ms / length)
    if (count >= 2 || (count === 1 && (name === 'second' || ms % length < length / 10))) return `${count} ${name}${count === 1 ? '' : 's'}`
  }
  return `${Math.round(ms)} ms`
}

/** How long an answer took, with three digits at most: `285 ms`, `1.41 s`. */
export function latencyText(ms: number): string {
  return ms < 1_000 ? `${Number(ms.toPrecision(3))} ms` : `${Number((ms / 1_000).toPrecision(3))} s`
}
