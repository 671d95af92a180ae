import { readFileSync } from 'node:fs'
import pg from 'pg'
import { BulkClient } from './bulk-client.ts'
import { CaretakerError, sqlState } from './errors.ts'

export type Row = Record<string, unknown>

export interface Queryable {
  /** The rows of one parameterised statement. Times arrive as Date, int8 and numeric as string: cast in SQL. */
  query<T extends Row = Row>(sql: string, params?: readonly unknown[]): Promise<T[]>
  /** How many rows a statement touched. */
  execute(sql: string, params?: readonly unknown[]): Promise<number>
}

/** One open transaction. Nothing is sent to anyone else from inside of it. */
export interface Transaction extends Queryable {
  readonly kind: 'transaction'
}

/** One connection of its own in session mode, outside a transaction: VACUUM, REINDEX CONCURRENTLY, COPY, advisory locks. */
export interface Session extends Queryable {
  readonly client: pg.ClientBase
}

export interface TransactionOptions {
  isolation?: 'read committed' | 'repeatable read' | 'serializable'
  readOnly?: boolean
  /** `SET LOCAL lock_timeout`, milliseconds. */
  lockTimeoutMs?: number
  /** `SET LOCAL statement_timeout`, milliseconds. */
  statementTimeoutMs?: number
}

export interface Database extends Queryable {
  /** Commits when `work` resolves, rolls back when it throws. */
  transaction<T>(work: (tx: Transaction) => Promise<T>, options?: TransactionOptions): Promise<T>
  session<T>(work: (session: Session) => Promise<T>): Promise<T>
  /**
   * One statement for health checks. When `signal` aborts it rejects with `timeout` and the connection is closed, so that
   * a server which has stopped answering keeps neither the caller nor a place in the pool. Over the pool of
   * requests, unless `over` says the other.
   */
  probe<T extends Row = Row>(sql: string, params: readonly unknown[], signal: AbortSignal, over?: 'requests' | 'sessions'): Promise<T[]>
  /** How many callers wait for a connection of the request pool right now. */
  waiting?(): number
  /** The session-mode connection string: for drivers that open sockets of their own (pg-boss, COPY, pg_dump). A secret. */
  readonly sessionUrl: string
  close(): Promise<void>
}

export interface DatabaseOptions {
  /** Direct connection or Supavisor session mode (port 5432). */
  sessionUrl: string
  /** Supavisor transaction mode (port 6543) for request handlers; the session URL serves where it is not set. */
  pooledUrl?: string | undefined
  /** PEM of the certificate authority, or a path to it; without it a remote connection is encrypted but not verified. */
  ca?: string | undefined
  maxConnections?: number
  /** How long a transaction may stand idle before the server ends it, ms. Default a minute. */
  idleTransactionMs?: number
  /** Its sessions are for COPY: much data, few statements. */
  bulk?: boolean
}

/**
 * Opens pools lazily: no connection is made before the first query.
 * Idle connections are dropped after five seconds, because a frozen function thaws with dead sockets.
 */
export function openDatabase(options: DatabaseOptions): Database {
  const max = options.maxConnections ?? 5
  // A process that is frozen or stopped in the middle of a transaction keeps its locks, and its successor waits for them.
  const idleMs = Math.trunc(options.idleTransactionMs ?? 60_000)
  const sessionPool = pool(options.sessionUrl, options.ca, max, options.bulk === true)
  const pooled = options.pooledUrl === undefined || options.pooledUrl === options.sessionUrl
  const requestPool = pooled ? sessionPool : pool(options.pooledUrl as string, options.ca, max)

  async function transaction<T>(work: (tx: Transaction) => Promise<T>, tx: TransactionOptions = {}): Promise<T> {
    const client = await checkout(requestPool)
    let broken: Error | undefined
    try {
      const isolation = tx.isolation === undefined ? '' : ` isolation level ${tx.isolation}`
      await client.query(
        `begin${isolation}${tx.readOnly === true ? ' read only' : ''}; set local idle_in_transaction_session_timeout = ${idleMs}`,
      )
      if (tx.lockTimeoutMs !== undefined) await client.query(`set local lock_timeout = ${Math.trunc(tx.lockTimeoutMs)}`)
      if (tx.statementTimeoutMs !== undefined) await client.query(`set local statement_timeout = ${Math.trunc(tx.statementTimeoutMs)}`)
      const result = await work({ kind: 'transaction', ...on(client) })
      await client.query('commit')
      return result
    } catch (error) {
      await client.query('rollback').catch((cause: Error) => {
        broken = cause
      })
      throw unavailable(error)
    } finally {
      client.release(broken)
    }
  }

  async function session<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const client = await checkout(sessionPool)
    let failed = true
    try {
      const result = await work({ client, ...on(client) })
      failed = false
      return result
    } catch (error) {
      throw unavailable(error)
    } finally {
      // A session may carry settings and locks that the next user must not inherit: after a failure it is closed.
      if (!failed) await client.query('discard all').catch(() => undefined)
      client.release(failed)
    }
  }

  async function probe<T extends Row>(
    sql: string,
    params: readonly unknown[],
    signal: AbortSignal,
    over: 'requests' | 'sessions' = 'requests',
  ): Promise<T[]> {
    const from = over === 'sessions' ? sessionPool : requestPool
    const client = await beforeAbort(checkout(from), signal, (late) => late.release())
    let closed = false
    const close = () => {
      closed = true
      client.release(true)
    }
    signal.addEventListener('abort', close, { once: true })
    try {
      return await beforeAbort(on(client).query<T>(sql, params), signal)
    } finally {
      signal.removeEventListener('abort', close)
      if (!closed) client.release()
    }
  }

  return {
    ...on(requestPool),
    transaction,
    session,
    probe,
    waiting: () => requestPool.waitingCount,
    sessionUrl: options.sessionUrl,
    async close() {
      await Promise.all([sessionPool.end(), ...(requestPool === sessionPool ? [] : [requestPool.end()])])
    },
  }
}

function pool(connectionString: string, ca: string | undefined, max: number, bulk = false): pg.Pool {
  const made = new pg.Pool({
    ...connectionOptions(connectionString, ca),
    ...(bulk ? { Client: BulkClient } : {}),
    max,
    idleTimeoutMillis: 5_000,
    connectionTimeoutMillis: 10_000,
    allowExitOnIdle: true,
  })
  // An idle connection that the server closes must not end the process; the next checkout makes a new one.
  made.on('error', () => undefined)
  // Nor may one that is held while nothing is asked of it: the next statement on it fails and says so.
  made.on('connect', (client) => client.on('error', () => undefined))
  return made
}

const sslModes: ReadonlySet<string> = new Set(['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify'])

/**
 * What `pg` needs to connect to `connectionString`, with the TLS that libpq's `sslmode=require` means for remote hosts:
 * encrypted always, verified where an authority is given (Supabase's is not in the public roots).
 */
export function connectionOptions(connectionString: string, ca?: string): pg.ClientConfig {
  let url: URL
  try {
    url = new URL(connectionString)
  } catch {
    throw new CaretakerError('invalid_input', 'The database URL is not a URL; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE.')
  }
  if (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:')
    throw new CaretakerError('invalid_input', `The database URL starts with "${url.protocol}//"; expected postgres:// or postgresql://.`)
  const base: pg.ClientConfig = { connectionString, application_name: 'caretaker', keepAlive: true }
  const local = url.hostname === '' || ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname) || url.searchParams.has('host')
  const mode = url.searchParams.get('sslmode')
  if (mode !== null && !sslModes.has(mode))
    throw new CaretakerError('invalid_input', `The database URL has sslmode=${mode}; expected ${[...sslModes].join(', ')}.`)
  if (local && mode === null) return base
  if (mode === 'disable') return base
  // pg reads sslmode itself and then ignores `ssl`; take it out so that one place decides.
  for (const name of ['sslmode', 'sslrootcert', 'ssl']) url.searchParams.delete(name)
  const pem = ca === undefined ? undefined : ca.includes('-----BEGIN') ? ca : readFileSync(ca, 'utf8')
  const verify = pem !== undefined || mode === 'verify-full' || mode === 'verify-ca'
  return {
    ...base,
    connectionString: url.toString(),
    ssl: { rejectUnauthorized: verify, ...(pem === undefined ? {} : { ca: pem }) },
  }
}

async function checkout(from: pg.Pool): Promise<pg.PoolClient> {
  try {
    return await from.connect()
  } catch (error) {
    throw unavailable(error)
  }
}

/** The result, or `timeout` as soon as `signal` aborts; what arrives after that is handed to `discard`. */
function beforeAbort<T>(work: Promise<T>, signal: AbortSignal, discard: (late: T) => void = () => undefined): Promise<T> {
  return new Promise((resolve, reject) => {
    let late = false
    const abort = () => {
      late = true
      reject(new CaretakerError('timeout', 'The database did not answer in time.'))
    }
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
    work
      .then(
        (result) => (late ? discard(result) : resolve(result)),
        (error: unknown) => reject(error),
      )
      .finally(() => signal.removeEventListener('abort', abort))
  })
}

function on(target: pg.Pool | pg.ClientBase): Queryable {
  return {
    async query<T extends Row>(sql: string, params: readonly unknown[] = []) {
      try {
        return (await target.query<T>(sql, params as unknown[])).rows
      } catch (error) {
        throw unavailable(error)
      }
    },
    async execute(sql, params = []) {
      try {
        return (await target.query(sql, params as unknown[])).rowCount ?? 0
      } catch (error) {
        throw unavailable(error)
      }
    },
  }
}

const unreachable = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EPIPE',
  'EAI_AGAIN',
  'ENOENT',
])
const shuttingDown = new Set(['57P01', '57P02', '57P03', '53300', '08000', '08003', '08006', '28P01', '28000', '3D000'])

/** Turns what a lost, refused or misdirected connection throws into `database_unavailable`; other errors pass as they are. */
function unavailable(error: unknown): unknown {
  if (error instanceof CaretakerError || !(error instanceof Error)) return error
  const state = sqlState(error)
  // FATAL ends the connection, whatever its state: a database that takes none, a pooler that knows no such tenant.
  const fatal = ['FATAL', 'PANIC'].includes(String((error as { severity?: unknown }).severity))
  if (state !== undefined && (fatal || shuttingDown.has(state)))
    return new CaretakerError(
      'database_unavailable',
      connectionProblem[state] ?? `The database closed or refused the connection (SQLSTATE ${state}).`,
      { cause: error },
    )
  const { code, syscall } = error as NodeJS.ErrnoException
  if (/does not support SSL connections/.test(error.message))
    return new CaretakerError(
      'database_unavailable',
      'The database server takes no TLS. A host that is not this machine is always asked for it, and so is one with sslmode in its URL: with ?sslmode=disable nothing is encrypted.',
      { cause: error },
    )
  if (code !== undefined && /^(?:CERT_|ERR_TLS_CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH)/.test(code))
    return new CaretakerError(
      'database_unavailable',
      `The certificate of the database server is not one to trust (${code}). DATABASE_CA names the authority that signs it; the host in the database URL has to be the one it is made for.`,
      { cause: error },
    )
  // No such socket, that is; a file that the work inside of a transaction did not find is not the database's.
  const foreign = code === 'ENOENT' && syscall !== 'connect'
  const lost =
    (code !== undefined && unreachable.has(code) && !foreign) ||
    /Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error/.test(error.message)
  if (!lost) return error
  return new CaretakerError(
    'database_unavailable',
    `The database cannot be reached (${code ?? 'connection lost'}). Check host and port in the database URL, and that it runs and lets this machine in.`,
    { cause: error },
  )
}

const connectionProblem: Record<string, string> = {
  '28P01': 'The database refused the password (SQLSTATE 28P01). Check the user and password in the database URL.',
  '28000': 'The database refused the user (SQLSTATE 28000). Check the user in the database URL.',
  '3D000': 'There is no database of that name on the server (SQLSTATE 3D000). Check the last part of the database URL.',
  '53300': 'The database has no connection left (SQLSTATE 53300). Lower DATABASE_POOL_MAX or use the pooler.',
}

/** `"name"`, quoted for SQL where a parameter cannot stand. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** `"schema"."name"`. */
export function qualified(schema: string, name: string): string {
  return `${identifier(schema)}.${identifier(name)}`
}
