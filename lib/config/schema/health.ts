import * as z from 'zod/mini'
import { url } from './primitives.ts'

const check = z.strictObject({
  /** A checker's name; the key of the entry where it is absent. `url` checks any address. */
  kind: z.optional(z.string()),
  url: z.optional(url),
  /** A failing critical check makes the whole report fail. Default true for the database, false for third parties. */
  critical: z.optional(z.boolean()),
  timeoutMs: z.optional(z.int().check(z.gte(50), z.lte(30_000))),
  expectStatus: z.optional(z.int()),
})

export const health = z.strictObject({
  checks: z.optional(z.record(z.string(), check)),
  /** How old a report may be before it is made anew, seconds. Default 10. */
  maxAgeSeconds: z.optional(z.int().check(z.gte(1), z.lte(300))),
})

export type HealthCheckPolicy = z.output<typeof check>
