import * as z from 'zod/mini'
import { durationMs, isDuration } from '../duration.ts'
import { duration } from './primitives.ts'

const weekMs = 7 * 86_400_000
/** Catching up on missed slots looks back as far as runs are kept: with less than a week, a long weekend would be forgotten. */
const atLeastAWeek = duration.check(z.refine((value) => !isDuration(value) || durationMs(value) >= weekMs, 'expected at least "7 days"'))

/** How long Caretaker keeps what it notes about itself. The audit trail is not part of it. */
export const history = z.strictObject({
  /** Runs of jobs that have ended. Default "90 days". The newest of each job stays. */
  keep: z.optional(atLeastAWeek),
  /** Events that were delivered. Default "30 days". One that nobody came for stays as long as runs do. */
  events: z.optional(duration),
})
