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
