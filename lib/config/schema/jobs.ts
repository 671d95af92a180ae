import * as z from 'zod/mini'
import { name, tables } from './primitives.ts'
import { schedule } from './schedules.ts'

const step = z.union([
  z.strictObject({ vacuum: tables }),
  z.strictObject({ analyze: z.union([z.literal('all'), tables]) }),
  z.strictObject({ reindex: z.array(name) }),
  z.strictObject({ refresh: tables }),
  /** Names of retention rules, or all of them. */
  z.strictObject({ retention: z.union([z.literal('all'), z.array(name)]) }),
  z.strictObject({ sql: name }),
])

export const job = z.strictObject({
  schedule: z.optional(schedule),
  description: z.optional(z.string()),
  steps: z.array(step).check(z.minLength(1)),
})

export type JobStep = z.output<typeof step>
