import { CaretakerError, sqlState } from '../platform/errors.ts'

/**
 * Why a check did not pass: a fixed vocabulary, because reports are public and a driver's words name hosts and users.
 * `words` says it to a person; `advice` says what to do, to the operator.
 */
export const causes = {
  timeout: {
    words: 'did not answer in time',
    advice: "Look at the load and the provider's status page; raise timeoutMs if it is always this slow.",
  },
  refused: { words: 'refused the connection', advice: 'Start it, or correct the host and port it is reached under.' },
  dns: { words: 'its name does not resolve', advice: 'Correct the host name, or wait for the DNS change to spread.' },
  tls: { words: 'its certificate is not accepted', advice: 'Renew the certificate, or set the authority that signed it.' },
  connection_lost: { words: 'broke the connection', advice: "Try again; if it stays, look at the provider's status page." },
  unauthorized: { words: 'does not accept the credentials', advice: 'Set the current key or password; it may have been rotated.' },
  forbidden: { words: 'accepts the key but not for this', advice: 'Give the key the permission to read what is checked.' },
  http_4xx: { words: 'answered with a client error', advice: 'Check the address and the settings it is called with.' },
  http_5xx: { words: 'answered with a server error', advice: 'Look at its logs and its status page.' },
  rate_limited: { words: 'limits the rate of requests', advice: 'Raise health.maxAgeSeconds, or the limit.' },
  redirected: {
    words: 'redirects to another host',
    advice: "Check the address it redirects to, or set expectStatus to the redirect's status.",
  },
  bad_answer: { words: 'answered something unexpected', advice: 'Check that the address is that of the right service.' },
  connections_exhausted: { words: 'has no connection left', advice: 'Use the pooler, or lower DATABASE_POOL_MAX.' },
  no_database: { words: 'has no database of that name', advice: 'Correct the last part of the database URL.' },
  starting: { words: 'is starting up or shutting down', advice: 'Wait a minute and look again.' },
  rls_off: {
    words: 'tables are readable without row level security',
    advice: 'Run `alter table … enable row level security` on the tables listed, and add policies.',
  },
  certificate_expiring: {
    words: 'its certificate ends within two weeks',
    advice: 'Renew it; automatic renewal has failed, or there is none.',
  },
  certificate_urgent: { words: 'its certificate ends within a week', advice: 'Renew it now: afterwards no browser connects.' },
  lock_waits: { words: 'somebody waits for a lock', advice: 'Run `caretaker report database`: it names who holds it.' },
  long_transaction: { words: 'a transaction is open for long', advice: 'Run `caretaker report database`: end the session that holds it.' },
  backup_overdue: { words: 'the last backup is too old', advice: 'Run `caretaker jobs history backup`, then `caretaker backup run`.' },
  backup_failed: { words: 'the last backup failed', advice: 'Run `caretaker jobs history backup`: it says why.' },
  drill_overdue: { words: 'no backup was proven lately', advice: 'Run `caretaker backup verify`.' },
  drill_failed: {
    words: 'the last backup could not be proven',
    advice: 'Run `caretaker jobs history backup-verify`: it says what differed.',
  },
  job_failed: { words: 'the last run of a job failed', advice: 'Run `caretaker jobs history`: it says which, and why.' },
  queue_stuck: { words: 'what is queued is not taken', advice: 'See that the worker is called: CRON_SECRET, PUBLIC_URL and the tick.' },
  dead_letters: { words: 'events could not be applied', advice: 'Run `caretaker webhooks list`, mend the cause, and replay them.' },
  webhooks_silent: {
    words: 'a provider sends nothing though it usually does',
    advice: 'Run `caretaker webhooks list`; look at the provider whether it has switched the endpoint off.',
  },
  migrations_pending: {
    words: 'migrations of this release are not applied',
    advice: 'Run `caretaker db migrate`.',
  },
  memory_high: { words: 'holds more memory than it should', advice: 'Give the function more memory, or look for what grows.' },
  gdpr_overdue: {
    words: 'a request of a person is overdue',
    advice: 'Run `caretaker gdpr requests`; tell the person, and carry the request out.',
  },
  gdpr_undescribed: {
    words: 'personal data may be in tables the policy does not describe',
    advice: 'Run `caretaker gdpr lint`: it names the tables and columns.',
  },
  write_failed: {
    words: 'did not store, return or delete an object',
    advice: "Check the bucket, the key's permissions and the free space.",
  },
  not_configured: { words: 'not configured', advice: 'Set what it needs, or leave the check out of the policy.' },
  misconfigured: { words: "the policy's entry cannot be run", advice: 'Run `caretaker plan`: it says what is wrong with the entry.' },
  internal: { words: 'the check itself failed', advice: 'The log has the cause.' },
} as const

export type CauseCode = keyof typeof causes

const byErrorCode: Record<string, CauseCode> = {
  ECONNREFUSED: 'refused',
  EACCES: 'write_failed',
  EROFS: 'write_failed',
  ENOSPC: 'write_failed',
  ENOTFOUND: 'dns',
  EAI_AGAIN: 'dns',
  EAI_FAIL: 'dns',
  ETIMEDOUT: 'timeout',
  UND_ERR_CONNECT_TIMEOUT: 'timeout',
  UND_ERR_HEADERS_TIMEOUT: 'timeout',
  UND_ERR_BODY_TIMEOUT: 'timeout',
  ABORT_ERR: 'timeout',
  ECONNRESET: 'connection_lost',
  EPIPE: 'connection_lost',
  UND_ERR_SOCKET: 'connection_lost',
  EHOSTUNREACH: 'refused',
  ENETUNREACH: 'refused',
  EPROTO: 'tls',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'tls',
  SELF_SIGNED_CERT_IN_CHAIN: 'tls',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'tls',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'tls',
  HOSTNAME_MISMATCH: 'tls',
}

// https://www.postgresql.org/docs/current/errcodes-appendix.html
const bySqlState: Record<string, CauseCode> = {
  '28P01': 'unauthorized',
  '28000': 'unauthorized',
  '42501': 'forbidden',
  '3D000': 'no_database',
  '53300': 'connections_exhausted',
  '57P01': 'starting',
  '57P02': 'starting',
  '57P03': 'starting',
  '57014': 'timeout',
}

/** What an exception of a driver, of fetch or of Caretaker means, looking through its chain of causes. */
export function causeOf(error: unknown): CauseCode {
  for (let inner = error, depth = 0; inner instanceof Error && depth < 6; inner = inner.cause, depth++) {
    if (inner.name === 'TimeoutError' || inner.name === 'AbortError') return 'timeout'
    const found = causeOfOne(inner)
    if (found !== undefined) return found
  }
  if (error instanceof CaretakerError) return byCaretakerCode[error.code] ?? 'internal'
  return error instanceof TypeError && error.message === 'fetch failed' ? 'connection_lost' : 'internal'
}

const byCaretakerCode: Partial<Record<string, CauseCode>> = {
  timeout: 'timeout',
  database_unavailable: 'connection_lost',
  object_store_failed: 'write_failed',
  upstream_failed: 'bad_answer',
  not_configured: 'not_configured',
  invalid_input: 'misconfigured',
}

function causeOfOne(error: Error): CauseCode | undefined {
  // What should have been JSON was not.
  if (error instanceof SyntaxError) return 'bad_answer'
  const state = sqlState(error)
  if (state !== undefined && bySqlState[state] !== undefined) return bySqlState[state]
  const code = (error as NodeJS.ErrnoException).code
  if (typeof code !== 'string') return undefined
  if (byErrorCode[code] !== undefined) return byErrorCode[code]
  return /^(ERR_TLS|ERR_SSL|CERT_)/.test(code) ? 'tls' : undefined
}

/** What an HTTP status other than the expected one means. */
export function causeOfStatus(status: number): CauseCode {
  if (status === 401) return 'unauthorized'
  if (status === 403) return 'forbidden'
  if (status === 429) return 'rate_limited'
  if (status >= 500) return 'http_5xx'
  if (status >= 400) return 'http_4xx'
  return 'bad_answer'
}
