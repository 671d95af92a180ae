import type * as z from 'zod/mini'
import { CaretakerError } from '../platform/errors.ts'
import type { FormFields } from './route.ts'

/** Reads at most `limitBytes`; a body that is longer is refused before it is in memory. */
export async function readBytes(request: Request, limitBytes: number): Promise<Uint8Array> {
  const tooLarge = () => new CaretakerError('payload_too_large', `The body is larger than ${limitBytes} bytes.`)
  if (Number(request.headers.get('content-length') ?? 0) > limitBytes) throw tooLarge()
  if (request.body === null) return new Uint8Array()
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for await (const chunk of request.body) {
      length += chunk.byteLength
      if (length > limitBytes) throw tooLarge()
      chunks.push(chunk)
    }
  } catch (error) {
    if (error instanceof CaretakerError) throw error
    throw new CaretakerError('bad_request', 'The body could not be read to its end.', { cause: error })
  }
  return Buffer.concat(chunks, length)
}

/** The body as JSON that satisfies `schema`; the error names each field, what was found there and what was expected. */
export async function readJson(request: Request, schema: z.ZodMiniType, limitBytes: number): Promise<unknown> {
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase() ?? ''
  const bytes = await readBytes(request, limitBytes)
  if (bytes.length > 0 && type !== 'application/json')
    throw new CaretakerError('unsupported_media_type', `The body is "${printable(type)}"; expected application/json.`)
  let value: unknown
  try {
    value = bytes.length === 0 ? {} : JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    throw new CaretakerError('bad_request', 'The body is not JSON in UTF-8.')
  }
  return checked(schema, value, 'body')
}

/** The fields of an HTML form. */
export async function readForm(request: Request, limitBytes: number): Promise<FormFields> {
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase() ?? ''
  if (type !== 'application/x-www-form-urlencoded')
    throw new CaretakerError('unsupported_media_type', `The body is "${printable(type)}"; expected application/x-www-form-urlencoded.`)
  const fields = new URLSearchParams(new TextDecoder().decode(await readBytes(request, limitBytes)))
  const names = [...new Set(fields.keys())]
  return Object.fromEntries(
    names.map((name) => {
      const values = fields.getAll(name)
      return [name, values.length === 1 ? (values[0] as string) : values]
    }),
  )
}

/** @throws {CaretakerError} `invalid_input` with one issue a field */
export function checked(schema: z.ZodMiniType, value: unknown, where: 'body' | 'query'): unknown {
  const parsed = schema.safeParse(value)
  if (parsed.success) {
    assertStorable(value, where)
    return parsed.data
  }
  const issues = parsed.error.issues.map((issue) => {
    const path = issue.path.length === 0 ? where : issue.path.map(String).join('.')
    const found = issue.path.reduce<unknown>((inner, key) => (inner as Record<PropertyKey, unknown> | undefined)?.[key], value)
    return { path, message: `found ${kind(found)}, ${expectation(issue)}` }
  })
  throw new CaretakerError(
    'invalid_input',
    `The ${where} is not accepted: ${issues.map((issue) => `${issue.path}: ${issue.message}`).join('; ')}.`,
    { issues },
  )
}

/**
 * PostgreSQL keeps neither the character U+0000 nor half of a surrogate pair: who sends one hears so here, and not of a defect.
 * @throws {CaretakerError} `invalid_input` naming the field
 */
export function assertStorable(value: unknown, where: 'body' | 'query'): void {
  const path = unstorable(value, [])
  if (path === null) return
  const field = path.length === 0 ? where : path.join('.')
  const message = 'found a character that cannot be stored (U+0000, or half of a surrogate pair), expected text'
  throw new CaretakerError('invalid_input', `The ${where} is not accepted: ${field}: ${message}.`, { issues: [{ path: field, message }] })
}

/** Where the first such text is; null where there is none. */
function unstorable(value: unknown, path: readonly string[]): readonly string[] | null {
  if (typeof value === 'string') return value.includes('\0') || !value.isWellFormed() ? path : null
  if (typeof value !== 'object' || value === null) return null
  for (const [key, inner] of Object.entries(value)) {
    // A name may be anything its sender likes: it is not repeated.
    const found = unstorable(key, []) === null ? unstorable(inner, [...path, printable(key)]) : path
    if (found !== null) return found
  }
  return null
}

function expectation(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') return `these keys are not known: ${issue.keys.map(printable).join(', ')}`
  if (issue.code === 'invalid_type') return `expected ${issue.expected}`
  if (issue.code === 'invalid_value') return `expected ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`
  if (issue.code === 'too_big') return `expected at most ${issue.maximum}${issue.origin === 'string' ? ' characters' : ''}`
  if (issue.code === 'too_small' && !issue.message.startsWith('expected'))
    return `expected at least ${issue.minimum}${issue.origin === 'string' ? ' characters' : ''}`
  return issue.message.startsWith('expected') ? issue.message : `expected another value (${issue.code})`
}

/** What was found, without repeating personal data: short plain words only, the kind of anything else. */
function kind(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (value === null || typeof value === 'boolean' || typeof value === 'number') return String(value)
  if (typeof value === 'string') return /^[\w.:/ -]{0,40}$/.test(value) ? `"${value}"` : `a string of ${value.length} characters`
  return Array.isArray(value) ? 'a list' : 'an object'
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 60)
}
