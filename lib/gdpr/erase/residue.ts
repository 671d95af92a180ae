import { type Context, remainingMs } from '../../platform/context.ts'
import { identifier, type Queryable, qualified } from '../../platform/db.ts'
import { sqlState } from '../../platform/errors.ts'
import { identifierPattern } from '../../platform/identifier-pattern.ts'
import { readCatalogue } from '../map/catalogue.ts'
import type { SubjectMap } from '../map/subject-map.ts'
import { requirePolicy } from '../policy.ts'
import { HandOver } from './progress.ts'
import { retrying } from './retry.ts'

export interface Residue {
  /** Tables that were read from end to end. */
  scanned: number
  /** Where the person is still named. `kept`: in rows that stay on a legal basis, or were made anonymous in other columns. */
  found: { table: string; column: string; rows: number; kept: boolean }[]
  /** Tables that could not be read within the time, or not at all. */
  notScanned: string[]
}

/** What a scan that was handed over has found, and in which tables it has looked. */
export interface ResidueSoFar extends Residue {
  looked: string[]
}

interface ScanOptions {
  onTable: (table: string) => void
  before: ResidueSoFar | undefined
  keep: (soFar: ResidueSoFar) => Promise<void>
  shouldHandOver: () => boolean
}

/** One table may take this long, ms: a scan must not hold an erasure up for hours. */
const tableLimitMs = 60_000
export const replacement = '[erased]'

/**
 * Looks for the person's identifiers in every column of text, JSON or uuid, Caretaker's own tables and Storage's names of files
 * included. Reads each table once, however many invocations it takes; changes nothing.
 * @throws {HandOver} when the invocation ends soon
 */
export async function scanForResidue(
  ctx: Pick<Context, 'db' | 'signal' | 'clock' | 'deadline'>,
  map: SubjectMap,
  identifiers: readonly string[],
  { onTable, before, keep, shouldHandOver }: ScanOptions,
): Promise<Residue> {
  const residue: ResidueSoFar = before ?? { scanned: 0, found: [], notScanned: [], looked: [] }
  const looked = new Set(residue.looked)
  const handOver = async () => {
    await keep({ ...residue, looked: [...looked] })
    throw new HandOver()
  }
  let here = 0
  const pattern = identifierPattern(identifiers)
  // Another server's rows: what is erased there is that server's to say.
  if (before === undefined) residue.notScanned.push(...(await foreignTables(ctx.db)))
  for (const { schema, name, columns } of await textColumns(ctx.db)) {
    ctx.signal.throwIfAborted()
    const key = `${schema}.${name}`
    if (looked.has(key)) continue
    if (here > 0 && shouldHandOver()) await handOver()
    onTable(key)
    const limitMs = Math.max(1_000, Math.min(tableLimitMs, remainingMs(ctx) - 5_000))
    const counts = columns.map((column, n) => `count(*) filter (where ${mentions(`t.${identifier(column)}`)})::float8 as c${n}`)
    try {
      const [row] = await ctx.db.transaction(
        async (tx) => {
          await tx.execute('set local row_security = off')
          return tx.query<Record<string, number>>(
            `select ${counts.join(', ')} from ${qualified(schema, name)} t where ${columns.map((column) => mentions(`t.${identifier(column)}`)).join(' or ')}`,
            [identifiers, pattern],
          )
        },
        { readOnly: true, lockTimeoutMs: 5_000, statementTimeoutMs: limitMs },
      )
      residue.scanned++
      const kind = map.tables.get(key)?.erase.kind
      for (const [n, column] of columns.entries()) {
        const rows = row?.[`c${n}`] ?? 0
        if (rows > 0) residue.found.push({ table: key, column, rows, kept: kind === 'keep' || kind === 'anonymise' })
      }
    } catch (error) {
      // Cancelled by the limit, locked, not permitted: it is said, and the others are read.
      if (!['57014', '55P03', '42501'].includes(sqlState(error) ?? '')) throw error
      // The end of the invocation came before the table's own: the next one has more time for it.
      if (sqlState(error) === '57014' && limitMs < tableLimitMs && here > 0 && shouldHandOver()) await handOver()
      residue.notScanned.push(key)
    }
    looked.add(key)
    here++
  }
  const { looked: _looked, ...result } = residue
  return result
}

/**
 * Replaces the person's identifiers in the columns that `gdpr.tables.*.mentions` names: free text of others that names them.
 * @returns rows changed, a table
 */
export async function eraseMentions(
  ctx: Pick<Context, 'db' | 'config' | 'signal' | 'clock' | 'deadline'>,
  identifiers: readonly string[],
): Promise<Record<string, number>> {
  const changed: Record<string, number> = {}
  const described = Object.entries(requirePolicy(ctx).tables ?? {}).flatMap(([written, { mentions: columns = [] }]) =>
    columns.length === 0 ? [] : [{ key: written.includes('.') ? written : `public.${written}`, columns }],
  )
  if (identifiers.length === 0 || described.length === 0) return changed
  const { tables } = await readCatalogue(ctx.db)
  const pattern = identifierPattern(identifiers)
  for (const { key, columns } of described) {
    const table = tables.get(key)
    if (table === undefined) continue
    const type = (column: string) => table.columns.find(({ name }) => name === column)?.type ?? 'text'
    const assignments = columns.map(
      (column) => `${identifier(column)} = regexp_replace(t.${identifier(column)}::text, $2, '${replacement}', 'gi')::${type(column)}`,
    )
    const rows = await retrying(ctx, () =>
      ctx.db.transaction(
        async (tx) => {
          await tx.execute('set local row_security = off')
          return tx.execute(
            `update ${qualified(table.schema, table.name)} t set ${assignments.join(', ')} where ${columns.map((column) => mentions(`t.${identifier(column)}`)).join(' or ')}`,
            [identifiers, pattern],
          )
        },
        { lockTimeoutMs: 5_000, statementTimeoutMs: Math.max(5_000, Math.min(10 * tableLimitMs, remainingMs(ctx) - 5_000)) },
      ),
    )
    if (rows > 0) changed[key] = rows
  }
  return changed
}

/** Without regard to case. The identifiers are `$1`, which most rows are ruled out by, and their pattern is `$2`: parameters are in no log. */
function mentions(column: string): string {
  return `(exists (select from unnest($1::text[]) as i where position(i in lower(${column}::text)) > 0) and ${column}::text ~* $2)`
}

/** Everything that can hold text, but for the open requests themselves and what PostgreSQL keeps for itself. */
function textColumns(db: Queryable): Promise<{ schema: string; name: string; columns: string[] }[]> {
  return db.query(
    `select n.nspname::text as schema, c.relname::text as name, array_agg(a.attname::text order by a.attnum) as columns
     from pg_catalog.pg_class c
     join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     join pg_catalog.pg_type d on d.oid = a.atttypid
     join pg_catalog.pg_type t on t.oid = coalesce(nullif(d.typbasetype, 0), d.oid)
     left join pg_catalog.pg_type e on e.oid = t.typelem and t.typcategory = 'A'
     where c.relkind in ('r', 'p', 'm') and not c.relispartition and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and (n.nspname, c.relname) not in (('caretaker', 'gdpr_requests'), ('caretaker', 'rate_limits'))
       and coalesce(e.typname, t.typname) in ('text', 'varchar', 'bpchar', 'citext', 'name', 'json', 'jsonb', 'xml', 'uuid', 'hstore')
       and (c.relkind <> 'm' or c.relispopulated)
     group by 1, 2 order by 1, 2`,
  )
}

async function foreignTables(db: Queryable): Promise<string[]> {
  const rows = await db.query<{ name: string }>(
    `select n.nspname || '.' || c.relname as name from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'f' order by 1`,
  )
  return rows.map(({ name }) => name)
}
