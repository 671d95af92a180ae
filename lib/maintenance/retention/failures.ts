import { CaretakerError, sqlState } from '../../platform/errors.ts'

const refusals: Record<string, string> = {
  '23503':
    'another table still refers to the rows; let a rule for that table come first, take its rows along with "children", or give the foreign key an "on delete"',
  '23505': 'a row with the same unique key is already there; look whether rows were moved by hand before',
  '23502': 'a column that must not be null would be',
  '23514': 'a check constraint does not allow it',
  '22001': 'a value is longer than the column of the archive',
  '42501': 'the database role may not',
}

/** Gives a refusal of the database the sentence that says what to do; never the values of the row. */
export async function explainFailure<T>(label: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const state = sqlState(error)
    const reason = state === undefined ? undefined : refusals[state]
    if (reason === undefined) throw error
    const { table, constraint } = error as { table?: string; constraint?: string }
    const where = [constraint === undefined ? '' : `constraint ${constraint}`, table === undefined ? '' : `table ${table}`]
      .filter((part) => part !== '')
      .join(', ')
    throw new CaretakerError(
      'job_failed',
      `${label}: ${reason}${where === '' ? '' : ` (${where})`}. What was committed before stays; the batch was rolled back.`,
      { cause: error },
    )
  }
}
