import { type Database, openDatabase, type Session } from '../platform/db.ts'
import { endSession } from './end-session.ts'
import { requireSessionMode } from './session-mode.ts'

/**
 * Opens `count` connections of their own in session mode, runs `work` and closes them. After a failure they are closed
 * hard: a COPY may be under way on any of them. A pooler in transaction mode is refused (`invalid_input`). When `signal` aborts they are ended at once, also where they wait for a lock, and
 * `work` fails with its reason.
 */
export async function withSessions<T>(
  databaseUrl: string,
  ca: string | undefined,
  count: number,
  work: (sessions: Session[]) => Promise<T>,
  signal: AbortSignal = new AbortController().signal,
): Promise<T> {
  signal.throwIfAborted()
  const db = openDatabase({ sessionUrl: databaseUrl, ca, maxConnections: count, bulk: true })
  const open: Session[] = []
  let ended: Promise<unknown> = Promise.resolve()
  const stop = () => {
    ended = Promise.all(open.map((session) => endSession(session.client)))
  }
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await openNext(db, count, open, work, signal)
  } catch (error) {
    throw signal.aborted ? signal.reason : error
  } finally {
    signal.removeEventListener('abort', stop)
    await ended
    // One that is still being made is not waited for.
    const closed = db.close()
    if (!signal.aborted) await closed
    else closed.catch(() => undefined)
  }
}

function openNext<T>(
  db: Database,
  count: number,
  open: Session[],
  work: (sessions: Session[]) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  if (open.length === count) return requireSessionMode(open).then(() => work(open))
  return new Promise<T>((done, fail) => {
    const stop = () => fail(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
    db.session(async (session) => {
      signal.removeEventListener('abort', stop)
      signal.throwIfAborted()
      // A connection that breaks while it stands idle says so here; the next statement on it fails and is reported.
      const ignore = () => undefined
      session.client.on('error', ignore)
      open.push(session)
      try {
        return await openNext(db, count, open, work, signal)
      } finally {
        session.client.removeListener('error', ignore)
      }
    })
      .then(done, fail)
      .finally(() => signal.removeEventListener('abort', stop))
  })
}

/** Runs `work` for every item, at most one a worker at a time, in the order given. The first failure stops the rest. */
export async function shareOut<W, T>(
  workers: readonly W[],
  items: readonly T[],
  work: (worker: W, item: T) => Promise<void>,
): Promise<void> {
  const waiting = [...items]
  let failed = false
  const settled = await Promise.allSettled(
    workers.map(async (worker) => {
      for (let item = waiting.shift(); item !== undefined && !failed; item = waiting.shift()) {
        try {
          await work(worker, item)
        } catch (error) {
          failed = true
          throw error
        }
      }
    }),
  )
  for (const outcome of settled) if (outcome.status === 'rejected') throw outcome.reason
}

/**
 * Settings that make the text of a value the same on any server and that no default may shorten: Supabase ends
 * statements of the usual roles after two minutes.
 */
export async function pinSession(session: Session, versionNumber: number, options: { lockTimeoutMs: number }): Promise<void> {
  const settings: Record<string, string> = {
    statement_timeout: '0',
    lock_timeout: String(options.lockTimeoutMs),
    idle_in_transaction_session_timeout: '0',
    ...(versionNumber >= 170_000 ? { transaction_timeout: '0' } : {}),
    ...(versionNumber >= 140_000 ? { idle_session_timeout: '0' } : {}),
    // The database itself may have it on, a restored one too.
    default_transaction_read_only: 'off',
    row_security: 'off',
    search_path: '',
    ...valueSettings,
    synchronize_seqscans: 'off',
    ...namesAsUsual,
    // Off, it makes of NULL in an array a text of four letters.
    array_nulls: 'on',
    client_min_messages: 'error',
  }
  for (const [name, value] of Object.entries(settings)) await session.query(`select set_config($1, $2, false)`, [name, value])
  // Known since the fixes of CVE-2024-7348: keeps a view from standing in for a table between two statements.
  await session.query(
    `select set_config(name, 'view,foreign-table', false) from pg_catalog.pg_settings where name = 'restrict_nonsystem_relation_kind'`,
  )
}

/** A value may be a name, of a table say. (Not with the others: what psql loads of a backup begins with those, to the letter.) */
const namesAsUsual = { quote_all_identifiers: 'off' } as const

/** A statement that sets all that text depends on which the server makes of values, expressions and names, whatever database or role say. */
export function textSettingsSql(): string {
  return `select ${Object.entries(textSettings)
    .map(([name, value]) => `pg_catalog.set_config('${name}', '${value}', false)`)
    .join(', ')}`
}

/** The settings a value's text depends on: the same when it is written, loaded and compared. */
export const valueSettings: Readonly<Record<string, string>> = {
  client_encoding: 'UTF8',
  datestyle: 'ISO, YMD',
  intervalstyle: 'postgres',
  timezone: 'UTC',
  extra_float_digits: '3',
  bytea_output: 'hex',
  lc_monetary: 'C',
  xmloption: 'content',
  standard_conforming_strings: 'on',
}

/** By names in lower case. */
export const textSettings: Readonly<Record<string, string>> = { ...valueSettings, ...namesAsUsual }

/** `170010` for 17.10. */
export async function serverVersion(session: Session): Promise<{ number: number; text: string }> {
  const [row] = await session.query<{ number: number; text: string }>(
    `select current_setting('server_version_num')::int as number, current_setting('server_version') as text`,
  )
  return row as { number: number; text: string }
}
