import { CaretakerError, hasCode, sqlState } from '../platform/errors.ts'
import { describeError } from '../platform/log.ts'

/**
 * Says of a failure what failed, how far it was, why, and what to do. A refusal in words of its own stays as it is.
 * `bytes` are those that were read of `subject`; absent where it has none worth telling.
 */
export function dumpFailure(error: unknown, subject: string, bytes?: number): unknown {
  const far = bytes === undefined ? 'could not be stored' : `failed after ${bytes} bytes`
  if (hasCode(error, 'object_store_failed'))
    return new CaretakerError('object_store_failed', `${subject} ${far}: ${error.detail} ${adviceOnStore(error.detail)}`, { cause: error })
  if (hasCode(error, 'database_unavailable'))
    return new CaretakerError('database_unavailable', `${subject} failed${after(bytes)}: ${error.detail} ${again}`, { cause: error })
  if (error instanceof CaretakerError) return error
  const state = sqlState(error) ?? ''
  return new CaretakerError('backup_incomplete', `${subject} failed${after(bytes)}: ${messageOf(error)}. ${advice(state, error)}`, {
    cause: error,
  })
}

/** pg_dump's complaints come as text. */
export function schemaFailure(error: unknown): unknown {
  if (!hasCode(error, 'backup_incomplete')) return error
  const state = /permission denied|row-level security/.test(error.detail)
    ? '42501'
    : /out of shared memory/.test(error.detail)
      ? '53200'
      : ''
  return state === ''
    ? error
    : new CaretakerError('backup_incomplete', `${error.detail.replace(/\.$/, '')}. ${byState[state]}`, { cause: error })
}

function after(bytes: number | undefined): string {
  return bytes === undefined ? '' : ` after ${bytes} bytes`
}

/** What PostgreSQL said, without values of rows. */
function messageOf(error: unknown): string {
  return String(describeError(error).message).replace(/\.$/, '')
}

const again = 'Run the backup again when the database is up.'

function advice(state: string, error: unknown): string {
  const known = byState[state]
  if (known !== undefined) return known
  // Classes 57 and 08: the server or the network ended the connection.
  if (/^(57P|08)/.test(state) || (state === '' && isLost(error))) return again
  if (/^XX/.test(state)) return byState.XX001 as string
  return 'Run the backup again when the cause is removed.'
}

function isLost(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? ''
  return /^E[A-Z]+$/.test(code) || (error instanceof Error && /terminat|closed/i.test(error.message))
}

const byState: Readonly<Record<string, string>> = {
  '57014': 'Somebody canceled the statement (pg_cancel_backend), or a timeout of the pooler did. Run the backup again.',
  '40001':
    'A standby removes rows that the backup still reads: set hot_standby_feedback there, or raise max_standby_streaming_delay, or back up the primary.',
  '42501':
    'Grant the role what it lacks. Where row-level security hides rows from it, it needs BYPASSRLS; a backup never leaves rows out silently.',
  '53100': 'The disk of the database server is full. Free space there and run the backup again.',
  '53200':
    'The server has no memory left for it. Where it is for locks, raise max_locks_per_transaction (a backup locks every table on every connection), or lower backup.connections.',
  '22P05': 'A value is not what the encoding of the database says. Find and mend it; the table can be left out only with its schema.',
  '22021': 'A value is not what the encoding of the database says. Find and mend it; the table can be left out only with its schema.',
  XX001: 'The server cannot read its own files there. Look into its log, and keep the backups made before.',
}

function adviceOnStore(detail: string): string {
  if (/ENOSPC|EDQUOT/.test(detail)) return 'Free space there, or give another store; then run the backup again.'
  if (/EACCES|EPERM|EROFS/.test(detail)) return 'Let this user write there, or give another store; then run the backup again.'
  return 'Run the backup again when the store takes objects.'
}
