import { CaretakerError, type ErrorCode, errorCodes } from '../platform/errors.ts'

/** The HTTP status a code becomes. The only place that knows. */
export const statusOf: Record<ErrorCode, number> = {
  bad_request: 400,
  invalid_input: 422,
  unauthorized: 401,
  forbidden: 403,
  reauthentication_required: 401,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  payload_too_large: 413,
  unsupported_media_type: 415,
  rate_limited: 429,
  signature_invalid: 400,
  not_configured: 503,
  env_invalid: 503,
  policy_invalid: 503,
  database_unavailable: 503,
  database_error: 500,
  object_store_failed: 502,
  object_missing: 404,
  backup_incomplete: 500,
  backup_corrupt: 500,
  backup_untrusted: 409,
  backup_identity: 400,
  restore_target_not_empty: 409,
  restore_mismatch: 500,
  subject_not_found: 404,
  request_in_progress: 409,
  job_unknown: 404,
  job_failed: 500,
  retention_refused: 409,
  job_stalled: 500,
  job_abandoned: 500,
  lease_lost: 409,
  address_refused: 422,
  suppressed: 409,
  upstream_failed: 502,
  timeout: 504,
  local_stack: 500,
  internal: 500,
}

/**
 * RFC 9457 problem details. What was not raised on purpose becomes `internal`, without its text: the log has it under
 * the request id.
 */
export function problemResponse(error: unknown, requestId: string): Response {
  const known = error instanceof CaretakerError ? error : new CaretakerError('internal', 'Something went wrong on our side.')
  const status = statusOf[known.code]
  // A server's own failure names no hosts, variables or statements to the outside, except where the operator must act.
  const detail = status === 500 && known.code !== 'internal' ? errorCodes[known.code] : known.detail
  const body: Record<string, unknown> = {
    type: `urn:caretaker:error:${known.code}`,
    title: errorCodes[known.code],
    status,
    detail,
    code: known.code,
    instance: `urn:uuid:${requestId}`,
  }
  if (known.issues.length > 0) body.issues = known.issues
  const headers = new Headers({ 'content-type': 'application/problem+json', 'cache-control': 'no-store' })
  if (known.code === 'rate_limited') body.error = { code: 429, message: known.detail, retry_after: known.retryAfterSeconds ?? 60 }
  if (known.retryAfterSeconds !== undefined) headers.set('retry-after', String(known.retryAfterSeconds))
  else if (status === 503) headers.set('retry-after', '30')
  if (status === 401) headers.set('www-authenticate', 'Bearer')
  return new Response(JSON.stringify(body), { status, headers })
}
