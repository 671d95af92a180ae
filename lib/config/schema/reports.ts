import * as z from 'zod/mini'
import { duration, name, table } from './primitives.ts'

/** Calendar units in the app's time zone; weeks begin on Monday. */
export const reportPeriods = ['hour', 'day', 'week', 'month', 'quarter', 'year'] as const

export const report = z.strictObject({
  description: z.optional(z.string()),
  /**
   * One query. It may use :from and :to (the last complete period before the slot, as timestamptz), :slot (the planned
   * instant) and :timezone (the app's zone); they are bound, not pasted in.
   */
  sql: name,
  /** What :from and :to enclose. */
  period: z.optional(z.enum(reportPeriods)),
  /**
   * The table that keeps the rows, columns matched by name. `key` are the columns of a unique index: a row of the same
   * key is overwritten, so that a repeated slot changes nothing. Default: the table's primary key.
   */
  into: z.optional(z.union([table, z.strictObject({ table, key: z.optional(z.array(name).check(z.minLength(1))) })])),
  /** Also as the object `reports/NAME/PERIOD.csv` (or .json) in the object store. */
  store: z.optional(z.enum(['csv', 'json'])),
  /** How long the query may take. Default "1 minute". */
  timeout: z.optional(duration),
})

export const reports = z.record(
  z.string().check(z.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected lower-case letters, digits and hyphens')),
  report,
)

/** The statistics of the database itself: a report that every policy has. */
export const databaseReport = 'database'

export type ReportPolicy = z.output<typeof report>
export type ReportPeriod = (typeof reportPeriods)[number]
