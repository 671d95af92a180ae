const names: Record<string, readonly string[]> = {
  month: ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'],
  weekday: ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'],
}

export interface CronFields {
  minutes: number[]
  hours: number[]
  /** Null: every day of the month. A superset, where the expression says what numbers cannot (`L`, `W`). */
  days: number[] | null
  months: number[] | null
  /** Null: every day of the week; 0 is Sunday. */
  weekdays: number[] | null
  /** Both days of the month and of the week must fit; without it one of the two is enough. */
  both: boolean
}

/** An expression of five fields that Croner takes, as numbers. */
export function readCron(cron: string): CronFields {
  const [minute = '*', hour = '*', day = '*', month = '*', weekday = '*'] = cron.trim().toLowerCase().split(/\s+/)
  const everything = (field: string) => field === '*' || field === '?' || field === '*/1'
  return {
    minutes: numbers(minute, 0, 59),
    hours: numbers(hour, 0, 23),
    days: everything(day) ? null : daysOf(day),
    months: everything(month) ? null : numbers(named(month, 'month', 1), 1, 12),
    weekdays: everything(weekday) ? null : weekdaysOf(weekday.replace(/^\+/, '')),
    both: weekday.startsWith('+'),
  }
}

function named(field: string, kind: 'month' | 'weekday', first: number): string {
  return field.replace(/[a-z]{3}/g, (word) => {
    const index = names[kind]?.indexOf(word) ?? -1
    return index < 0 ? word : String(index + first)
  })
}

function daysOf(field: string): number[] {
  return sorted(
    field.split(',').flatMap((part) => {
      // The last day, and the weekday nearest to one.
      if (part === 'l') return [28, 29, 30, 31]
      if (part === 'lw') return [26, 27, 28, 29, 30, 31]
      const near = /^(\d+)w$/.exec(part)
      if (near !== null) return [-2, -1, 0, 1, 2].map((step) => Number(near[1]) + step).filter((day) => day >= 1 && day <= 31)
      return numbers(part, 1, 31)
    }),
  )
}

function weekdaysOf(field: string): number[] {
  return sorted(
    named(field, 'weekday', 0)
      .split(',')
      .flatMap((part) => numbers(part.replace(/#.*$/, '').replace(/l$/, ''), 0, 7))
      .map((day) => day % 7),
  )
}

function numbers(field: string, least: number, most: number): number[] {
  return sorted(
    field.split(',').flatMap((part) => {
      const [range = '*', step = '1'] = part.split('/')
      const [from, to] = range === '*' || range === '?' ? [least, most] : range.split('-').map(Number)
      const values: number[] = []
      for (let value = from ?? least; value <= (to ?? from ?? most); value += Number(step)) values.push(value)
      return values
    }),
  )
}

export function sorted(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b)
}

/** Numbers as one field: a star, a star with a step, `1-5` or `1,2,8`. */
export function writeField(values: readonly number[] | null, least: number, most: number): string {
  if (values === null || values.length === most - least + 1) return '*'
  const [first = least, second] = values
  const step = second === undefined ? 0 : second - first
  if (
    values.length > 2 &&
    first === least &&
    step > 1 &&
    values.every((value, index) => value === least + index * step) &&
    (values.at(-1) ?? 0) + step > most
  )
    return `*/${step}`
  if (values.length > 2 && values.every((value, index) => value === first + index)) return `${first}-${values.at(-1)}`
  return values.join(',')
}
