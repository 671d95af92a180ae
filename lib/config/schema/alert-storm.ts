import * as z from 'zod/mini'
import { durationBetween } from './primitives.ts'

/**
 * When failures that begin together are one incident; false: never. Only of checks that reach over the internet, and of those that
 * nothing explains.
 */
export const alertStorm = z.union([
  z.literal(false),
  z.strictObject({
    /** So many. Default 5. */
    atLeast: z.optional(z.int().check(z.gte(2, 'expected at least 2: one failure is no storm'))),
    /** Within this of each other; what begins later has a cause of its own. Default "2 minutes". */
    within: z.optional(durationBetween('1 second', '10 minutes')),
  }),
])
