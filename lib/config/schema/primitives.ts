import * as z from 'zod/mini'
import { unreadable } from '../../platform/written-text.ts'
import { byteSizeExpected, isByteSize } from '../bytes.ts'
import { durationExpected, durationMs, isDuration } from '../duration.ts'

/* What the parts of the policy's schema are made of. */

export const name = z.string().check(z.minLength(1, 'expected a name, found an empty string'))
export const duration = z.string().check(z.refine(isDuration, durationExpected))
/** A duration within these, both of them taken. */
export const durationBetween = (least: string, most: string) =>
  duration.check(
    z.refine((value) => !isDuration(value) || durationMs(value) >= durationMs(least), `expected at least "${least}"`),
    z.refine((value) => !isDuration(value) || durationMs(value) <= durationMs(most), `expected at most "${most}"`),
  )
/** A line that people read, in messages and on pages. */
export const line = (max = 200) =>
  z.string().check(
    z.refine((value) => value.trim() !== '', 'expected some text, found none'),
    z.maxLength(max, `expected at most ${max} characters`),
    z.refine(
      (value) => unreadable(value) === undefined && !/[\t\n\r\u2028\u2029]/.test(value),
      'expected text in one line, without control characters and without what turns its direction',
    ),
  )
export const byteSize = z.string().check(z.refine(isByteSize, byteSizeExpected))
/** `table` or `schema.table`; `public` where no schema is named. */
export const table = z.string().check(z.regex(/^[^\s."]+(\.[^\s."]+)?$/, 'expected "table" or "schema.table"'))
export const cron = z.string().check(z.regex(/^\S+(\s+\S+){4}$/, 'expected a cron expression of five fields such as "0 2 * * *"'))
export const url = z.string().check(z.regex(/^https?:\/\/\S+$/, 'expected an http:// or https:// URL'))

export const tables = z.array(table)

/** An IANA time zone. */
export const zone = z.string().check(z.refine(isZone, 'expected an IANA time zone such as "Europe/Berlin"'))

function isZone(given: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: given })
    return true
  } catch {
    return false
  }
}
