import { CaretakerError, sqlState } from '../platform/errors.ts'

/** What the database would not do, by names only: its own messages quote values. Other errors come back as they are. */
export function databaseRefusal(error: unknown, during: 'export' | 'erasure' | 'plan'): unknown {
  const state = sqlState(error)
  if (error instanceof CaretakerError || state === undefined) return error
  const { schema, table, constraint } = error as { schema?: string; table?: string; constraint?: string }
  const on = table === undefined ? '' : ` on ${schema === undefined ? '' : `${schema}.`}${table}`
  const by = constraint === undefined ? '' : ` by constraint ${constraint}`
  // Row level security is reported as a missing privilege, because these sessions refuse to see only a part.
  const hint =
    state === '42501'
      ? ' The database user may not see or change every row of a table that the person has rows in; use one that owns the tables.'
      : ''
  return new CaretakerError(
    'database_error',
    `The database refused a statement of the ${during}${on}${by} (SQLSTATE ${state}); nothing was changed.${hint}`,
    { cause: error },
  )
}
