import type { Context } from '../platform/context.ts'
import { qualified } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { PlanLine } from '../platform/job.ts'
import type { Counts, Task, TaskProgress } from '../platform/task.ts'
import { maintainPrivilege } from './privileges.ts'
import { labelOf } from './relations.ts'
import { reading } from './session-settings.ts'
import { runAlone } from './statement-session.ts'
import { maintained } from './vacuum.ts'

/** `ANALYZE`, one task a table; `all` is one task for every table the role may analyse. */
export function analyzeTasks(step: number, tables: 'all' | readonly string[], path: string): Task[] {
  if (tables === 'all') return [{ label: 'analyze all', step, changesRows: false, run: analyzeAll, plan: planAnalyzeAll }]
  return tables.map((table, position) => ({
    label: `analyze ${table}`,
    step,
    changesRows: false,
    run: (ctx, progress) => analyze(ctx, table, `${path}.${position}`, progress),
    plan: (ctx) => planAnalyze(ctx, table, `${path}.${position}`),
  }))
}

/**
 * Renews the planner's statistics of one table.
 * @throws {CaretakerError} `policy_invalid` for a table that is not there, `forbidden` naming the grant that is missing
 */
export async function analyze(ctx: Context, name: string, path: string, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const { table, problem } = await maintained(ctx, name, path, 'analyze')
  if (problem !== undefined) throw new CaretakerError('forbidden', problem)
  return (await runAlone(ctx, { label: `analyze ${table.label}`, sql: `analyze ${table.sql}` }, progress)) === 'hand-over'
    ? 'hand-over'
    : { tables: 1 }
}

async function planAnalyze(ctx: Context, name: string, path: string): Promise<PlanLine[]> {
  const { table, problem } = await maintained(ctx, name, path, 'analyze')
  return [
    {
      action: `analyse ${table.label}`,
      target: table.label,
      count: 1,
      unit: 'tables',
      ...(problem === undefined ? {} : { warnings: [problem] }),
    },
  ]
}

/** Table by table in the order of their names, each in its own transaction: a bare ANALYZE holds what it has done until its end. */
async function analyzeAll(ctx: Context, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const saved = progress.inner as { after: string } | null
  let after = saved?.after ?? ''
  const { tables, skipped } = await analysable(ctx)
  let done = Number(progress.counts.tables ?? 0)
  for (const table of tables) {
    if (table.label <= after) continue
    if (progress.stop()) return 'hand-over'
    // What was dropped since the list was made has no statistics to renew.
    const one: TaskProgress = { ...progress, inner: null, save: () => progress.save({ after }, { tables: done }) }
    const outcome = await runAlone(ctx, { label: `analyze ${table.label}`, sql: `analyze ${table.sql}` }, one).catch(
      (error: { code?: string }) => {
        if (error.code === '42P01') return 'dropped' as const
        throw error
      },
    )
    if (outcome === 'hand-over') return 'hand-over'
    if (outcome === 'done') done++
    after = table.label
    await progress.save({ after }, { tables: done })
  }
  return { tables: done, ...(skipped === 0 ? {} : { skippedForeignOwner: skipped }) }
}

async function planAnalyzeAll(ctx: Context): Promise<PlanLine[]> {
  const { tables, skipped } = await analysable(ctx)
  const warnings = skipped === 0 ? {} : { warnings: [`${skipped} tables belong to other roles and are left out`] }
  return [{ action: 'analyse every table', target: 'all', count: tables.length, unit: 'tables', ...warnings }]
}

/** The app's tables (and the roots of partitioned ones, which include their parts) that the role may analyse, by label. */
async function analysable(ctx: Pick<Context, 'db'>): Promise<{ tables: { label: string; sql: string }[]; skipped: number }> {
  const rows = await reading(ctx, async (tx) => {
    const maintain = await maintainPrivilege(tx)
    return tx.query<{ schema: string; name: string; allowed: boolean }>(
      `select n.nspname as schema, c.relname as name,
              pg_has_role(c.relowner, 'usage') or pg_has_role(d.datdba, 'usage') ${maintain} as allowed
       from pg_class c join pg_namespace n on n.oid = c.relnamespace, pg_database d
       where d.datname = current_database() and c.relkind in ('r', 'p', 'm') and not c.relispartition and c.relpersistence <> 't'
         and (c.relkind <> 'm' or c.relispopulated)
         and n.nspname not in ('pg_catalog', 'information_schema', 'caretaker', 'pgboss', 'supabase_migrations') and n.nspname !~ '^pg_(toast|temp)'`,
    )
  })
  const tables = rows
    .filter((row) => row.allowed)
    .map((row) => ({ label: labelOf(row.schema, row.name), sql: qualified(row.schema, row.name) }))
  tables.sort((a, b) => (a.label < b.label ? -1 : 1))
  return { tables, skipped: rows.length - tables.length }
}
