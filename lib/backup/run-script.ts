import type { Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { splitStatements } from './sql/split-statements.ts'

export interface Executed {
  statements: number
  skipped: { statement: string; reason: string }[]
}

/**
 * Runs a script of the backup statement by statement over the protocol, never through psql.
 * @throws {CaretakerError} `database_error` naming the object and the server's message
 */
export async function runScript(session: Session, script: string, restrictKey: string): Promise<Executed> {
  const skipped: Executed['skipped'] = []
  const statements = splitStatements(script, restrictKey)
  for (const statement of statements) {
    try {
      await session.client.query(statement.sql)
    } catch (error) {
      const reason = error instanceof Error ? error.message : 'unknown'
      const why = mayBeSkipped(statement.sql, sqlState(error))
      if (why === 'silent') continue
      if (why === 'report') {
        skipped.push({ statement: firstLine(statement.sql), reason })
        continue
      }
      const what = statement.type === undefined ? firstLine(statement.sql) : `${statement.type.toLowerCase()} ${statement.name}`
      throw new CaretakerError('database_error', `The target refused ${what}: ${reason} (SQLSTATE ${sqlState(error) ?? '?'}).`, {
        cause: error,
      })
    }
  }
  return { statements: statements.length, skipped }
}

function mayBeSkipped(sql: string, state: string | undefined): 'silent' | 'report' | undefined {
  // A setting of a newer pg_dump that this server does not have.
  if (state === '42704' && /^set [a-z_]+ = /i.test(sql)) return 'silent'
  // What only a superuser or the owner may do, and the data does not need.
  if (
    state === '42501' &&
    /^(comment on extension|alter .* owner to|create role|do 'begin if not exists \(select from pg_catalog.pg_roles)/i.test(sql)
  )
    return 'report'
  return undefined
}

function firstLine(sql: string): string {
  const line = sql.split('\n', 1)[0] ?? ''
  return line.length > 120 ? `${line.slice(0, 119)}…` : line
}
