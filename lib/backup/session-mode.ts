import type { Session } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'

const mark = 'caretaker.session'

/**
 * Makes sure that each session is one: a pooler in transaction mode hands every transaction to another connection, and what was set, locked
 * or exported before stays behind. Rows would be read in other formats, or hidden by row security, without a word. Seen where there are at least
 * two: each is marked, then all are held at once.
 * @throws {CaretakerError} `invalid_input`
 */
export async function requireSessionMode(sessions: readonly Session[]): Promise<void> {
  if (sessions.length < 2) return
  for (const [at, session] of sessions.entries()) await session.query('select set_config($1, $2, false)', [mark, String(at)])
  const marks: (string | null | undefined)[] = []
  for (const session of sessions) {
    await session.execute('begin')
    const [row] = await session.query<{ mark: string | null }>('select current_setting($1, true) as mark', [mark])
    marks.push(row?.mark)
  }
  for (const session of sessions) await session.execute('rollback')
  if (marks.every((found, at) => found === String(at))) return
  throw new CaretakerError(
    'invalid_input',
    'The database URL leads to a pooler in transaction mode, where nothing lasts from one transaction to the next. Give the direct connection, or the pooler in session mode (at Supabase port 5432 instead of 6543).',
  )
}
