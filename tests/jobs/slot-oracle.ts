/*
 * Slots by the definition in docs/jobs.md, minute by minute over the zone's own clock, without the library that computes
 * them elsewhere.
 */

const minuteMs = 60_000

interface Pattern {
  /** The minutes of the day. */
  times: boolean[]
  days: (local: Date) => boolean
  /** Neither minute nor hour has a star: the times happen once a day, whatever the clocks do. */
  fixed: boolean
}

/** Every slot in (`from`, `until`], in order. Understands stars, steps, ranges, lists and `L`. */
export function oracleSlots(timing: { cron: string; timezone: string }, from: Date, until: Date): Date[] {
  const pattern = patternOf(timing.cron)
  const offsetAt = offsetsOf(timing.timezone, from.getTime() - 2 * 86_400_000, until.getTime() + 2 * 86_400_000)
  const slots = new Set<number>()
  // Times of day that were met already, by local date: the first one counts where the clocks go back.
  const met = new Set<number>()
  for (let at = Math.ceil(from.getTime() / minuteMs) * minuteMs - 86_400_000; at <= until.getTime(); at += minuteMs) {
    const local = at + offsetAt(at)
    const skipped = offsetAt(at) - offsetAt(at - minuteMs)
    // Local minutes that this minute stands for: itself, and those the clocks have just left out.
    for (let wall = skipped > 0 ? local - skipped : local; wall <= local; wall += minuteMs) {
      const leftOut = wall !== local
      if (leftOut && !pattern.fixed) continue
      if (!fits(pattern, wall)) continue
      if (pattern.fixed && met.has(wall)) continue
      met.add(wall)
      slots.add(at)
    }
  }
  return [...slots]
    .filter((at) => at > from.getTime())
    .sort((a, b) => a - b)
    .map((at) => new Date(at))
}

function fits({ times, days }: Pattern, wall: number): boolean {
  const minute = Math.floor(wall / minuteMs) % 1_440
  return times[minute] === true && days(new Date(wall))
}

function patternOf(cron: string): Pattern {
  const [minute = '', hour = '', day = '', month = '', weekday = ''] = cron.split(' ')
  const [minutes, hours, months] = [values(minute, 0, 59), values(hour, 0, 23), values(month, 1, 12)]
  const monthDays = values(day.replace('L', '99'), 1, 31)
  const weekdays = new Set([...values(weekday, 0, 7)].map((value) => value % 7))
  const inMonth = (local: Date) => {
    const last = new Date(Date.UTC(local.getUTCFullYear(), local.getUTCMonth() + 1, 0)).getUTCDate()
    return monthDays.has(local.getUTCDate()) || (monthDays.has(99) && local.getUTCDate() === last)
  }
  return {
    times: Array.from({ length: 1_440 }, (_, at) => hours.has(Math.floor(at / 60)) && minutes.has(at % 60)),
    days: (local) => {
      if (!months.has(local.getUTCMonth() + 1)) return false
      const inWeek = weekdays.has(local.getUTCDay())
      return day !== '*' && weekday !== '*' ? inMonth(local) || inWeek : inMonth(local) && inWeek
    },
    fixed: !/[*/]/.test(minute + hour),
  }
}

function values(field: string, least: number, most: number): Set<number> {
  const found = new Set<number>()
  for (const part of field.split(',')) {
    const [range = '*', step = '1'] = part.split('/')
    const [from = least, to = from] = range === '*' ? [least, most] : range.split('-').map(Number)
    for (let value = from; value <= to; value += Number(step)) found.add(value)
  }
  return found
}

/** The zone's offset from UTC at any minute, ms; looked up hour by hour, and by the minute where it changes. */
function offsetsOf(timezone: string, from: number, until: number): (at: number) => number {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: timezone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
  })
  const offset = (at: number) => {
    const part = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]))
    return Date.UTC(part.year as number, (part.month as number) - 1, part.day, part.hour, part.minute) - at
  }
  const hourMs = 60 * minuteMs
  const first = Math.floor(from / hourMs)
  const last = Math.ceil(until / hourMs)
  const byHour = Array.from({ length: last - first + 1 }, (_, index) => offset((first + index) * hourMs))
  return (at) => {
    const hour = Math.floor(at / hourMs) - first
    const [now, next] = [byHour[hour] as number, byHour[hour + 1] as number]
    return now === next ? now : offset(at)
  }
}
