const formats = new Map<string, Intl.DateTimeFormat>()

/** How far the zone's clocks are ahead of UTC at an instant, ms. */
function offsetMs(zone: string, at: number): number {
  let format = formats.get(zone)
  if (format === undefined) {
    const numeric = 'numeric'
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: numeric,
      month: numeric,
      day: numeric,
      hour: numeric,
      minute: numeric,
      second: numeric,
    })
    formats.set(zone, format)
  }
  const parts = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)])) as Record<string, number>
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(at / 1_000) * 1_000
}

/** A day of the calendar, in whatever zone: days since 1970-01-01. */
export type CalendarDay = number

export function calendarDay(zone: string, at: Date): CalendarDay {
  return Math.floor((at.getTime() + offsetMs(zone, at.getTime())) / 86_400_000)
}

/** 0 is Monday. */
export function weekdayOf(day: CalendarDay): number {
  // The first of January 1970 was a Thursday.
  return (((day + 3) % 7) + 7) % 7
}

/**
 * When the zone's clocks show that time on that day. Where they show it twice, `which` says the first or the second; where
 * they leave it out, the instant at which they jump over it.
 */
export function instantOf(zone: string, day: CalendarDay, minutes: number, which: 'first' | 'second'): Date {
  const local = day * 86_400_000 + minutes * 60_000
  const offsets = [offsetMs(zone, local - 86_400_000), offsetMs(zone, local + 86_400_000)]
  const found = offsets
    .map((offset) => local - offset)
    .filter((at) => at + offsetMs(zone, at) === local)
    .sort((a, b) => a - b)
  const at = which === 'first' ? found[0] : found.at(-1)
  if (at !== undefined) return new Date(at)
  let [before, after] = [local - Math.max(...offsets) - 60_000, local - Math.min(...offsets) + 60_000]
  const offsetBefore = offsetMs(zone, before)
  while (after - before > 1_000) {
    const middle = Math.floor((before + after) / 2_000) * 1_000
    if (offsetMs(zone, middle) === offsetBefore) before = middle
    else after = middle
  }
  return new Date(after)
}
