import { identifier, type Queryable, qualified } from '../../../platform/db.ts'
import { type Column, labelOf, type Relation } from '../../relations.ts'
import { loadPartitions } from './tree.ts'

export type Interval = 'day' | 'week' | 'month' | 'quarter' | 'year'

export interface ComingOptions {
  interval: Interval
  ahead: string
  /** The zone whose midnights the boundaries are. */
  timezone: string
}

/** A partition that is to be made. */
export interface ComingPartition {
  schema: string
  name: string
  label: string
  sql: string
  /** Bounds as text of the column's type. */
  from: string
  to: string
  /** Rows of the default partition that belong here. */
  rowsInDefault: number
  /** It fills a gap: partitions that are there already do not begin where the interval does. */
  clipped: boolean
}

/** Multiranges of the types an age may have, and how a local midnight becomes a value of them. */
const rangeTypes: Record<string, { range: string; multirange: string; local: (at: string) => string }> = {
  timestamptz: { range: 'tstzrange', multirange: 'tstzmultirange', local: (at) => `${at} at time zone $2` },
  timestamp: { range: 'tsrange', multirange: 'tsmultirange', local: (at) => at },
  date: { range: 'daterange', multirange: 'datemultirange', local: (at) => `(${at})::date` },
}

/** How a partition is told apart from its siblings by its name, as PostgreSQL's to_char writes it. */
const nameFormats: Record<Interval, string> = {
  day: 'YYYY_MM_DD',
  week: 'IYYY"_w"IW',
  month: 'YYYY_MM',
  quarter: 'YYYY"_q"Q',
  year: 'YYYY',
}

/**
 * Partitions that must be there from now on, for as long ahead as the rule says, and are not. Boundaries are midnights of
 * the time zone, so a day or month with a change of the clocks is as long as people live it. Call it inside a pinned transaction.
 */
export async function comingPartitions(db: Queryable, table: Relation, age: Column, options: ComingOptions): Promise<ComingPartition[]> {
  const types = rangeTypes[age.baseType]
  if (types === undefined) return []
  const { range, multirange, local } = types
  const step = options.interval === 'quarter' ? '3 months' : `1 ${options.interval}`
  const partitions = await loadPartitions(db, table.oid, age, null)
  const own = partitions.filter(({ parent, isDefault, pending }) => parent.oid === table.oid && !isDefault && !pending)
  const gaps = await db.query<{ stem: string; from: string; to: string; clipped: boolean }>(
    `with now as (select date_trunc('${options.interval}', now() at time zone $2) as first, now() at time zone $2 + $1::interval as last),
     periods as (
       select first + n * interval '${step}' as a, first + (n + 1) * interval '${step}' as b
       from now, generate_series(0, 5000) as n where first + n * interval '${step}' < last
     ), there as (
       select coalesce(range_agg(${range}(f::${age.baseType}, t::${age.baseType})), '{}'::${multirange}) as ranges
       from unnest($3::text[], $4::text[]) as x(f, t)
     )
     select to_char(a, '${nameFormats[options.interval]}') as stem, lower(gap)::text as "from", upper(gap)::text as "to",
            gap <> ${range}(${local('a')}, ${local('b')}) as clipped
     from periods, there, unnest(${multirange}(${range}(${local('a')}, ${local('b')})) - ranges) as gap
     order by lower(gap)`,
    [options.ahead, options.timezone, own.map(({ from }) => from), own.map(({ to }) => to)],
  )
  const taken = await takenNames(db, table.schema)
  const overflow = partitions.find(({ parent, isDefault }) => parent.oid === table.oid && isDefault)
  const made: ComingPartition[] = []
  for (const { stem, from, to, clipped } of gaps) {
    const name = freeName(table.name, stem, taken)
    taken.add(name)
    made.push({
      schema: table.schema,
      name,
      label: labelOf(table.schema, name),
      sql: qualified(table.schema, name),
      from,
      to,
      clipped,
      rowsInDefault: overflow === undefined ? 0 : await rowsBetween(db, overflow.relation, age, from, to),
    })
  }
  return made
}

async function takenNames(db: Queryable, schema: string): Promise<Set<string>> {
  const rows = await db.query<{ name: string }>(
    `select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1`,
    [schema],
  )
  return new Set(rows.map(({ name }) => name))
}

/** PostgreSQL cuts names at 63 bytes: the table's part gives way, so that the date stays readable. */
function freeName(table: string, stem: string, taken: ReadonlySet<string>): string {
  for (let n = 1; ; n++) {
    const end = n === 1 ? `_${stem}` : `_${stem}_${n}`
    let start = table
    while (Buffer.byteLength(start + end) > 63) start = [...start].slice(0, -1).join('')
    if (!taken.has(start + end)) return start + end
  }
}

async function rowsBetween(db: Queryable, table: Relation, age: Column, from: string, to: string): Promise<number> {
  const column = identifier(age.name)
  const [row] = await db.query<{ n: number }>(
    `select count(*)::float8 as n from ${table.sql} where ${column} >= $1::text::${age.baseType} and ${column} < $2::text::${age.baseType}`,
    [from, to],
  )
  return row?.n ?? 0
}
