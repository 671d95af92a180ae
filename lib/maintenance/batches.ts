import type { Context } from '../platform/context.ts'
import { identifier, type Queryable, type Transaction } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { nodesOf, planOf } from './explain.ts'
import { withLockRetry } from './lock-retry.ts'
import type { Column, Relation } from './relations.ts'
import { pinnedTransaction, reading } from './session-settings.ts'

/** The part of a batch that purge, archive and anonymise differ in. */
export interface TouchStatement {
  /** Stand as $1, $2… in `touched`. */
  params: readonly unknown[]
  /** A data-modifying statement on `leaf` (quoted) that returns one row for each row it touched. */
  touched: (leaf: string, where: string) => string
  /** A second one that reads `touched` and returns one row for each row it wrote: the archive's insert. */
  written?: string
}

/**
 * How a table is walked. `pages`: physically, a window of pages a batch, so that a batch reads a bounded part of the
 * table even where nothing matches. `index`: along an index that the planner prefers for the condition, so that a few
 * old rows in a big table are found without reading it. Neither comes back to where it has been, which is what makes
 * batches slow when an old snapshot keeps their dead rows around.
 */
export type Cursor =
  | { walk: 'pages'; after: string; pages: number }
  | { walk: 'index'; keys: { name: string; type: string }[]; from: string[] | null }

export interface BatchSize {
  rows: number
  pages: number
}

export interface BatchOptions {
  /** How long a batch may hold its locks, milliseconds; the size follows it. */
  targetMs: number
  /** How long a batch waits for a table's lock before it comes again later. */
  lockTimeoutMs: number
}

export const batchDefaults: BatchOptions = { targetMs: 20, lockTimeoutMs: 200 }
export const firstSize: BatchSize = { rows: 1_000, pages: 64 }
const smallest: BatchSize = { rows: 50, pages: 1 }
const largest: BatchSize = { rows: 50_000, pages: 8_192 }

export interface BatchWork {
  /** What to call it in errors: "archive error_logs". */
  label: string
  /** The table of the rule: the alias its condition knows it under. */
  table: Relation
  columns: ReadonlyMap<string, Column>
  leaf: Relation
  /** In parentheses. */
  condition: string
  statement: TouchStatement
  /** Where an earlier taking of the run stopped; null to begin. */
  cursor: Cursor | null
  options: BatchOptions
  stop: () => boolean
  /** Called inside each batch's transaction, last: what it stores commits with the batch. */
  commitWith: (tx: Transaction, cursor: Cursor, rows: number) => Promise<void>
  /** Called after the commit. */
  committed: (cursor: Cursor, rows: number) => void
}

/**
 * Walks one physical table in short transactions.
 * @returns false when it was stopped before the end
 * @throws {CaretakerError} `conflict` when the table stays locked, `job_failed` when rows cannot be touched
 */
export async function runBatches(ctx: Context, work: BatchWork): Promise<boolean> {
  let cursor = work.cursor ?? (await reading(ctx, (tx) => beginWalk(tx, work)))
  const size = { ...firstSize }
  let idle = 0
  for (;;) {
    if (work.stop()) return false
    const started = ctx.clock.monotonicMs()
    const at = cursor
    const batch = await withLockRetry(ctx, `${work.label}: ${work.leaf.label}`, { tries: 8, firstPauseMs: 50, stop: work.stop }, () =>
      pinnedTransaction(ctx, { lockTimeoutMs: work.options.lockTimeoutMs }, async (tx) => {
        const done = await runBatch(tx, work, at, size)
        await work.commitWith(tx, done.next, done.rows)
        return done
      }),
    )
    if (batch === 'hand-over') return false
    work.committed(batch.next, batch.rows)
    adapt(size, batch, work.options.targetMs / Math.max(ctx.clock.monotonicMs() - started, 0.1))
    // Rows that were locked here and yet not touched: changed by another session in between, or kept by a trigger for good.
    idle = batch.locked > 0 && batch.rows === 0 && same(cursor, batch.next) ? idle + 1 : 0
    if (idle >= 20)
      throw new CaretakerError(
        'job_failed',
        `${work.label}: rows of ${work.leaf.label} stay although the statement succeeds. A trigger or rule on the table seems to keep them.`,
      )
    if (batch.end) return true
    cursor = batch.next
  }
}

interface Batch {
  /** Rows that matched and that nobody else held. */
  locked: number
  /** Rows touched. */
  rows: number
  /** True when the batch stopped at its limit of rows rather than at the end of its window. */
  full: boolean
  next: Cursor
  end: boolean
}

async function runBatch(tx: Transaction, work: BatchWork, cursor: Cursor, size: BatchSize): Promise<Batch> {
  return cursor.walk === 'pages' ? pageBatch(tx, work, cursor, size) : indexBatch(tx, work, cursor, size)
}

async function pageBatch(tx: Transaction, work: BatchWork, cursor: Cursor & { walk: 'pages' }, size: BatchSize): Promise<Batch> {
  const from = Number(cursor.after.slice(1).split(',')[0])
  const to = Math.min(from + size.pages, Math.max(cursor.pages, from + 1))
  const n = work.statement.params.length
  const found = await touch(tx, work, {
    batch: `select ctid from only ${work.leaf.sql} as ${identifier(work.table.name)}
            where ctid > $${n + 1}::tid and ctid < $${n + 2}::tid and ${work.condition} limit $${n + 3}::int for update skip locked`,
    last: '(select max(ctid)::text from batch)',
    params: [cursor.after, `(${to},0)`, size.rows],
  })
  const full = found.locked >= size.rows
  const after = full && typeof found.last === 'string' ? found.last : `(${to},0)`
  return { ...found, full, next: { ...cursor, after }, end: !full && to >= cursor.pages }
}

async function indexBatch(tx: Transaction, work: BatchWork, cursor: Cursor & { walk: 'index' }, size: BatchSize): Promise<Batch> {
  const alias = identifier(work.table.name)
  const keys = cursor.keys.map(({ name }) => `${alias}.${identifier(name)}`)
  const n = work.statement.params.length
  // Not strictly greater: equal keys may go on beyond the last batch. What that batch touched does not match any more.
  const beyond =
    cursor.from === null
      ? ''
      : `(${keys.join(', ')}) >= (${cursor.keys.map(({ type }, i) => `$${n + 2 + i}::text::${type}`).join(', ')}) and `
  const named = cursor.keys.map((_, i) => `k${i}`)
  const found = await touch(tx, work, {
    batch: `select ctid, ${keys.map((key, i) => `${key} as k${i}`).join(', ')} from only ${work.leaf.sql} as ${alias}
            where ${beyond}${work.condition} order by ${keys.join(', ')} limit $${n + 1}::int for update skip locked`,
    last: `(select array[${named.map((key) => `${key}::text`).join(', ')}] from batch order by ${named.map((key) => `${key} desc`).join(', ')} limit 1)`,
    params: [size.rows, ...(cursor.from ?? [])],
  })
  const full = found.locked >= size.rows
  return { ...found, full, next: { ...cursor, from: Array.isArray(found.last) ? found.last : cursor.from }, end: !full }
}

/**
 * One statement: choose and lock, touch, write. Rows that another session holds are passed over, not waited for; they
 * match again next time. The condition stands in the second part too: between the two a row may have become another.
 * `ctid = any(array(…))` is an initplan and so always a TID scan; a join may become a scan of the whole table.
 */
async function touch(
  tx: Transaction,
  work: BatchWork,
  part: { batch: string; last: string; params: unknown[] },
): Promise<{ locked: number; rows: number; last: unknown }> {
  const { statement } = work
  const touched = statement.touched(
    work.leaf.sql,
    `${identifier(work.table.name)}.ctid = any(array(select ctid from batch)) and ${work.condition}`,
  )
  const written = statement.written === undefined ? '' : `, written as (${statement.written})`
  const [found] = await tx.query<{ locked: number; rows: number; written: number; last: unknown }>(
    `with batch as materialized (${part.batch}), touched as (${touched})${written}
     select (select count(*)::int from batch) as locked, (select count(*)::int from touched) as rows,
            (select count(*)::int from ${statement.written === undefined ? 'touched' : 'written'}) as written, ${part.last} as last`,
    [...statement.params, ...part.params],
  )
  if (found === undefined) throw new CaretakerError('internal', `${work.label}: a batch returned nothing`)
  // Thrown inside the transaction: the rows are back where they were.
  if (found.written !== found.rows)
    throw new CaretakerError(
      'job_failed',
      `${work.label}: ${found.rows} rows left the table but ${found.written} arrived, so the batch was rolled back. A trigger or rule on the archive seems to drop rows.`,
    )
  return found
}

/** Twice or half as much at most: one slow batch (a checkpoint of the server's, a cold page) must not stop the work. */
function adapt(size: BatchSize, batch: Batch, ratio: number): void {
  const factor = Math.min(2, Math.max(0.5, ratio))
  if (batch.full) size.rows = clamp(size.rows * factor, smallest.rows, largest.rows)
  else size.pages = clamp(size.pages * factor, smallest.pages, largest.pages)
  // A window that took too long without being full holds too many rows as well.
  if (!batch.full && factor < 1) size.rows = clamp(Math.max(batch.locked, smallest.rows), smallest.rows, size.rows)
}

function clamp(value: number, least: number, most: number): number {
  return Math.round(Math.min(most, Math.max(least, value)))
}

function same(a: Cursor, b: Cursor): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

/** Types whose values may stand in a checkpoint: they order, they survive being text, and they name no person. */
const keyTypes = new Set(['int2', 'int4', 'int8', 'timestamp', 'timestamptz', 'date', 'uuid', 'bool', 'oid'])

/** Along the index the planner takes for the condition, where its leading columns can carry a cursor; by pages otherwise. */
async function beginWalk(db: Queryable, work: BatchWork): Promise<Cursor> {
  const plan = await planOf(db, `select 1 from only ${work.leaf.sql} as ${identifier(work.table.name)} where ${work.condition}`)
  const scans = [...nodesOf(plan)].filter((node) => node['Index Name'] !== undefined)
  const [scan] = scans
  if (scans.length === 1 && scan?.['Index Name'] !== undefined) {
    const keys = await indexKeys(db, work, scan['Index Name'], String(scan['Index Cond'] ?? ''))
    if (keys.length > 0) return { walk: 'index', keys, from: null }
  }
  const [row] = await db.query<{ pages: number }>(
    `select ceil(pg_relation_size($1::oid)::float8 / current_setting('block_size')::float8) as pages`,
    [work.leaf.oid],
  )
  return { walk: 'pages', after: '(0,0)', pages: row?.pages ?? 0 }
}

/**
 * The leading columns of a btree index that can carry a cursor: of a type that orders, and never null among the rows
 * that match, because a null falls out of the comparison of keys. The first one may be nullable where `cond`, the
 * index condition, compares it: no comparison is true of a null.
 */
async function indexKeys(db: Queryable, work: BatchWork, index: string, cond: string): Promise<{ name: string; type: string }[]> {
  const rows = await db.query<{ name: string | null; notNull: boolean }>(
    `select a.attname as name, coalesce(a.attnotnull, false) as "notNull"
     from pg_index i
     join pg_class c on c.oid = i.indexrelid
     join pg_am m on m.oid = c.relam
     cross join generate_series(0, i.indnkeyatts - 1) as k(n)
     left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[k.n]
     where i.indrelid = $1::oid and c.relname = $2::text and m.amname = 'btree' and i.indisvalid
     order by k.n`,
    [work.leaf.oid, index],
  )
  const keys: { name: string; type: string }[] = []
  for (const { name, notNull } of rows) {
    const column = name === null ? undefined : work.columns.get(name)
    if (column === undefined || !keyTypes.has(column.baseType)) break
    const compared = keys.length === 0 && cond.includes(column.name) && !cond.includes('IS NULL')
    if (!notNull && !compared) break
    keys.push({ name: column.name, type: column.type })
    if (!notNull) break
  }
  return keys
}
