import { isUtf8 } from 'node:buffer'
import { CaretakerError } from '../../platform/errors.ts'

export type JsonObject = Record<string, unknown>

/** @throws {CaretakerError} `bad_request` when the bytes are not UTF-8; a byte order mark in front is read past */
export function parseText(body: Uint8Array, expected: string): string {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  if (!isUtf8(bytes)) throw new CaretakerError('bad_request', `The body is signed but is not UTF-8; expected ${expected}.`)
  const marked = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf
  return bytes.toString('utf8', marked ? 3 : 0)
}

/** @throws {CaretakerError} `bad_request` when the bytes are not UTF-8 or not JSON */
export function parseJson(body: Uint8Array, expected: string): unknown {
  const text = parseText(body, expected)
  try {
    return JSON.parse(text)
  } catch {
    throw new CaretakerError('bad_request', `The body (${body.byteLength} bytes) is signed but is not JSON; expected ${expected}.`)
  }
}

/** @throws {CaretakerError} `bad_request` when the bytes are no JSON object */
export function parseJsonObject(body: Uint8Array, expected: string): JsonObject {
  const parsed = parseJson(body, expected)
  if (!isObject(parsed)) throw new CaretakerError('bad_request', `The body is signed but is not a JSON object; expected ${expected}.`)
  return parsed
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** An id or a type: 1 to 255 printable characters without spaces. */
export function isWord(value: unknown): value is string {
  return typeof value === 'string' && /^[\x21-\x7e]{1,255}$/.test(value)
}

/** @throws {CaretakerError} `bad_request` naming the field */
export function word(event: JsonObject, field: string): string {
  const value = event[field]
  if (isWord(value)) return value
  throw new CaretakerError(
    'bad_request',
    `The event's "${field}" is ${typeof value === 'string' ? 'not a name' : 'missing'}; expected 1 to 255 printable characters.`,
  )
}

/** Seconds or milliseconds since 1970, or an ISO 8601 text; undefined for what is no time of this era. */
export function instant(value: unknown, unit: 'seconds' | 'milliseconds' = 'seconds'): Date | undefined {
  const date =
    typeof value === 'number'
      ? new Date(unit === 'seconds' ? value * 1000 : value)
      : typeof value === 'string'
        ? new Date(value)
        : undefined
  const year = date?.getUTCFullYear() ?? Number.NaN
  return year >= 1970 && year <= 9999 ? date : undefined
}
