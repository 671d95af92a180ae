import type { Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { describeError } from '../platform/log.ts'
import { type Statement, splitStatements } from './sql/split-statements.ts'
import { entryOf, isPlatformSchema, type PlatformObjects } from './supabase.ts'

/** How the target is to be treated. */
export interface ScriptRules {
  restrictKey: string
  /** In a Supabase project: what is there before the restore, and stays as it is. null elsewhere. */
  platform: PlatformObjects | null
}

/** What was left out because the target refused it, and the data does not need it. */
export interface Skipped {
  statement: string
  reason: string
}

export interface Executed {
  skipped: Skipped[]
}

/**
 * Runs a script of the backup statement by statement over the protocol, never through psql.
 * @throws {CaretakerError} `database_error` naming the object and the server's message
 */
export async function runScript(session: Session, script: string, rules: ScriptRules): Promise<Executed> {
  const skipped: Skipped[] = []
  let platform = 0
  for (const statement of splitStatements(script, rules.restrictKey)) {
    const outcome = await runStatement(session, statement, rules)
    if (outcome === "the platform's") platform++
    else if (typeof outcome === 'object') skipped.push(outcome)
  }
  return { skipped: skipped.concat(platformSkipped(platform)) }
}

/** How `count` statements are reported that the platform has in versions of its own. */
export function platformSkipped(count: number): Skipped[] {
  if (count === 0) return []
  return [{ statement: `${count} definitions of Supabase's own objects`, reason: 'the target has them in a version of its own' }]
}

/**
 * Runs one statement, and `also` in the same transaction.
 * @returns `done` when both have been; otherwise neither has: because it is there already, in whatever version, or was refused
 * @throws {CaretakerError} `database_error` naming the object and the server's message
 */
export async function runStatement(
  session: Session,
  statement: Statement,
  rules: ScriptRules,
  also?: string,
): Promise<'done' | 'there already' | "the platform's" | Skipped> {
  if (statement.type !== undefined && rules.platform?.statements.has(statement.sql) === true) return 'there already'
  try {
    // Several statements in one message are one transaction.
    await session.client.query(also === undefined ? statement.sql : `${statement.sql}\n;${also}`)
    return 'done'
  } catch (error) {
    const reason = String(describeError(error).message)
    const meaning = refusal(statement, sqlState(error), rules)
    if (meaning === 'report') return { statement: firstLine(statement.sql), reason }
    const broken = await brokenByRows(session, statement, error, also)
    if (broken !== null) return broken
    if (meaning !== undefined) return meaning
    const what = statement.type === undefined ? firstLine(statement.sql) : `${statement.type.toLowerCase()} ${statement.name}`
    const state = sqlState(error)
    if (isLost(error))
      throw new CaretakerError('database_unavailable', `The connection to the target broke at ${what}: ${reason}.`, { cause: error })
    const bySuperuser = statement.type === 'EXTENSION' && state === refused ? ` Let a superuser do it: ${firstLine(statement.sql)}` : ''
    throw new CaretakerError('database_error', `The target refused ${what}: ${reason} (SQLSTATE ${state ?? '?'}).${bySuperuser}`, {
      cause: error,
    })
  }
}

/** True where the connection is gone, and not the statement was wrong. */
export function isLost(error: unknown): boolean {
  const state = sqlState(error)
  return state === undefined ? error instanceof Error && !(error instanceof CaretakerError) : /^(?:08|57P)/.test(state)
}

const refused = '42501'
/** What says how an object is used, not what it is. */
const secondary = new Set(['ACL', 'DEFAULT ACL', 'COMMENT', 'SECURITY LABEL', 'PUBLICATION', 'SUBSCRIPTION'])

/** What a failed statement means; undefined when the restore must end. */
function refusal(
  statement: Statement,
  state: string | undefined,
  rules: ScriptRules,
): 'there already' | "the platform's" | 'report' | undefined {
  const { sql, type = '', schema = '-' } = statement
  // A setting of a newer pg_dump that this server does not have.
  if (state === '42704' && /^set [a-z_]+ = /i.test(sql)) return 'there already'
  // Older releases wrote tablespaces down. Where one is missing, the default will do.
  if (state === '22023' && /^set default_tablespace = /i.test(sql)) return 'report'
  if (rules.platform !== null && state !== undefined) {
    // The same object in another version: the platform's migrations made it, and they go on from there.
    if (rules.platform.entries.has(entryOf(statement))) return "the platform's"
    if (isPlatformSchema(schema) && /^(42501|42P01|42883|42703|42704|3F000)$/.test(state)) return 'report'
  }
  // What is said of one that was refused itself.
  if (state === '42704' && /^(?:PUBLICATION|SUBSCRIPTION|EVENT TRIGGER)\b/.test(type === 'COMMENT' ? (statement.name ?? '') : type))
    return 'report'
  if (state !== refused) return undefined
  if (secondary.has(type) || type === 'EVENT TRIGGER') return 'report'
  // What only a superuser or the owner may do, and the data does not need.
  return /^(alter .* owner to|create role|do 'begin if not exists \(select from pg_catalog.pg_roles)/i.test(sql) ? 'report' : undefined
}

/** Failures that say nothing of the rows: a lock, a deadlock, no room, the server or the operator. */
const passing = /^(?:08|40|53|55P03|57|58|XX)/

/**
 * What the rows themselves break: a source may hold rows that its own foreign keys (written while those were off) or unique indexes
 * (damaged by another version of a collation) forbid, and a materialised view that can no longer be filled. No attempt more would
 * change that. The rows are what matters: a foreign key is made without a look at them, and what cannot be made is left out.
 * @returns null where it is none of this
 */
async function brokenByRows(session: Session, statement: Statement, error: unknown, also?: string): Promise<Skipped | null> {
  const state = sqlState(error)
  const { type, sql } = statement
  if (state === undefined) return null
  const skipped = (reason: string): Skipped => ({ statement: sql.replace(/\s+/g, ' '), reason })
  if (type === 'MATERIALIZED VIEW DATA' && !passing.test(state))
    return skipped(
      `the view could not be filled (${String(describeError(error).message)}, SQLSTATE ${state}); it is there, and refuses to be read until it is`,
    )
  if ((type === 'INDEX' || type === 'CONSTRAINT') && (state === '23505' || state === '23P01'))
    return skipped(
      'rows are there more than once, as in the source, whose own index must be damaged; it is not made. Remove what is twice, and run it',
    )
  if (type !== 'FK CONSTRAINT') return null
  const madeSo = 'rows break it, as in the source; it is NOT VALID, which holds for what is written from now on'
  if (state === '42830') return skipped('the key that it refers to could not be made')
  if (state !== '23503') return null
  // The second of two steps: see `makeForeignKey`.
  if (/^alter table .* validate constraint /is.test(sql)) return skipped(madeSo)
  const unproven = `${sql.replace(/;$/, '')} not valid`
  try {
    await session.client.query(also === undefined ? unproven : `${unproven}\n;${also}`)
    return skipped(madeSo)
  } catch (again) {
    // A partitioned table has none of that kind before PostgreSQL 18.
    if (!/^(?:0A000|42)/.test(sqlState(again) ?? '')) throw again
    return skipped('rows break it, as in the source; it is not made')
  }
}

function firstLine(sql: string): string {
  const line = sql.split('\n', 1)[0] ?? ''
  return line.length > 120 ? `${line.slice(0, 119)}…` : line
}
