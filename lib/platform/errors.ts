/**
 * Every error Caretaker raises on purpose. The code is stable, listed in docs/errors.md (a test holds the two
 * together), and the only thing callers may branch on. Only `lib/http/problem.ts` knows what status a code becomes.
 */
export const errorCodes = {
  bad_request: 'The request or the command line is malformed.',
  invalid_input: 'A field has a value that is not accepted; the detail names it.',
  unauthorized: 'No valid credentials were presented.',
  forbidden: 'The credentials are valid but do not allow this.',
  reauthentication_required: 'This takes a fresh sign-in: the last one is too long ago.',
  not_found: 'There is nothing under that name.',
  method_not_allowed: 'The path exists, the method does not.',
  conflict: 'Another operation is in the way.',
  payload_too_large: 'The body is larger than accepted.',
  unsupported_media_type: 'The body is of a type that is not accepted.',
  rate_limited: 'Too many requests; Retry-After says when to come back.',
  signature_invalid: 'The signature does not match the body, or is too old.',
  not_configured: 'This part is off: a setting it needs is missing.',
  env_invalid: 'An environment variable is missing or malformed.',
  policy_invalid: 'caretaker.config.ts does not satisfy the schema or the database.',
  database_unavailable: 'The database cannot be reached.',
  database_error: 'The database refused a statement.',
  object_store_failed: 'The object store did not take, return or delete an object.',
  object_missing: 'The object store has no such object.',
  backup_incomplete: 'The backup could not be completed; nothing is shown as complete.',
  backup_corrupt: 'A backup does not match its manifest.',
  backup_untrusted: 'Nothing vouches for who wrote this backup: it is not signed, or with an unknown key.',
  backup_identity: 'The identity does not open this backup, or none was given.',
  restore_target_not_empty: 'The database to restore into already holds tables.',
  restore_mismatch: 'What was restored does not equal what was backed up.',
  subject_not_found: 'No such person in the subject table.',
  request_in_progress: 'A request for this person is already running.',
  job_unknown: 'There is no job of that name.',
  job_failed: 'The job ended with an error.',
  retention_refused: 'A retention rule would take more than it may, or hurt, and the policy does not say that this is meant.',
  job_stalled: 'The job handed over again and again without getting anything done.',
  job_abandoned: 'The worker died in every attempt at the job.',
  lease_lost: 'Another worker has taken this run over.',
  address_refused: 'The address is not one that may be called: private, unencrypted, or with credentials.',
  suppressed: 'The address must not be written to: it bounced, complained or opted out.',
  upstream_failed: 'A third party did not answer as expected.',
  timeout: 'The deadline passed.',
  local_stack: 'The local stack cannot start; the detail says what to do.',
  internal: 'A defect in Caretaker. The log has the cause under the request id.',
} as const

export type ErrorCode = keyof typeof errorCodes

export interface ErrorOptions {
  cause?: unknown
  /** One entry a bad field: where, and what was wrong with it. Never the value of a secret. */
  issues?: readonly { path: string; message: string }[]
  /** Seconds after which a retry makes sense. */
  retryAfterSeconds?: number
}

/** An expected failure with a stable code. `detail` is shown to the caller: no secrets, no personal data. */
export class CaretakerError extends Error {
  override readonly name = 'CaretakerError'
  readonly code: ErrorCode
  readonly detail: string
  readonly issues: readonly { path: string; message: string }[]
  readonly retryAfterSeconds: number | undefined

  constructor(code: ErrorCode, detail: string, options: ErrorOptions = {}) {
    super(`${code}: ${detail}`, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.detail = detail
    this.issues = options.issues ?? []
    this.retryAfterSeconds = options.retryAfterSeconds
  }
}

/** True for an error with that code. */
export function hasCode(error: unknown, code: ErrorCode): error is CaretakerError {
  return error instanceof CaretakerError && error.code === code
}

/** The SQLSTATE of a PostgreSQL error, or undefined. Node's own codes (EPIPE) are as long, but have no digit. */
export function sqlState(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined
  const code = (error as { code: unknown }).code
  return typeof code === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : undefined
}
