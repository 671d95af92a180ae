import type { ReportPolicy } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { identifier, type Queryable, type Transaction } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { errorAt, type Issue } from '../issue.ts'
import { missingPrivileges } from '../privileges.ts'
import { findRelation, isIssue, loadColumns, missingColumn, type Relation } from '../relations.ts'
import type { ReportColumn } from './csv.ts'
import type { ReportReader } from './read-report.ts'

/** A table that keeps a report's rows, and the columns of the unique index by which a row is overwritten. */
export interface ReportTable {
  table: Relation
  key: string[]
  /** The index takes two nulls for the same: a key may hold one. */
  nullsAreEqual: boolean
  /** Types of the query's columns in the table, without lengths: a text that is too long must fail, not be cut. */
  types: string[]
  /** What the role may not do there, with the grants. */
  problems: string[]
}

/** The table of `into`, or what keeps it from taking the query's columns. */
export async function resolveReportTable(
  db: Queryable,
  into: NonNullable<ReportPolicy['into']>,
  columns: readonly ReportColumn[],
  path: string,
): Promise<ReportTable | Issue[]> {
  const wanted = typeof into === 'string' ? { table: into } : into
  const at = typeof into === 'string' ? `${path}.into` : `${path}.into.table`
  const table = await findRelation(db, wanted.table, 'table', at)
  if (isIssue(table)) return [table]
  const there = await loadColumns(db, table.oid)
  const issues: Issue[] = []
  const names = columns.map((column) => column.name)
  for (const [index, name] of names.entries()) {
    const missing = missingColumn(there, name, table, `${path}.sql`)
    const column = there.get(name)
    if (missing !== undefined) issues.push(missing)
    else if (names.indexOf(name) !== index) issues.push(errorAt(`${path}.sql`, `gives two columns "${name}", expected each name once`))
    else if (column?.generated === true || column?.identity === 'always')
      issues.push(errorAt(`${path}.sql`, `gives the column "${name}", which ${table.label} computes itself; leave it out`))
  }
  const key = await findKey(db, table, names, wanted.key, path)
  if (!('columns' in key)) return [...issues, key]
  if (issues.length > 0) return issues
  const types = await db.query<{ type: string }>(
    `select format_type(a.atttypid, null) as type from unnest($2::text[]) with ordinality as w(name, n)
     join pg_attribute a on a.attrelid = $1::oid and a.attname = w.name order by w.n`,
    [table.oid, names],
  )
  return {
    table,
    key: key.columns,
    nullsAreEqual: key.nullsAreEqual,
    types: types.map((row) => row.type),
    problems: await missingPrivileges(db, table, ['select', 'insert', 'update']),
  }
}

type Key = {
  columns: string[]
  nullsAreEqual: boolean
}

/** The columns of a usable unique index that the query fills: those asked for, or the primary key, or the only one there is. */
async function findKey(
  db: Queryable,
  table: Relation,
  given: readonly string[],
  asked: readonly string[] | undefined,
  path: string,
): Promise<Key | Issue> {
  const indexes = await db.query<Key & { primary: boolean }>(
    `select (select array_agg(a.attname::text order by k.n) from unnest(i.indkey::int2[]) with ordinality as k(num, n)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.num where k.n <= i.indnkeyatts) as columns,
            i.indisprimary as primary,
            -- A column since PostgreSQL 15.
            coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) as "nullsAreEqual"
     from pg_index i
     where i.indrelid = $1::oid and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and 0 <> all (i.indkey)`,
    [table.oid],
  )
  if (asked !== undefined) {
    const absent = asked.find((column) => !given.includes(column))
    if (absent !== undefined)
      return errorAt(`${path}.into.key`, `found "${absent}", which the query does not give; it gives ${given.join(', ')}`)
    const found = indexes.find((index) => sameSet(index.columns, asked))
    if (found !== undefined) return found
    return errorAt(
      `${path}.into.key`,
      `found ${asked.join(', ')}, on which ${table.label} has no unique index: create unique index on ${table.sql} (${asked.map(identifier).join(', ')})`,
    )
  }
  const filled = indexes.filter((index) => index.columns.every((column) => given.includes(column)))
  const chosen = filled.find((index) => index.primary) ?? (filled.length === 1 ? filled[0] : undefined)
  if (chosen !== undefined) return chosen
  return filled.length > 1
    ? errorAt(
        `${path}.into`,
        `${table.label} has several unique indexes that the query fills; name one's columns: { table, key: [${filled[0]?.columns.map((column) => `'${column}'`).join(', ')}] }`,
      )
    : errorAt(
        `${path}.into`,
        `${table.label} has no unique index whose columns the query gives, so a repeated report would be there twice: create unique index on ${table.sql} (the columns that tell its rows apart)`,
      )
}

function sameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one) => b.includes(one))
}

/**
 * Puts the report's rows into the table in one transaction: a row of the same key is overwritten, columns that the query
 * does not give stay. Repeated, it changes nothing. `finish` runs in the same transaction.
 * @returns how many rows there are
 * @throws {CaretakerError} `job_failed` when two rows have one key, or a key holds null: such a row would be there again each time
 */
export async function keepReport(
  ctx: Pick<Context, 'db'>,
  name: string,
  target: ReportTable,
  reader: ReportReader,
  finish: (rows: number, tx: Transaction) => Promise<void>,
): Promise<number> {
  const { table, key, types } = target
  const columns = reader.columns.map((column) => identifier(column.name))
  const list = columns.join(', ')
  const rows = await ctx.db
    .transaction(
      async (tx) => {
        // Times come with their offsets, but dates and intervals as the session writes them.
        await tx.query(`select set_config('datestyle', 'ISO, YMD', true), set_config('idle_in_transaction_session_timeout', '0', true)`)
        await tx.execute(`create temporary table caretaker_report on commit drop as select ${list} from ${table.sql} with no data`)
        const parameters = columns.map((_, index) => `$${index + 1}::text[]`).join(', ')
        const cells = columns.map((_, index) => `r.c${index}::${types[index] ?? 'text'}`).join(', ')
        const names = columns.map((_, index) => `c${index}`).join(', ')
        for await (const batch of reader.rows())
          await tx.execute(
            `insert into pg_temp.caretaker_report select ${cells} from unnest(${parameters}) as r(${names})`,
            columns.map((_, index) => batch.map((row) => row[index] ?? null)),
          )
        const [hollow] = target.nullsAreEqual
          ? []
          : await tx.query<{ found: boolean }>(
              `select exists (select from pg_temp.caretaker_report where ${key.map((column) => `${identifier(column)} is null`).join(' or ')}) as found`,
            )
        if (hollow?.found === true)
          throw new CaretakerError(
            'job_failed',
            `The report "${name}" gives a row whose key (${key.join(', ')}) holds null, which ${table.label} would take anew each time. Nothing was kept.`,
          )
        const others = columns.filter((column) => !key.map(identifier).includes(column))
        const overwrite =
          others.length === 0 ? 'do nothing' : `do update set ${others.map((column) => `${column} = excluded.${column}`).join(', ')}`
        await tx.execute(
          `insert into ${table.sql} (${list}) select ${list} from pg_temp.caretaker_report
           on conflict (${key.map(identifier).join(', ')}) ${overwrite}`,
        )
        const [count] = await tx.query<{ rows: number }>('select count(*)::float8 as rows from pg_temp.caretaker_report')
        await finish(count?.rows ?? 0, tx)
        return count?.rows ?? 0
      },
      { lockTimeoutMs: 2_000 },
    )
    .catch((error: unknown) => {
      // 21000: "cannot affect row a second time".
      if (sqlState(error) !== '21000') throw error
      throw new CaretakerError(
        'job_failed',
        `The report "${name}" gives two rows of one key (${key.join(', ')}); ${table.label} keeps one. Nothing was kept.`,
        { cause: error },
      )
    })
  return rows
}
