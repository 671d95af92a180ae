import type { Context } from '../../platform/context.ts'
import { identifier, type Queryable, type Transaction } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { nodesOf, planOf } from '../explain.ts'
import { isContention, withLockRetry } from '../lock-retry.ts'
import type { Column, Relation } from '../relations.ts'
import { pinnedTransaction, reading } from '../session-settings.ts'

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
  | { walk: 'pages'; next: number; pages: number; rowsPerPage: number }
  | { walk: 'index'; keys: { name: string; type: string }[]; from: string[] | null }

/**
 * How a batch treats a row that another session holds. `wait`: for a moment, and then the batch gives way as a whole;
 * twice as fast (measured: 1.0 M rows/s against 0.5 M), because rows need not be locked before they are deleted.
 * `skip`: passes over it; what a batch falls back to when it had to give way.
 */
type Contention = 'wait' | 'skip'

export interface BatchOptions {
  /** How long a batch may hold its locks, milliseconds; its size follows. */
  targetMs: number
  /** How long a batch waits for a row before it gives way, milliseconds. */
  rowWaitMs: number
  /** How long a batch waits for a table's lock before it comes again later, milliseconds. */
  lockTimeoutMs: number
}

export const batchDefaults: BatchOptions = { targetMs: 20, rowWaitMs: 25, lockTimeoutMs: 200 }
const rowsFirst = 2_000
const rowsLeast = 50
const rowsMost = 30_000

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
  let size = rowsFirst
  let idle = 0
  for (;;) {
    if (work.stop()) return false
    const started = ctx.clock.monotonicMs()
    const batch = await commitBatch(ctx, work, cursor, size)
    if (batch === 'hand-over') return false
    work.committed(batch.next, batch.rows)
    // Twice or half as much at most: one slow batch (a cold page, a checkpoint of the server's) must not stop the work.
    const ratio = work.options.targetMs / Math.max(ctx.clock.monotonicMs() - started, 0.1)
    size = Math.round(Math.min(rowsMost, Math.max(rowsLeast, size * Math.min(2, Math.max(0.5, ratio)))))
    // Rows that match and yet stay: changed by another session in between, or kept by a trigger for good.
    idle = batch.matched > 0 && batch.rows === 0 && JSON.stringify(cursor) === JSON.stringify(batch.next) ? idle + 1 : 0
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
  /** Rows that matched, as far as the batch looked. */
  matched: number
  /** Rows touched. */
  rows: number
  next: Cursor
  end: boolean
}

/** One batch, with the checkpoint in its transaction: first waiting for rows, then passing over those that are held. */
async function commitBatch(ctx: Context, work: BatchWork, cursor: Cursor, size: number): Promise<Batch | 'hand-over'> {
  const commit = (contention: Contention, lockTimeoutMs: number) =>
    pinnedTransaction(ctx, { lockTimeoutMs }, async (tx) => {
      const done =
        cursor.walk === 'pages' ? await pageBatch(tx, work, cursor, size, contention) : await indexBatch(tx, work, cursor, size, contention)
      await work.commitWith(tx, done.next, done.rows)
      return done
    })
  try {
    return await commit('wait', work.options.rowWaitMs)
  } catch (error) {
    if (!isContention(error)) throw error
  }
  const patience = { tries: 8, firstPauseMs: 50, stop: work.stop }
  return withLockRetry(ctx, `${work.label}: ${work.leaf.label}`, patience, () => commit('skip', work.options.lockTimeoutMs))
}

async function pageBatch(
  tx: Transaction,
  work: BatchWork,
  cursor: Cursor & { walk: 'pages' },
  size: number,
  contention: Contention,
): Promise<Batch> {
  const to = cursor.next + Math.max(1, Math.floor(size / cursor.rowsPerPage))
  const n = work.statement.params.length
  const window = `ctid >= $${n + 1}::tid and ctid < $${n + 2}::tid`
  const rows = await touch(tx, work, window, [`(${cursor.next},0)`, `(${to},0)`], contention)
  // A window is left behind even where rows in it were held: they match again in the next run.
  return { matched: rows, rows, next: { ...cursor, next: to }, end: to >= cursor.pages }
}

async function indexBatch(
  tx: Transaction,
  work: BatchWork,
  cursor: Cursor & { walk: 'index' },
  size: number,
  contention: Contention,
): Promise<Batch> {
  const alias = identifier(work.table.name)
  const { keys, from } = cursor
  const columns = keys.map(({ name }) => `${alias}.${identifier(name)}`)
  const names = keys.map((_, index) => `k${index}`)
  const compare = (operator: string, first: number) =>
    `(${columns.join(', ')}) ${operator} (${keys.map(({ type }, index) => `$${first + index}::text::${type}`).join(', ')})`
  // The end of the batch comes first, as a value: with it the planner knows how few rows lie between, and takes the index.
  const [ahead] = await tx.query<{ matched: number; last: string[] | null }>(
    `with ahead as materialized (
       select ${columns.map((column, index) => `${column} as ${names[index]}`).join(', ')} from only ${work.leaf.sql} as ${alias}
       where ${from === null ? '' : `${compare('>=', 2)} and `}${work.condition}
       order by ${columns.join(', ')} limit $1::int + 1
     )
     select (select count(*)::int from ahead) as matched,
            (select array[${names.map((name) => `${name}::text`).join(', ')}] from ahead order by ${names.map((name) => `${name} desc`).join(', ')} limit 1) as last`,
    [size, ...(from ?? [])],
  )
  const last = ahead?.last ?? null
  if (ahead === undefined || last === null) return { matched: 0, rows: 0, next: cursor, end: true }
  const end = ahead.matched <= size
  const n = work.statement.params.length
  const bounds = [...(from === null ? [] : [compare('>=', n + 1 + keys.length)]), compare(end ? '<=' : '<', n + 1)].join(' and ')
  const rows = await touch(tx, work, bounds, [...last, ...(from ?? [])], contention)
  if (rows > 0 || end || last.some((value, index) => value !== from?.[index]))
    return { matched: ahead.matched, rows, next: { ...cursor, from: last }, end }
  // More rows than a batch may hold with one and the same key: some of them, and the cursor stays.
  const equal = `${alias}.ctid = any(array(select ctid from only ${work.leaf.sql} as ${alias} where ${compare('=', n + 1)} and ${work.condition} limit $${n + 1 + keys.length}::int))`
  return { matched: ahead.matched, rows: await touch(tx, work, equal, [...last, size], contention), next: cursor, end: false }
}

/**
 * One statement: choose, touch, write. READ COMMITTED looks at the condition again on the newest version of each row
 * that another session has just changed: what does not match any more stays.
 * @returns how many rows it touched
 */
async function touch(tx: Transaction, work: BatchWork, bounds: string, bound: readonly unknown[], contention: Contention): Promise<number> {
  const { statement } = work
  const alias = identifier(work.table.name)
  const where = `${bounds} and ${work.condition}`
  const touched =
    contention === 'wait'
      ? statement.touched(work.leaf.sql, where)
      : // An array is an initplan and so always a TID scan; a join may become a scan of the whole table.
        statement.touched(work.leaf.sql, `${alias}.ctid = any(array(select ctid from batch)) and ${work.condition}`)
  const batch =
    contention === 'wait'
      ? ''
      : `batch as materialized (select ctid from only ${work.leaf.sql} as ${alias} where ${where} for update skip locked), `
  const written = statement.written === undefined ? '' : `, written as (${statement.written})`
  const [found] = await tx.query<{ rows: number; written: number }>(
    `with ${batch}touched as (${touched})${written}
     select (select count(*)::int from touched) as rows, (select count(*)::int from ${statement.written === undefined ? 'touched' : 'written'}) as written`,
    [...statement.params, ...bound],
  )
  if (found === undefined) throw new CaretakerError('internal', `${work.label}: a batch returned nothing`)
  // Thrown inside the transaction: the rows are back where they were.
  if (found.written !== found.rows)
    throw new CaretakerError(
      'job_failed',
      `${work.label}: ${found.rows} rows left the table but ${found.written} arrived, so the batch was rolled back. A trigger or rule on the archive seems to drop rows.`,
    )
  return found.rows
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
  const [row] = await db.query<{ pages: number; rowsPerPage: number }>(
    `select ceil(pg_relation_size(c.oid)::float8 / current_setting('block_size')::float8) as pages,
            case when c.reltuples > 0 and c.relpages > 0 then greatest(c.reltuples / c.relpages, 1) else 150 end::float8 as "rowsPerPage"
     from pg_class c where c.oid = $1::oid`,
    [work.leaf.oid],
  )
  return { walk: 'pages', next: 0, pages: row?.pages ?? 0, rowsPerPage: row?.rowsPerPage ?? 150 }
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
