import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { PlanLine } from '../platform/job.ts'
import type { Counts, Task, TaskProgress } from '../platform/task.ts'
import { throwErrors } from './issue.ts'
import { maintainProblem } from './privileges.ts'
import { findRelation, isIssue, type Relation } from './relations.ts'
import { reading } from './session-settings.ts'
import { runAlone } from './statement-session.ts'

/** `VACUUM (ANALYZE)` of each table, one task a table. */
export function vacuumTasks(step: number, tables: readonly string[], path: string): Task[] {
  return tables.map((table, position) => ({
    label: `vacuum ${table}`,
    step,
    changesRows: false,
    run: (ctx, progress) => vacuum(ctx, table, `${path}.${position}`, progress),
    plan: (ctx) => planVacuum(ctx, table, `${path}.${position}`),
  }))
}

/**
 * Gives a table's dead rows back and renews its statistics. SKIP_LOCKED is not used: it would report success for a
 * table it did not touch.
 * @throws {CaretakerError} `policy_invalid` for a table that is not there, `forbidden` naming the grant that is missing
 */
export async function vacuum(ctx: Context, name: string, path: string, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const { table, problem } = await maintained(ctx, name, path, 'vacuum')
  if (problem !== undefined) throw new CaretakerError('forbidden', problem)
  const before = await deadRows(ctx, table.oid)
  if ((await runAlone(ctx, { label: `vacuum ${table.label}`, sql: `vacuum (analyze) ${table.sql}` }, progress)) === 'hand-over')
    return 'hand-over'
  return { tables: 1, deadRowsBefore: before }
}

async function planVacuum(ctx: Context, name: string, path: string): Promise<PlanLine[]> {
  const { table, problem } = await maintained(ctx, name, path, 'vacuum')
  const dead = await deadRows(ctx, table.oid)
  return [
    {
      action: `vacuum and analyse ${table.label} (about ${dead} dead rows)`,
      target: table.label,
      count: 1,
      unit: 'tables',
      ...(problem === undefined ? {} : { warnings: [problem] }),
    },
  ]
}

/** A table and what the role lacks to maintain it. */
export async function maintained(
  ctx: Pick<Context, 'db'>,
  name: string,
  path: string,
  verb: 'vacuum' | 'analyze' | 'refresh',
): Promise<{ table: Relation; problem: string | undefined }> {
  return reading(ctx, async (tx) => {
    const table = await findRelation(tx, name, verb === 'refresh' ? 'matview' : 'maintained', path)
    if (isIssue(table)) throwErrors([table])
    const relation = table as Relation
    return { table: relation, problem: await maintainProblem(tx, relation, verb) }
  })
}

async function deadRows(ctx: Pick<Context, 'db'>, oid: number): Promise<number> {
  const [row] = await ctx.db.query<{ dead: number }>('select coalesce(pg_stat_get_dead_tuples($1::oid), 0)::float8 as dead', [oid])
  return row?.dead ?? 0
}
