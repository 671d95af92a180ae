const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']
const weekdays = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']

/** Minute, hour, day of the month, month, day of the week: least, most, and the names that stand for numbers from `least` on. */
const fields: readonly (readonly [number, number, readonly string[]])[] = [
  [0, 59, []],
  [0, 23, []],
  [1, 31, []],
  [1, 12, months],
  [0, 7, weekdays],
]

/** Whether every one of five cron fields is made of values in its range, `*`, lists, ranges and steps. */
export function isCron(expression: string): boolean {
  const found = expression.trim().split(/\s+/)
  return found.length === fields.length && found.every((field, index) => isField(field, fields[index] as (typeof fields)[number]))
}

function isField(field: string, [least, most, names]: (typeof fields)[number]): boolean {
  const value = (text: string) => {
    const named = names.indexOf(text.toLowerCase())
    if (named >= 0) return named + least
    return /^\d{1,2}$/.test(text) ? Number(text) : Number.NaN
  }
  return field.split(',').every((part) => {
    const [range = '', step, ...more] = part.split('/')
    if (more.length > 0 || (step !== undefined && !/^[1-9]\d?$/.test(step))) return false
    if (range === '*') return true
    const ends = range.split('-').map(value)
    // A step from a single value on is not what Vixie's cron takes.
    if (ends.length > 2 || (step !== undefined && ends.length === 1)) return false
    const [from = Number.NaN, to = from] = ends
    return from >= least && to <= most && from <= to
  })
}

const dayMs = 86_400_000
/** From one leap day to the next, and the year after. */
const daysLooked = 5 * 366

/** The longest time between two moments of an expression that `isCron`, ms, whatever clocks do; infinite where it has fewer than two. */
export function longestGapMs(expression: string): number {
  const found = expression.trim().split(/\s+/)
  const [minutes, hours, days, monthsOf, weekdaysOf] = found.map((field, index) =>
    valuesOf(field, fields[index] as (typeof fields)[number]),
  )
  if (!minutes || !hours || !days || !monthsOf || !weekdaysOf) return Number.POSITIVE_INFINITY
  const times = [...hours].flatMap((hour) => [...minutes].map((minute) => (hour * 60 + minute) * 60_000)).sort((a, b) => a - b)
  const within = Math.max(0, ...times.slice(1).map((time, index) => time - (times[index] ?? time)))
  const [first = 0, last = 0] = [times[0], times.at(-1)]
  // Where both name days, either will do.
  const either = found[2] !== '*' && found[4] !== '*'
  let longest = within
  let before: number | undefined
  let seen = 0
  for (let day = Date.UTC(2024, 0, 1), looked = 0; looked < daysLooked; day += dayMs, looked++) {
    const at = new Date(day)
    const inMonth = days.has(at.getUTCDate())
    const inWeek = weekdaysOf.has(at.getUTCDay()) || (at.getUTCDay() === 0 && weekdaysOf.has(7))
    if (!monthsOf.has(at.getUTCMonth() + 1) || !(either ? inMonth || inWeek : inMonth && inWeek)) continue
    if (before !== undefined) longest = Math.max(longest, day + first - before)
    before = day + last
    seen += times.length
  }
  return seen < 2 ? Number.POSITIVE_INFINITY : longest
}

function valuesOf(field: string, [least, most, names]: (typeof fields)[number]): Set<number> {
  const value = (text: string) => (names.includes(text.toLowerCase()) ? names.indexOf(text.toLowerCase()) + least : Number(text))
  const values = new Set<number>()
  for (const part of field.split(',')) {
    const [range = '', step = '1'] = part.split('/')
    const [from = least, to = from] = range === '*' ? [least, most] : range.split('-').map(value)
    for (let one = from; one <= to; one += Number(step)) values.add(one)
  }
  return values
}
