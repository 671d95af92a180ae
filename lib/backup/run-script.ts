import type { Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { shareOut } from './sessions.ts'
import { type Statement, splitStatements } from './sql/split-statements.ts'
import { entryOf, isPlatformSchema, type PlatformObjects } from './supabase.ts'

/** How the target is to be treated. */
export interface ScriptRules {
  restrictKey: string
  /** In a Supabase project: what is there before the restore, and stays as it is. null elsewhere. */
  platform: PlatformObjects | null
}

export interface Executed {
  skipped: { statement: string; reason: string }[]
}

/**
 * Runs a script of the backup statement by statement over the protocol, never through psql.
 * @throws {CaretakerError} `database_error` naming the object and the server's message
 */
export async function runScript(session: Session, script: string, rules: ScriptRules): Promise<Executed> {
  return runStatements(session, splitStatements(script, rules.restrictKey), rules)
}

async function runStatements(session: Session, statements: readonly Statement[], rules: ScriptRules): Promise<Executed> {
  const skipped: Executed['skipped'] = []
  let platform = 0
  for (const statement of statements) {
    if (rules.platform?.statements.has(statement.sql) === true && statement.type !== undefined) continue
    try {
      await session.client.query(statement.sql)
    } catch (error) {
      const reason = error instanceof Error ? error.message : 'unknown'
      switch (refusal(statement, sqlState(error), rules)) {
        case 'there already':
          break
        case "the platform's":
          platform++
          break
        case 'report':
          skipped.push({ statement: firstLine(statement.sql), reason })
          break
        default: {
          const what = statement.type === undefined ? firstLine(statement.sql) : `${statement.type.toLowerCase()} ${statement.name}`
          throw new CaretakerError('database_error', `The target refused ${what}: ${reason} (SQLSTATE ${sqlState(error) ?? '?'}).`, {
            cause: error,
          })
        }
      }
    }
  }
  if (platform > 0)
    skipped.push({
      statement: `${platform} definitions of Supabase's own objects`,
      reason: 'the target has them in a version of its own',
    })
  return { skipped }
}

/**
 * Runs what comes after the data: indexes first, on all sessions at once (those of one table one after the other, because
 * a constraint locks it), then the rest in its order. An index that needs something of the rest waits for it.
 */
export async function runPostData(
  sessions: readonly Session[],
  script: string,
  rules: ScriptRules,
  onIndex: (name: string) => void,
): Promise<Executed> {
  const [main] = sessions
  if (main === undefined) throw new CaretakerError('internal', 'A restore needs a connection.')
  const statements = splitStatements(script, rules.restrictKey)
  // pg_dump changes a setting between two entries only for tablespaces; which index it is for would be lost.
  const firstEntry = statements.findIndex((statement) => statement.type !== undefined)
  if (statements.slice(Math.max(0, firstEntry)).some((statement) => /^set /i.test(statement.sql)))
    return runStatements(main, statements, rules)
  const byTable = new Map<string, Statement[]>()
  for (const statement of statements) {
    if (rules.platform?.statements.has(statement.sql) === true) continue
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
  return runStatements(
    main,
    statements.filter((statement) => !built.has(statement)),
    rules,
  )
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

const refused = '42501'
/** What says how an object is used, not what it is. */
const secondary = new Set(['ACL', 'DEFAULT ACL', 'COMMENT', 'SECURITY LABEL'])

/** What a failed statement means; undefined when the restore must end. */
function refusal(
  statement: Statement,
  state: string | undefined,
  rules: ScriptRules,
): 'there already' | "the platform's" | 'report' | undefined {
  const { sql, type = '', schema = '-' } = statement
  // A setting of a newer pg_dump that this server does not have.
  if (state === '42704' && /^set [a-z_]+ = /i.test(sql)) return 'there already'
  if (rules.platform !== null && state !== undefined) {
    // The same object in another version: the platform's migrations made it, and they go on from there.
    if (rules.platform.entries.has(entryOf(statement))) return "the platform's"
    if (isPlatformSchema(schema) && /^(42501|42P01|42883|42703|42704|3F000)$/.test(state)) return 'report'
  }
  if (state !== refused) return undefined
  if (secondary.has(type) || type === 'EVENT TRIGGER') return 'report'
  // What only a superuser or the owner may do, and the data does not need.
  return /^(alter .* owner to|create role|do 'begin if not exists \(select from pg_catalog.pg_roles)/i.test(sql) ? 'report' : undefined
}

function firstLine(sql: string): string {
  const line = sql.split('\n', 1)[0] ?? ''
  return line.length > 120 ? `${line.slice(0, 119)}…` : line
}
