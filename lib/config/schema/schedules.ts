import * as z from 'zod/mini'
import { cron } from './primitives.ts'

export const missed = z.enum(['last', 'all', 'skip'])
export const schedule = z.union([cron, z.strictObject({ cron, timezone: z.optional(z.string()), missed: z.optional(missed) })])

export type Schedule = z.output<typeof schedule>
export type MissedPolicy = z.output<typeof missed>
