import type { Context } from '../platform/context.ts'
import { identifier, type Queryable } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import type { PlanLine } from '../platform/job.ts'
import type { Counts, Task, TaskProgress } from '../platform/task.ts'
import type { Relation } from './relations.ts'
import { reading } from './session-settings.ts'
import { runAlone } from './statement-session.ts'
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
  const sql = `refresh materialized view ${obstacle === undefined ? 'concurrently ' : ''}${view.sql}`
  if ((await runAlone(ctx, { label: `refresh ${view.label}`, sql }, progress)) === 'hand-over') return 'hand-over'
  return obstacle === undefined ? { views: 1, mode: 'concurrent' } : { views: 1, mode: 'blocking', because: obstacle }
}

async function planRefresh(ctx: Context, name: string, path: string): Promise<PlanLine[]> {
  const { table: view, problem } = await maintained(ctx, name, path, 'refresh')
  const blocking = await blockingRefresh(ctx, view)
  const warnings = [problem, blocking].filter((warning) => warning !== undefined)
  return [
    {
      action: `refresh ${view.label}${blocking === undefined ? ' concurrently' : ''}`,
      target: view.label,
      count: 1,
      unit: 'objects',
      ...(warnings.length === 0 ? {} : { warnings }),
    },
  ]
}

/** That readers wait while the view is refreshed, why, and the statement that changes it; undefined when they do not. */
export async function blockingRefresh(ctx: Pick<Context, 'db'>, view: Relation): Promise<string | undefined> {
  const obstacle = await reading(ctx, (tx) => concurrencyObstacle(tx, view.oid))
  if (obstacle === undefined) return undefined
  const sentence = `readers of ${view.label} wait while it is refreshed, because ${obstacle}`
  if (obstacle === neverFilled) return sentence
  const key = await uniqueColumns(ctx, view)
  return key === undefined
    ? `${sentence}: create unique index on ${view.sql} (the columns that tell its rows apart)`
    : `${sentence}: create unique index on ${view.sql} (${key.map(identifier).join(', ')})`
}

const neverFilled = 'it has never been filled'

/** Why the view cannot be refreshed concurrently; undefined when it can. */
async function concurrencyObstacle(db: Queryable, oid: number): Promise<string | undefined> {
  const [row] = await db.query<{ populated: boolean; usable: boolean }>(
    `select c.relispopulated as populated,
            exists (select from pg_index i join pg_class x on x.oid = i.indexrelid join pg_am m on m.oid = x.relam
                    where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
                      and m.amname = 'btree' and 0 <> all (i.indkey)) as usable
     from pg_class c where c.oid = $1::oid`,
    [oid],
  )
  if (row?.populated === false) return neverFilled
  if (row?.usable === false) return 'it has no unique index on plain columns without a condition'
  return undefined
}

/** How long the search for a key may read the view, milliseconds. */
const keySearchMs = 5_000
/** Columns that are tried alone and in pairs: the first of a view are nearly always what it groups by. */
const candidateColumns = 6

/** One column, or two, that tell the view's rows apart as they are now; undefined when there are none or it took too long. */
async function uniqueColumns(ctx: Pick<Context, 'db'>, view: Relation): Promise<string[] | undefined> {
  try {
    return await reading(
      ctx,
      async (tx) => {
        const columns = await tx.query<{ name: string }>(
          `select a.attname as name from pg_attribute a
           where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped
             and exists (select from pg_opclass o join pg_am m on m.oid = o.opcmethod
                         where m.amname = 'btree' and o.opcdefault
                           and (o.opcintype = a.atttypid or a.atttypid::regtype::text = 'character varying' and o.opcintype = 'text'::regtype))
           order by a.attnum limit $2::int`,
          [view.oid, candidateColumns],
        )
        const [some] = await tx.query<{ rows: number }>(`select count(*)::int as rows from (select from ${view.sql} limit 2) few`)
        // One row is told apart by anything.
        if ((some?.rows ?? 0) < 2) return undefined
        const names = columns.map((column) => column.name)
        const pairs = names.flatMap((a, i) => names.slice(i + 1).map((b) => [a, b]))
        for (const key of [...names.map((name) => [name]), ...pairs]) {
          const list = key.map(identifier).join(', ')
          const [found] = await tx.query<{ unique: boolean }>(
            `select not exists (select from ${view.sql} group by ${list} having count(*) > 1) as unique`,
          )
          if (found?.unique === true) return key
        }
        return undefined
      },
      keySearchMs,
    )
  } catch (error) {
    // 57014: it took too long; 42501: the role may refresh the view, but not read it.
    if (['57014', '42501'].includes(sqlState(error) ?? '')) return undefined
    throw error
  }
}
