import type { Context } from '../platform/context.ts'
import type { Queryable } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { PlanLine } from '../platform/job.ts'
import { reading } from './session-settings.ts'
import { runAlone } from './statement-session.ts'
import type { Counts, Task, TaskProgress } from './task.ts'
import { maintained } from './vacuum.ts'

/** `REFRESH MATERIALIZED VIEW`, one task a view. */
export function refreshTasks(step: number, views: readonly string[], path: string): Task[] {
  return views.map((view, position) => ({
    label: `refresh ${view}`,
    step,
    changesRows: false,
    run: (ctx, progress) => refresh(ctx, view, `${path}.${position}`, progress),
    plan: (ctx) => planRefresh(ctx, view, `${path}.${position}`),
  }))
}

/**
 * Refreshes a view, concurrently where PostgreSQL can; otherwise readers wait meanwhile, and the result says so.
 * @throws {CaretakerError} `policy_invalid` for a view that is not there, `forbidden` naming the grant that is missing
 */
export async function refresh(ctx: Context, name: string, path: string, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const { table: view, problem } = await maintained(ctx, name, path, 'refresh')
  if (problem !== undefined) throw new CaretakerError('forbidden', problem)
  const obstacle = await reading(ctx, (tx) => concurrencyObstacle(tx, view.oid))
  const statement = `refresh materialized view ${obstacle === undefined ? 'concurrently ' : ''}${view.sql}`
  if ((await runAlone(ctx, `refresh ${view.label}`, statement, progress)) === 'hand-over') return 'hand-over'
  return obstacle === undefined ? { views: 1, mode: 'concurrent' } : { views: 1, mode: 'blocking', because: obstacle }
}

async function planRefresh(ctx: Context, name: string, path: string): Promise<PlanLine[]> {
  const { table: view, problem } = await maintained(ctx, name, path, 'refresh')
  const obstacle = await reading(ctx, (tx) => concurrencyObstacle(tx, view.oid))
  const warnings = [
    ...(problem === undefined ? [] : [problem]),
    ...(obstacle === undefined ? [] : [`readers of ${view.label} wait while it is refreshed, because ${obstacle}`]),
  ]
  return [
    {
      action: `refresh ${view.label}${obstacle === undefined ? ' concurrently' : ''}`,
      target: view.label,
      count: 1,
      unit: 'objects',
      ...(warnings.length === 0 ? {} : { warnings }),
    },
  ]
}

/** Why the view cannot be refreshed concurrently; undefined when it can. */
export async function concurrencyObstacle(db: Queryable, oid: number): Promise<string | undefined> {
  const [row] = await db.query<{ populated: boolean; usable: boolean }>(
    `select c.relispopulated as populated,
            exists (select from pg_index i join pg_class x on x.oid = i.indexrelid join pg_am m on m.oid = x.relam
                    where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
                      and m.amname = 'btree' and 0 <> all (i.indkey)) as usable
     from pg_class c where c.oid = $1::oid`,
    [oid],
  )
  if (row?.populated === false) return 'it has never been filled'
  if (row?.usable === false) return 'it has no unique index on plain columns without a condition'
  return undefined
}
