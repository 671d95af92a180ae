import { CaretakerError } from '../platform/errors.ts'

const units = ['kB', 'MB', 'GB', 'TB'] as const
const pattern = new RegExp(`^([1-9]\\d{0,5}) ?(${units.join('|')})$`)

/** "512 MB", "2 GB": as PostgreSQL's settings count, in powers of 1024. */
export function isByteSize(value: string): boolean {
  return pattern.test(value)
}

export const byteSizeExpected = `expected a size such as "2 GB" (a whole number and one of ${units.join(', ')})`

/** Bytes. */
export function byteSize(value: string): number {
  const match = pattern.exec(value)
  if (match === null) throw new CaretakerError('policy_invalid', `"${value}": ${byteSizeExpected}.`)
  return Number(match[1]) * 1024 ** (units.indexOf(match[2] as (typeof units)[number]) + 1)
}
