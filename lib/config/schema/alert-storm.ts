import * as z from 'zod/mini'
import { durationMs, isDuration } from '../duration.ts'
import { duration } from './primitives.ts'

/**
 * When failures that begin together are one incident; false: never. Only of checks that reach over the internet, and of those that
 * nothing explains.
 */
export const alertStorm = z.union([
  z.literal(false),
  z.strictObject({
    /** So many. Default 5. */
    atLeast: z.optional(z.int().check(z.gte(2, 'expected at least 2: one failure is no storm'), z.lte(1_000))),
    /** Within this of each other. Default "2 minutes". */
    within: z.optional(
      duration.check(
        z.refine(
          (given) => !isDuration(given) || (durationMs(given) >= 1_000 && durationMs(given) <= 600_000),
          'expected from "1 second" to "10 minutes": what begins later has a cause of its own',
        ),
      ),
    ),
  }),
])
