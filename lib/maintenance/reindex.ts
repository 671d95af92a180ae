import type { ReindexTarget as ReindexPolicy } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { type Queryable, qualified } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import type { PlanLine } from '../platform/job.ts'
import type { Counts, Task, TaskProgress } from '../platform/task.ts'
import { errorAt, type Issue, issueError } from './issue.ts'
import { dropProblem, maintainProblem } from './privileges.ts'
import { findRelation, isIssue, labelOf, loadLeaves, type Relation } from './relations.ts'
import { reading } from './session-settings.ts'
import { runAlone } from './statement-session.ts'

/** `REINDEX CONCURRENTLY`, one task an index or a table. */
export function reindexTasks(step: number, targets: readonly ReindexPolicy[], path: string): Task[] {
  return targets.map((target, position): Task => {
    const at = `${path}.${position}`
    if (typeof target === 'string')
      return {
        label: `reindex ${target}`,
        step,
        changesRows: false,
        run: (ctx, progress) => reindex(ctx, target, at, progress),
        plan: (ctx) => planReindex(ctx, target, at),
      }
    return {
      label: `reindex table ${target.table}`,
      step,
      changesRows: false,
      run: (ctx, progress) => reindexTable(ctx, target.table, `${at}.table`, progress),
      plan: (ctx) => planReindexTable(ctx, target.table, `${at}.table`),
    }
  })
}

interface IndexTarget {
  index: Relation
  table: Relation
  bytes: number
  /** What earlier, broken rebuilds of this index left behind: invalid, never read, yet kept up by every write. */
  leftovers: Relation[]
  /** Why PostgreSQL cannot rebuild it concurrently. */
  obstacle: string | undefined
  problem: string | undefined
}

/**
 * Rebuilds an index while the table is read and written. What a broken rebuild left is dropped before and after.
 * @throws {CaretakerError} `policy_invalid` for an index that is not there, `forbidden` naming the grant that is missing
 */
export async function reindex(ctx: Context, name: string, path: string, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const target = await reading(ctx, (tx) => resolveReindex(tx, name, path))
  if ('severity' in target) throw issueError(target)
  return rebuild(ctx, target, progress)
}

/**
 * Rebuilds every index of a table and of its partitions one by one, with a checkpoint after each, which REINDEX TABLE in
 * one statement could not have.
 * @throws {CaretakerError} `policy_invalid` for a table that is not there, `forbidden` naming the grant that is missing
 */
async function reindexTable(ctx: Context, name: string, path: string, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  const saved = progress.inner as { after: string; ranOut?: number } | null
  let after = saved?.after ?? ''
  const totals = { indexes: 0, bytesBefore: 0, bytesAfter: 0, leftoversDropped: 0, ...progress.counts } as Record<string, number>
  const { targets, skipped } = await indexesOf(ctx, name, path)
  for (const target of targets) {
    const key = `${target.index.schema}.${target.index.name}`
    if (key <= after) continue
    if (progress.stop()) return 'hand-over'
    const one: TaskProgress = {
      ...progress,
      inner: saved?.after === after ? saved : null,
      save: (inner) => progress.save({ after, ...(inner as object) }, totals),
    }
    const counts = await rebuild(ctx, target, one).catch((error: unknown) => {
      // What was dropped since the list was made needs no rebuilding.
      if (sqlState(error) === '42704' || sqlState(error) === '42P01') return {}
      throw error
    })
    if (counts === 'hand-over') return 'hand-over'
    for (const [count, value] of Object.entries(counts)) totals[count] = (totals[count] ?? 0) + Number(value)
    after = key
    await progress.save({ after }, totals)
  }
  const { leftoversDropped = 0, ...rest } = totals
  return { ...rest, ...(leftoversDropped > 0 ? { leftoversDropped } : {}), ...(skipped > 0 ? { skippedExclusion: skipped } : {}) }
}

async function rebuild(ctx: Context, target: IndexTarget, progress: TaskProgress): Promise<Counts | 'hand-over'> {
  if (target.problem !== undefined) throw new CaretakerError('forbidden', target.problem)
  const { index, table } = target
  let dropped = 0
  const sweep = async (leftovers: readonly Relation[]): Promise<'done' | 'hand-over'> => {
    for (const leftover of leftovers) {
      const problem = await reading(ctx, (tx) => dropProblem(tx, leftover))
      if (problem !== undefined) throw new CaretakerError('forbidden', problem)
      // Its lock waits for a rebuild that is still going on elsewhere, whose _ccnew this may be; by then the name is gone.
      const drop = {
        label: `reindex ${index.label}: drop ${leftover.label}`,
        sql: `drop index concurrently if exists ${leftover.sql}`,
        patient: true,
      }
      if ((await runAlone(ctx, drop, progress)) === 'hand-over') return 'hand-over'
      dropped++
    }
    return 'done'
  }
  if ((await sweep(target.leftovers)) === 'hand-over') return 'hand-over'
  try {
    const statement = { label: `reindex ${index.label}`, sql: `reindex index concurrently ${index.sql}`, patient: true }
    if ((await runAlone(ctx, statement, progress)) === 'hand-over') return 'hand-over'
  } finally {
    const left = await reading(ctx, (tx) => loadLeftovers(tx, table.oid, index.name)).catch(() => [])
    if (left.length > 0)
      await sweep(left).catch((error: unknown) =>
        ctx.log.warn(
          { err: error, index: index.label },
          'an unfinished rebuild of the index could not be dropped; the next run tries again',
        ),
      )
  }
  const [after] = await ctx.db.query<{ bytes: number }>('select pg_relation_size($1::regclass)::float8 as bytes', [index.sql])
  return { indexes: 1, bytesBefore: target.bytes, bytesAfter: after?.bytes ?? 0, ...(dropped === 0 ? {} : { leftoversDropped: dropped }) }
}

async function planReindex(ctx: Context, name: string, path: string): Promise<PlanLine[]> {
  const target = await reading(ctx, (tx) => resolveReindex(tx, name, path))
  if ('severity' in target) throw issueError(target)
  return planRebuild(ctx, target)
}

async function planReindexTable(ctx: Context, name: string, path: string): Promise<PlanLine[]> {
  const { table, targets, skipped } = await indexesOf(ctx, name, path)
  const lines: PlanLine[] = []
  for (const target of targets) lines.push(...(await planRebuild(ctx, target)))
  if (skipped > 0)
    lines.push({
      action: `leave out ${skipped} of ${table.label}: indexes of exclusion constraints cannot be rebuilt concurrently`,
      target: table.label,
      count: 0,
      unit: 'indexes',
    })
  return lines
}

async function planRebuild(ctx: Context, { index, bytes, leftovers, problem }: IndexTarget): Promise<PlanLine[]> {
  const lines: PlanLine[] = []
  for (const leftover of leftovers.toReversed()) {
    const owned = await reading(ctx, (tx) => dropProblem(tx, leftover))
    lines.push({
      action: `drop ${leftover.label}, which an unfinished rebuild left`,
      target: leftover.label,
      count: 1,
      unit: 'indexes',
      ...(owned === undefined ? {} : { warnings: [owned] }),
    })
  }
  lines.push({
    action: `reindex ${index.label} (${Math.ceil(bytes / 1024)} KiB) concurrently`,
    target: index.label,
    count: 1,
    unit: 'indexes',
    ...(problem === undefined ? {} : { warnings: [problem] }),
  })
  return lines
}

/** The index, its table and what may not be done with it. */
export async function resolveReindex(db: Queryable, name: string, path: string): Promise<IndexTarget | Issue> {
  const index = await findRelation(db, name, 'index', path)
  if (isIssue(index)) return index
  const target = await loadTarget(db, index)
  if (target === undefined) return errorAt(path, `found "${name}", which has just been dropped; expected an index that exists`)
  if (target.obstacle !== undefined)
    return errorAt(path, `found "${name}", ${target.obstacle}, which PostgreSQL cannot rebuild concurrently; expected another index`)
  return target
}

/** The valid indexes of a table, its partitions and its TOAST table, in the order of their names. */
async function indexesOf(
  ctx: Pick<Context, 'db'>,
  name: string,
  path: string,
): Promise<{ table: Relation; targets: IndexTarget[]; skipped: number }> {
  return reading(ctx, async (tx) => {
    const table = await findRelation(tx, name, 'maintained', path)
    if (isIssue(table)) throw issueError(table)
    const leaves = table.kind === 'm' ? [table] : await loadLeaves(tx, table.oid)
    const rows = await tx.query<{ oid: number; schema: string; name: string; kind: string }>(
      `select x.oid::int8::float8 as oid, n.nspname as schema, x.relname as name, x.relkind::text as kind
       from pg_class t join pg_index i on i.indrelid in (t.oid, t.reltoastrelid)
       join pg_class x on x.oid = i.indexrelid join pg_namespace n on n.oid = x.relnamespace
       where t.oid = any($1::oid[]) and (i.indisvalid or x.relname !~ '_cc(new|old)[0-9]*$')`,
      [leaves.map((leaf) => leaf.oid)],
    )
    const targets: IndexTarget[] = []
    let skipped = 0
    rows.sort((a, b) => (`${a.schema}.${a.name}` < `${b.schema}.${b.name}` ? -1 : 1))
    for (const row of rows) {
      const index: Relation = { ...row, label: labelOf(row.schema, row.name), sql: qualified(row.schema, row.name) }
      const target = await loadTarget(tx, index)
      if (target?.obstacle !== undefined) skipped++
      else if (target !== undefined) targets.push(target)
    }
    return { table, targets, skipped }
  })
}

async function loadTarget(db: Queryable, index: Relation): Promise<IndexTarget | undefined> {
  const [row] = await db.query<{
    oid: number
    schema: string
    name: string
    kind: string
    exclusion: boolean
    system: boolean
    bytes: number
    main: number | null
  }>(
    `select t.oid::int8::float8 as oid, n.nspname as schema, t.relname as name, t.relkind::text as kind,
            i.indisexclusion as exclusion, n.nspname = 'pg_catalog' or i.indexrelid < 16384 as system,
            pg_relation_size(i.indexrelid)::float8 as bytes,
            (select m.oid::int8::float8 from pg_class m where t.relkind = 't' and m.reltoastrelid = t.oid) as main
     from pg_index i join pg_class t on t.oid = i.indrelid join pg_namespace n on n.oid = t.relnamespace
     where i.indexrelid = $1::oid`,
    [index.oid],
  )
  if (row === undefined) return undefined
  const table: Relation = {
    oid: row.oid,
    schema: row.schema,
    name: row.name,
    kind: row.kind,
    label: labelOf(row.schema, row.name),
    sql: qualified(row.schema, row.name),
  }
  const obstacle = row.exclusion ? 'the index of an exclusion constraint' : row.system ? 'an index of the system' : undefined
  return {
    index,
    table,
    bytes: row.bytes,
    leftovers: await loadLeftovers(db, table.oid, index.name),
    obstacle,
    problem: await maintainProblem(db, row.main === null ? table : await relationOf(db, row.main, table), 'reindex'),
  }
}

/** The table that a TOAST table belongs to: the privilege is asked of it. */
async function relationOf(db: Queryable, oid: number, otherwise: Relation): Promise<Relation> {
  const [row] = await db.query<{ oid: number; schema: string; name: string; kind: string }>(
    `select c.oid::int8::float8 as oid, n.nspname as schema, c.relname as name, c.relkind::text as kind
     from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1::oid`,
    [oid],
  )
  return row === undefined ? otherwise : { ...row, label: labelOf(row.schema, row.name), sql: qualified(row.schema, row.name) }
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
