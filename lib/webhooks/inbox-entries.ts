import type { WebhookEvent } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { environmentCipher } from '../platform/field-cipher.ts'
import { openPayload } from './payload.ts'
import { type InboxEntry, type InboxState, selectEntries, selectEntry } from './queries.ts'

export const inboxStates = ['received', 'applied', 'ignored', 'dead'] as const satisfies readonly InboxState[]

/** Inbox entries, newest first, without their payloads. `limit` defaults to 50, at most 1,000. */
export function listInbox(
  ctx: Context,
  filter: { state?: InboxState; source?: string; type?: string; limit?: number } = {},
): Promise<InboxEntry[]> {
  const limit = Math.min(1_000, Math.max(1, filter.limit ?? 50))
  return selectEntries(ctx.db, { state: filter.state ?? null, source: filter.source ?? null, type: filter.type ?? null, limit })
}

/**
 * One entry by its number or by the provider's event id; the payload (personal data) only where it is asked for.
 * @throws {CaretakerError} `not_found`
 */
export async function showInbox(
  ctx: Context,
  id: string,
  options: { payload?: boolean } = {},
): Promise<InboxEntry & { payload?: WebhookEvent | null }> {
  const found = await selectEntry(ctx.db, id)
  if (found === undefined)
    throw new CaretakerError('not_found', `There is no webhook event "${id}" in the inbox. \`webhooks list\` shows what there is.`)
  const { payload, ...entry } = found
  if (options.payload !== true) return entry
  const cipher = environmentCipher(ctx.env, 'Reading a webhook payload')
  return { ...entry, payload: openPayload(cipher, { source: entry.source, eventId: entry.eventId, payload }) }
}
