import type { Context } from '../platform/context.ts'
import { type Queryable, qualified } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { PlanLine } from '../platform/job.ts'
import { errorAt, type Issue, throwErrors } from './issue.ts'
import { maintainProblem } from './privileges.ts'
import { findRelation, isIssue, labelOf, type Relation } from './relations.ts'
import { reading } from './session-settings.ts'
import { runAlone } from './statement-session.ts'
import type { Counts, Task, TaskProgress } from './task.ts'

/** `REINDEX INDEX CONCURRENTLY`, one task an index. */
export function reindexTasks(step: number, indexes: readonly string[], path: string): Task[] {
  return indexes.map((index, position) => ({
    label: `reindex ${index}`,
    step,
    changesRows: false,
    run: (ctx, progress) => reindex(ctx, index, `${path}.${position}`, progress),
    plan: (ctx) => planReindex(ctx, index, `${path}.${position}`),
  }))
}

export interface ReindexTarget {
  index: Relation
  table: Relation
  bytes: number
  /** What earlier, broken rebuilds of this index left behind: invalid, never read, yet kept up by every write. */
  leftovers: Relation[]
  problem: string | undefined
}

/**
 * Rebuilds an index while the table is read and written. What a broken rebuild left is dropped before and after.
 * @throws {CaretakerError} `policy_invalid` for an index that is not there, `forbidden` naming the grant that is missing
 */
export async function reindex(ctx: Context, name: string, path: string, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const before = await reading(ctx, (tx) => resolveReindex(tx, name, path))
  if ('severity' in before) throwErrors([before])
  const target = before as ReindexTarget
  if (target.problem !== undefined) throw new CaretakerError('forbidden', target.problem)
  let dropped = 0
  const sweep = async (leftovers: readonly Relation[]): Promise<'done' | 'hand-over'> => {
    for (const leftover of leftovers) {
      // Its lock waits for a rebuild that is still going on elsewhere, whose _ccnew this may be; by then the name is gone.
      if (
        (await runAlone(
          ctx,
          `reindex ${target.index.label}: drop ${leftover.label}`,
          `drop index concurrently if exists ${leftover.sql}`,
          progress,
        )) === 'hand-over'
      )
        return 'hand-over'
      dropped++
    }
    return 'done'
  }
  if ((await sweep(target.leftovers)) === 'hand-over') return 'hand-over'
  try {
    if ((await runAlone(ctx, `reindex ${target.index.label}`, `reindex index concurrently ${target.index.sql}`, progress)) === 'hand-over')
      return 'hand-over'
  } finally {
    const left = await reading(ctx, (tx) => loadLeftovers(tx, target.table.oid, target.index.name)).catch(() => [])
    if (left.length > 0)
      await sweep(left).catch((error: unknown) =>
        ctx.log.warn(
          { err: error, index: target.index.label },
          'an unfinished rebuild of the index could not be dropped; the next run tries again',
        ),
      )
  }
  const [after] = await ctx.db.query<{ bytes: number }>('select pg_relation_size($1::regclass)::float8 as bytes', [target.index.sql])
  return { indexes: 1, bytesBefore: target.bytes, bytesAfter: after?.bytes ?? 0, ...(dropped === 0 ? {} : { leftoversDropped: dropped }) }
}

async function planReindex(ctx: Context, name: string, path: string): Promise<PlanLine[]> {
  const target = await reading(ctx, (tx) => resolveReindex(tx, name, path))
  if ('severity' in target) throwErrors([target])
  const { index, bytes, leftovers, problem } = target as ReindexTarget
  const lines: PlanLine[] = [
    {
      action: `reindex ${index.label} (${Math.ceil(bytes / 1024)} KiB) concurrently`,
      target: index.label,
      count: 1,
      unit: 'indexes',
      ...(problem === undefined ? {} : { warnings: [problem] }),
    },
  ]
  for (const leftover of leftovers)
    lines.unshift({ action: `drop ${leftover.label}, which an unfinished rebuild left`, target: leftover.label, count: 1, unit: 'indexes' })
  return lines
}

/** The index, its table and what may not be done with it. */
export async function resolveReindex(db: Queryable, name: string, path: string): Promise<ReindexTarget | Issue> {
  const index = await findRelation(db, name, 'index', path)
  if (isIssue(index)) return index
  const [row] = await db.query<{
    oid: number
    schema: string
    name: string
    kind: string
    exclusion: boolean
    system: boolean
    bytes: number
  }>(
    `select t.oid::int8::float8 as oid, n.nspname as schema, t.relname as name, t.relkind::text as kind,
            i.indisexclusion as exclusion, n.nspname in ('pg_catalog', 'pg_toast') as system, pg_relation_size(i.indexrelid)::float8 as bytes
     from pg_index i join pg_class t on t.oid = i.indrelid join pg_namespace n on n.oid = t.relnamespace
     where i.indexrelid = $1::oid`,
    [index.oid],
  )
  if (row === undefined) return errorAt(path, `found "${name}", which has just been dropped; expected an index that exists`)
  if (row.exclusion)
    return errorAt(
      path,
      `found "${name}", the index of an exclusion constraint, which PostgreSQL cannot rebuild concurrently; expected another index`,
    )
  if (row.system)
    return errorAt(
      path,
      `found "${name}", an index of the system's, which PostgreSQL does not rebuild concurrently; expected an index of the app's`,
    )
  const table: Relation = {
    oid: row.oid,
    schema: row.schema,
    name: row.name,
    kind: row.kind,
    label: labelOf(row.schema, row.name),
    sql: qualified(row.schema, row.name),
  }
  return {
    index,
    table,
    bytes: row.bytes,
    leftovers: await loadLeftovers(db, table.oid, index.name),
    problem: await maintainProblem(db, table, 'reindex'),
  }
}

/**
 * Invalid indexes that `REINDEX CONCURRENTLY` of this index has left: `_ccnew` (it failed before the swap) and `_ccold`
 * (after it). PostgreSQL cuts the name to 63 bytes to make room for the ending.
 */
async function loadLeftovers(db: Queryable, table: number, index: string): Promise<Relation[]> {
  const rows = await db.query<{ oid: number; schema: string; name: string; kind: string }>(
    `select c.oid::int8::float8 as oid, n.nspname as schema, c.relname as name, c.relkind::text as kind
     from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
     where i.indrelid = $1::oid and not i.indisvalid and c.relname ~ '_cc(new|old)[0-9]*$'
       and (regexp_replace(c.relname, '_cc(new|old)[0-9]*$', '') = $2::text
            or (octet_length(c.relname) = 63 and starts_with($2::text, regexp_replace(c.relname, '_cc(new|old)[0-9]*$', ''))))
     order by c.relname`,
    [table, index],
  )
  return rows.map((row) => ({ ...row, label: labelOf(row.schema, row.name), sql: qualified(row.schema, row.name) }))
}
