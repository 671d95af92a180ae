import type { Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { shareOut } from './sessions.ts'
import { type Statement, splitStatements } from './sql/split-statements.ts'

export interface Executed {
  statements: number
  skipped: { statement: string; reason: string }[]
}

/**
 * Runs a script of the backup statement by statement over the protocol, never through psql.
 * @throws {CaretakerError} `database_error` naming the object and the server's message
 */
export async function runScript(session: Session, script: string, restrictKey: string): Promise<Executed> {
  return runStatements(session, splitStatements(script, restrictKey))
}

async function runStatements(session: Session, statements: readonly Statement[]): Promise<Executed> {
  const skipped: Executed['skipped'] = []
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

/**
 * Runs what comes after the data: indexes first, on all sessions at once (those of one table one after the other, because
 * a constraint locks it), then the rest in its order. An index that needs something of the rest waits for it.
 */
export async function runPostData(
  sessions: readonly Session[],
  script: string,
  restrictKey: string,
  onIndex: (name: string) => void,
): Promise<Executed> {
  const [main] = sessions
  if (main === undefined) throw new CaretakerError('internal', 'A restore needs a connection.')
  const statements = splitStatements(script, restrictKey)
  // pg_dump changes a setting between two entries only for tablespaces; which index it is for would be lost.
  const firstEntry = statements.findIndex((statement) => statement.type !== undefined)
  if (statements.slice(Math.max(0, firstEntry)).some((statement) => /^set /i.test(statement.sql))) return runStatements(main, statements)
  const byTable = new Map<string, Statement[]>()
  for (const statement of statements) {
    const table = indexedTable(statement)
    if (table !== undefined) byTable.set(table, [...(byTable.get(table) ?? []), statement])
  }
  const built = new Set<Statement>()
  await shareOut(sessions, [...byTable.values()], async (session, group) => {
    for (const statement of group) {
      onIndex(statement.name ?? '')
      try {
        await session.client.query(statement.sql)
        built.add(statement)
      } catch {
        // In its own place it either succeeds or says why.
        return
      }
    }
  })
  const rest = await runStatements(
    main,
    statements.filter((statement) => !built.has(statement)),
  )
  return { statements: statements.length, skipped: rest.skipped }
}

const part = '(?:"(?:[^"]|"")+"|[^\\s".(]+)'
const indexStatement = new RegExp(`^create (?:unique )?index ${part} on (?:only )?(${part}\\.${part})`, 'i')
const constraintStatement = new RegExp(
  `^alter table (?:only )?(${part}\\.${part})\\s+add constraint ${part} (?:primary key|unique|exclude)`,
  'i',
)

/** The table that a statement builds an index on, or undefined when it builds none. */
function indexedTable(statement: Statement): string | undefined {
  if (statement.type === 'INDEX') return indexStatement.exec(statement.sql)?.[1]
  if (statement.type === 'CONSTRAINT') return constraintStatement.exec(statement.sql)?.[1]
  return undefined
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
