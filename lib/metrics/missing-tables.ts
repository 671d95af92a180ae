import { CaretakerError, sqlState } from '../platform/errors.ts'

/**
 * What becomes of an error: in a database without Caretaker's tables nothing is a defect.
 * @throws {CaretakerError} `not_configured` in that case, otherwise what it was given
 */
export function missingTables(cause: unknown): never {
  const state = sqlState(cause)
  if (state === '42P01' || state === '3F000')
    throw new CaretakerError('not_configured', 'This database has no tables for metrics yet. Run `caretaker db migrate` on it.', { cause })
  throw cause
}
