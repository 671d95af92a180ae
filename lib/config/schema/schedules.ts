import * as z from 'zod/mini'
import { cron, duration, url, zone } from './primitives.ts'

export const missed = z.enum(['last', 'all', 'skip'])
export const schedule = z.union([
  cron,
  z.strictObject({
    cron,
    /** IANA zone the fields are read in. Default: `app.timezone`, else UTC. */
    timezone: z.optional(zone),
    /** What becomes of slots that did not start in time: the last runs, all run, or none. Default "last". */
    missed: z.optional(missed),
    /** How late a slot may start before it counts as missed. Default "5 minutes". */
    startGrace: z.optional(duration),
    /** How long a run may take before it is said to overrun. Default: until the job's next slot, at most 6 hours. */
    runGrace: z.optional(duration),
    /** How many runs of the job may be at work beside one that is. Default 0. */
    overlap: z.optional(z.int().check(z.gte(0), z.lte(9))),
    /** Called at the start, the end and the failure of each run, as healthchecks.io wants it. */
    heartbeat: z.optional(url),
  }),
])

export type Schedule = z.output<typeof schedule>
export type MissedPolicy = z.output<typeof missed>
