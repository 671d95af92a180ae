import { randomBytes } from 'node:crypto'
import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { environmentCipher, type FieldCipher } from '../../platform/field-cipher.ts'
import { insertMessage } from './queries.ts'
import { subscribersOf } from './subscribers.ts'

const largestBytes = 256 * 1024

/**
 * Tells the subscribers of the policy, if `tx` commits: a message and a delivery for each, sealed. `deliverMessages` sends them.
 * @returns the message's id, or null where nobody wants its type
 * @throws {CaretakerError} `invalid_input` for a type that is none or data that is not JSON or too large
 */
export async function emitToSubscribers(
  ctx: Pick<Context, 'config' | 'env' | 'clock'>,
  tx: Transaction,
  event: { type: string; data: Readonly<Record<string, unknown>>; at?: Date },
): Promise<string | null> {
  if (!/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(event.type) || event.type.length > 120)
    throw new CaretakerError(
      'invalid_input',
      `The type of an event is "${event.type.slice(0, 60)}"; expected words joined by dots, such as "order.paid".`,
    )
  const names = subscribersOf(ctx.config, event.type)
  if (names.length === 0) return null
  const cipher = environmentCipher(ctx.env, 'Telling subscribers')
  const now = ctx.clock.now()
  const id = `msg_${randomBytes(16).toString('hex')}`
  const at = event.at ?? now
  await insertMessage(tx, { id, type: event.type, at, payload: seal(cipher, id, event.data), now }, names)
  return id
}

function seal(cipher: FieldCipher, id: string, data: unknown): Buffer {
  const text = JSON.stringify(data)
  if (text === undefined) throw new CaretakerError('invalid_input', 'The data of an event is not JSON; expected an object.')
  const bytes = Buffer.from(text)
  if (bytes.byteLength > largestBytes)
    throw new CaretakerError('invalid_input', `The data of an event has ${bytes.byteLength} bytes; accepted are ${largestBytes}.`)
  return cipher.seal(bytes, ['messages', id])
}

export function openMessage(cipher: FieldCipher, message: { messageId: string; payload: Uint8Array }): Record<string, unknown> {
  return JSON.parse(cipher.open(message.payload, ['messages', message.messageId]).toString()) as Record<string, unknown>
}
