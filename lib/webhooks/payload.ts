import type { WebhookEvent } from '../config/index.ts'
import type { FieldCipher } from '../platform/field-cipher.ts'

/**
 * The body as it is stored: sealed to its row, so that swapped between two rows it opens in neither. Not compressed:
 * deflating first cost more (73–87 % of the bare insert's rate without, 68–74 % with) than the smaller row saved.
 */
export function sealPayload(cipher: FieldCipher, event: { source: string; eventId: string; body: Uint8Array }): Buffer {
  return cipher.seal(event.body, place(event))
}

/** The event as it was signed, but for what the policy minimised; null when the payload was pruned. */
export function openPayload(cipher: FieldCipher, row: { source: string; eventId: string; payload: Uint8Array }): WebhookEvent | null {
  if (row.payload.byteLength === 0) return null
  return JSON.parse(new TextDecoder().decode(cipher.open(row.payload, place(row)))) as WebhookEvent
}

/** What the object of an event goes by in the database: a keyed hash. */
export function objectTag(cipher: FieldCipher, source: string, objectId: string): Buffer {
  return cipher.tag(`webhook object of ${source}`, objectId)
}

function place(row: { source: string; eventId: string }): string[] {
  return ['inbox', row.source, row.eventId]
}
