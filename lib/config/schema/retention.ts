import * as z from 'zod/mini'
import { duration, name, table } from './primitives.ts'

export const retentionRule = z.strictObject({
  /** How jobs and reports call this rule; the table's name where it is absent. */
  name: z.optional(name),
  table,
  /** Either an age… */
  column: z.optional(name),
  olderThan: z.optional(duration),
  /** …or a condition in SQL. */
  where: z.optional(name),
  action: z.union([
    z.literal('purge'),
    z.strictObject({ archiveTo: table }),
    z.strictObject({ anonymise: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])) }),
  ]),
  /** A boolean column that says a row has been anonymised. */
  mark: z.optional(name),
})

export type RetentionRule = z.output<typeof retentionRule>
