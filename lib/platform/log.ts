import { createHmac } from 'node:crypto'
import pino from 'pino'
import { CaretakerError, sqlState } from './errors.ts'

export type Log = pino.Logger

/** Fields that never reach a log line, at any of the depths pino can redact without walking whole objects. */
const secretFields = [
  'authorization',
  'cookie',
  'password',
  'secret',
  'token',
  'apikey',
  'api_key',
  'apiKey',
  'identity',
  'email',
  'phone',
  'url',
  'databaseUrl',
  'sessionUrl',
  'connectionString',
  'payload',
  'body',
  'stripe-signature',
]

/**
 * JSON lines. Bind context with `log.child({ requestId, job, slot, subject: subjectTag(key, id) })`; a person's id is
 * never logged, only its keyed hash.
 */
export function createLog(options: { level: string; destination?: pino.DestinationStream }): Log {
  const settings: pino.LoggerOptions = {
    level: options.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: { paths: secretFields.flatMap((field) => [path(field), `*${bracket(field)}`, `*.*${bracket(field)}`]), censor: '[redacted]' },
    serializers: { err: describeError, error: describeError },
  }
  return options.destination === undefined ? pino(settings) : pino(settings, options.destination)
}

function bracket(field: string): string {
  return `["${field}"]`
}

function path(field: string): string {
  return /^\w+$/.test(field) ? field : bracket(field)
}

/**
 * What of an error may be logged. PostgreSQL quotes row values in `detail`, and in the messages of classes 22 (data
 * exception) and 23 (integrity): those lose everything from the first quote to the last, because a value may hold quotes
 * too. What a function of the database raises is free text about rows, and left out.
 */
export function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: 'a value that is not an Error was thrown' }
  const state = sqlState(error)
  if (state !== undefined) {
    const { schema, table, column, constraint, routine } = error as Error & Record<string, string | undefined>
    const message = databaseMessage(state, routine, error.message)
    return { type: 'DatabaseError', sqlState: state, message, schema, table, column, constraint, routine }
  }
  const described: Record<string, unknown> = { type: error.name, message: error.message, stack: error.stack }
  if (error instanceof CaretakerError) described.code = error.code
  if (error.cause !== undefined) described.cause = describeError(error.cause)
  return described
}

function databaseMessage(state: string, routine: string | undefined, message: string): string {
  if (state === 'P0001' || routine === 'exec_stmt_raise') return 'raised by a function of the database, in words of its own'
  return /^2[23]/.test(state) ? message.replace(/["'].*["']/s, '"…"').replace(/[({].*[)}]/s, '(…)') : message
}

/** A keyed hash of a person's id: the same person has the same tag in every line, and nobody without the key can tell who. */
export function subjectTag(encryptionKey: string, subject: string): string {
  return createHmac('sha256', Buffer.from(encryptionKey, 'hex')).update('caretaker:subject:v1\0').update(subject).digest('hex').slice(0, 32)
}
