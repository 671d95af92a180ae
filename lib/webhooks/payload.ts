import type { WebhookHandler } from '../config/index.ts'
import type { FieldCipher } from '../platform/field-cipher.ts'

export type WebhookEvent = Parameters<WebhookHandler>[0]

/** What a payload is bound to: swapped between two rows it opens in neither. */
export function payloadContext(source: string, eventId: string): string[] {
  return ['inbox', source, eventId]
}

/** The event as it was signed. */
export function openPayload(cipher: FieldCipher, row: { source: string; eventId: string; payload: Uint8Array }): WebhookEvent {
  const body = cipher.open(row.payload, payloadContext(row.source, row.eventId))
  return JSON.parse(new TextDecoder().decode(body)) as WebhookEvent
}
