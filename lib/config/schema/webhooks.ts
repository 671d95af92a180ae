import * as z from 'zod/mini'
import type { Transaction } from '../../platform/db.ts'

type AnyEvent = { id: string; type: string; created: number; data: { object: Record<string, unknown> } }
/** Runs in the transaction that marks the event as applied: its effects happen exactly once. */
export type WebhookHandler = (event: AnyEvent, tx: Transaction) => Promise<void>
const handler = z.custom<WebhookHandler>((value) => typeof value === 'function', 'expected a function (event, tx) => Promise<void>')

export const webhooks = z.strictObject({
  stripe: z.optional(
    z.strictObject({
      on: z.optional(z.record(z.string(), handler)),
      toleranceSeconds: z.optional(z.int().check(z.gte(1), z.lte(3600))),
    }),
  ),
})
