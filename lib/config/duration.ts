import { CaretakerError } from '../platform/errors.ts'

const units = ['second', 'minute', 'hour', 'day', 'week', 'month', 'year'] as const
const pattern = new RegExp(`^([1-9]\\d{0,5}) (${units.join('|')})s?$`)

/** "30 days", "24 months": calendar units stay calendar units, PostgreSQL computes with them. */
export function isDuration(value: string): boolean {
  return pattern.test(value)
}

export const durationExpected = `expected a duration such as "30 days" (a whole number and one of ${units.join(', ')})`

const unitMs: Record<string, number> = {
  second: 1_000,
  minute: 60_000,
  hour: 3_600_000,
  day: 86_400_000,
  week: 604_800_000,
  month: 2_629_746_000,
  year: 31_556_952_000,
}

/** Milliseconds; months and years by their mean length in the Gregorian calendar. */
export function durationMs(value: string): number {
  const match = pattern.exec(value)
  if (match === null) throw new CaretakerError('policy_invalid', `"${value}": ${durationExpected}.`)
  return Number(match[1]) * (unitMs[match[2] as string] as number)
}
