import { CaretakerError, sqlState } from '../lib/platform/errors.ts'
import { describeError } from '../lib/platform/log.ts'

/**
 * What a person can do something about, as a coded error; undefined for a defect, which is reported with its stack.
 * No value of a row is repeated: what PostgreSQL says is taken as the log takes it.
 */
export function expectedFailure(error: unknown): CaretakerError | undefined {
  if (error instanceof CaretakerError) return error
  if (!(error instanceof Error)) return undefined
  const state = sqlState(error)
  if (state !== undefined) return ofDatabase(error, state)
  const { code, path, syscall } = error as NodeJS.ErrnoException
  if (code !== undefined && path !== undefined && syscall !== undefined)
    return new CaretakerError('invalid_input', `${path}: ${ofFiles[code] ?? `${syscall} failed`} (${code}).`, { cause: error })
  return undefined
}

const ofFiles: Record<string, string> = {
  EACCES: 'this user may not open or make it',
  EPERM: 'this user may not open or make it',
  EROFS: 'the file system is read-only',
  ENOENT: 'the folder or file does not exist',
  ENOTDIR: 'a part of the path is no folder',
  EISDIR: 'it is a folder, expected a file',
  EEXIST: 'it is there already',
  ENOSPC: 'the disk is full',
}

function ofDatabase(error: Error, state: string): CaretakerError {
  const message = String(describeError(error).message)
  if ((state === '42P01' || state === '3F000') && /caretaker\./.test(message))
    return new CaretakerError('not_configured', 'This database has no Caretaker tables yet. Run `caretaker db migrate` on it first.', {
      cause: error,
    })
  const advice =
    state === '42501'
      ? ' The role of the database URL lacks a right; use one that has it.'
      : state === '25006'
        ? ' The database, or the role, is read-only.'
        : ''
  return new CaretakerError('database_error', `The database refused a statement: ${message} (SQLSTATE ${state}).${advice}`, {
    cause: error,
  })
}
