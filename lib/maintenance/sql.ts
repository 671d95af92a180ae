import { createHash } from 'node:crypto'
import type { Context } from '../platform/context.ts'
import { remainingMs } from '../platform/context.ts'
import type { Session, Transaction } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import type { PlanLine } from '../platform/job.ts'
import { describeError } from '../platform/log.ts'
import type { Counts, PlannedChanges, Task, TaskProgress } from '../platform/task.ts'
import { type PlanNode, planOf } from './explain.ts'
import { errorAt, type Issue, throwErrors } from './issue.ts'
import { withLockRetry } from './lock-retry.ts'
import { reading } from './session-settings.ts'
import { lex } from './statement.ts'

/** One statement of the policy's own, as a task. */
export function sqlTasks(step: number, sql: string, path: string): Task[] {
  return [
    {
      label: sqlLabel(sql),
      step,
      changesRows: true,
      run: (ctx, progress) => runSql(ctx, sql, path, progress),
      plan: (ctx, before) => planSql(ctx, sql, path, before),
    },
  ]
}

/** Its first words and a digest: readable, and the same as long as the statement is. */
export function sqlLabel(sql: string): string {
  return `sql ${lex(sql).words.slice(0, 4).join(' ')} (${createHash('sha256').update(sql.trim()).digest('hex').slice(0, 8)})`
}

/**
 * Runs the statement in one transaction with the checkpoint that says it is done: it takes effect exactly once, however
 * often the run is killed.
 * @throws {CaretakerError} `policy_invalid` for what cannot work inside a transaction, `job_failed` with PostgreSQL's words otherwise
 */
export async function runSql(ctx: Context, sql: string, path: string, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  throwErrors(sqlIssues(sql, path))
  const leftMs = () => remainingMs(ctx) - 3_000
  if (leftMs() < 2_000) return 'hand-over'
  try {
    return await withLockRetry(ctx, sqlLabel(sql), { tries: 5, firstPauseMs: 250, stop: progress.stop }, () =>
      ctx.db.session((session) =>
        inTransaction(session, async (tx) => {
          await tx.execute(`set local lock_timeout = 2000`)
          await tx.execute(`set local statement_timeout = ${Math.max(1, Math.trunc(Math.min(leftMs(), progress.budgetMs())))}`)
          // The extended protocol takes one statement: the server's own parser refuses a second one.
          const result = await session.client.query({ text: sql, queryMode: 'extended' } as { text: string })
          const counts = { rows: result.rowCount ?? 0 }
          await progress.finish(counts, tx)
          return counts
        }),
      ),
    )
  } catch (error) {
    const state = sqlState(error)
    if (state === undefined || !(error instanceof Error)) throw error
    const hint = hints[state]
    if (hint !== undefined)
      throw new CaretakerError('policy_invalid', `${path}: ${hint}`, { cause: error, issues: [{ path, message: hint }] })
    if (state === '57014')
      throw new CaretakerError('timeout', `${sqlLabel(sql)} was ended before it was done: its time was over. Nothing of it took effect.`, {
        cause: error,
      })
    throw new CaretakerError(
      'job_failed',
      `${sqlLabel(sql)}: PostgreSQL refused it: ${String(describeError(error).message)} (SQLSTATE ${state}). Nothing of it took effect.`,
      { cause: error },
    )
  }
}

const hints: Record<string, string> = {
  '25001':
    'found a statement that PostgreSQL refuses inside a transaction, where this one runs; expected another, or one of the steps vacuum, reindex, refresh',
  '2D000':
    'found a procedure or block that commits; expected one that leaves that to its caller, because the statement runs in one transaction with its checkpoint',
}

/** A transaction on a session of its own, so that settings the statement leaves behind reach nobody else. */
async function inTransaction<T>(session: Session, work: (tx: Transaction) => Promise<T>): Promise<T> {
  await session.execute('begin')
  try {
    const result = await work({ kind: 'transaction', query: session.query, execute: session.execute })
    await session.execute('commit')
    return result
  } catch (error) {
    await session.execute('rollback').catch(() => undefined)
    throw error
  }
}

const transactionControl = new Set(['begin', 'start', 'commit', 'end', 'rollback', 'abort', 'savepoint', 'release'])
const sessionBound = new Set([
  'set',
  'reset',
  'discard',
  'listen',
  'unlisten',
  'declare',
  'fetch',
  'move',
  'close',
  'prepare',
  'execute',
  'deallocate',
  'load',
  'lock',
])
const outside: [pattern: RegExp, instead: string][] = [
  [/^vacuum\b/, 'use the step { vacuum: [TABLE] }'],
  [/^reindex\b.*\bconcurrently\b/, 'use the step { reindex: [INDEX] }'],
  [/^reindex (\w+ )?(database|system|schema)\b/, 'use the step { reindex: [INDEX] }'],
  [/^create (unique )?index concurrently\b/, 'make indexes in a migration'],
  [/^drop index concurrently\b/, 'drop indexes in a migration'],
  [/^(create|drop|alter) (database|tablespace|system|subscription)\b/, 'run it by hand'],
  [/^alter table\b.*\bdetach partition\b.*\bconcurrently\b/, 'leave out "concurrently", or run it by hand'],
  [/^cluster$/, 'name the table'],
  [/^copy\b.*\b(stdin|stdout)\b/, 'nothing is at the other end of it here'],
]

/** What cannot work in the way a statement of the policy is run: alone, in one transaction, once. */
export function sqlIssues(sql: string, path: string): Issue[] {
  const lexed = lex(sql)
  const [first] = lexed.words
  const shown = `found "${lexed.words.slice(0, 4).join(' ')}…"`
  if (lexed.unterminated !== null) return [errorAt(path, `has an unterminated ${lexed.unterminated}`)]
  if (first === undefined) return [errorAt(path, 'found no statement, expected one')]
  const rest = lexed.semicolons[0] === undefined ? '' : sql.slice(lexed.semicolons[0] + 1)
  if (lex(rest).words.length > 0 || lexed.semicolons.length > 1)
    return [errorAt(path, 'found several statements, expected one; give each a step of its own')]
  if (lexed.parameters.length > 0)
    return [errorAt(path, `found the parameter ${lexed.parameters[0]}, expected a statement without parameters`)]
  if (transactionControl.has(first))
    return [
      errorAt(
        path,
        `${shown}, which begins or ends a transaction; expected a statement, because each runs in a transaction of its own${first === 'begin' ? ' (a block of PL/pgSQL is written: do $$ begin … end $$)' : ''}`,
      ),
    ]
  if (sessionBound.has(first))
    return [errorAt(path, `${shown}, whose effect ends with the session; expected a statement that changes or computes something`)]
  const text = lexed.words.join(' ')
  for (const [pattern, instead] of outside)
    if (pattern.test(text))
      return [errorAt(path, `${shown}, which PostgreSQL refuses inside a transaction, where statements of the policy run; ${instead}`)]
  return []
}

const explainable = new Set(['select', 'insert', 'update', 'delete', 'merge', 'with', 'values', 'table'])

async function planSql(ctx: Context, sql: string, path: string, before: PlannedChanges): Promise<PlanLine[]> {
  throwErrors(sqlIssues(sql, path))
  const line: PlanLine = { action: `run ${sqlLabel(sql)}`, target: 'database', count: null, unit: 'rows' }
  before.unknown = true
  if (!explainable.has(lex(sql).words[0] ?? '')) return [line]
  try {
    const plan = await reading(ctx, (tx) => planOf(tx, sql.replace(/;\s*$/, '')))
    return [{ ...line, count: affected(plan), estimated: true }]
  } catch (error) {
    const state = sqlState(error)
    if (state === undefined || !(error instanceof Error)) throw error
    return [{ ...line, warnings: [`PostgreSQL would refuse it: ${error.message} (SQLSTATE ${state})`] }]
  }
}

/** The planner's estimate of what a statement touches: what feeds the change, or what a query returns. */
function affected(plan: PlanNode): number {
  const node = plan['Node Type'] === 'ModifyTable' ? plan.Plans?.[0] : plan
  return node?.['Plan Rows'] ?? 0
}
