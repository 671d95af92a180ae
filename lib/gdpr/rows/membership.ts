import { identifier, qualified } from '../../platform/db.ts'
import { type LinkPlace, linkMatches } from '../map/links.ts'
import type { Edge, MapTable, SubjectMap } from '../map/subject-map.ts'

/*
 * SQL that finds the subject's rows, set-based and parents first. The subject's id is never in the SQL: it is read from
 * a setting of the transaction (`set_config('caretaker.subject', $1, true)`), because COPY takes no parameters and
 * because statements are logged.
 */

export const subjectSetting = 'caretaker.subject'

/** The relation that holds the key columns of a table's rows: a CTE here, a temporary table during an erasure. */
export type Source = (table: string) => string

export const oid = '"caretaker:table"'
export const tid = '"caretaker:row"'

/** `select <list> from table as t …`: the subject's rows of one table. `list` refers to the row as `t`. */
export function rowsOf(map: SubjectMap, table: MapTable, list: string, source: Source): string {
  const from = relation(table)
  const circle = circleOf(map, table.key)
  if (table.key === map.root) return `select ${list} from ${from} t where ${isSubject(map)}`
  if (circle !== undefined)
    return `select ${list} from ${circleSource(circle, source)} m join ${from} t on m.n = ${circle.indexOf(table.key)} and ${samePlace(table, 't', `m.${oid}`, `m.${tid}`)}`
  const [first, ...others] = table.edges
  if (first === undefined) return `select ${list} from ${from} t where false`
  if (others.length === 0) return `select ${list} from ${from} t where ${matches(first, 't', source)}`
  // One index scan an edge: OR over sub-selects would read the whole table.
  const places = table.edges.map(
    (edge) => `select e.tableoid as ${oid}, e.ctid as ${tid} from ${from} e where ${matches(edge, 'e', source)}`,
  )
  return `select ${list} from (${places.join(' union ')}) m join ${from} t on ${samePlace(table, 't', `m.${oid}`, `m.${tid}`)}`
}

/** A `with recursive …` prefix that defines the key sets of everything above `keys`, and the source that names them. */
export function keySets(map: SubjectMap, keys: readonly string[]): { prefix: string; source: Source } {
  const needed = new Set<string>()
  const visit = (key: string) => {
    for (const edge of map.tables.get(key)?.edges ?? []) {
      if (needed.has(edge.parent)) continue
      needed.add(edge.parent)
      for (const other of circleOf(map, edge.parent) ?? []) visit(other)
      visit(edge.parent)
    }
  }
  for (const key of keys) {
    visit(key)
    for (const other of circleOf(map, key) ?? []) visit(other)
  }
  const order = [...map.tables.keys()]
  const source: Source = (key) => `"caretaker:${order.indexOf(key)}"`
  const parts: string[] = []
  for (const group of map.groups) {
    const circle = circleOf(map, group[0] as string)
    const wanted = group.filter((key) => needed.has(key) || keys.includes(key))
    if (wanted.length === 0) continue
    if (circle !== undefined)
      parts.push(`${circleSource(circle, source)}(n, ${oid}, ${tid}) as (${circleSql(map, circle, source, circleSource(circle, source))})`)
    for (const key of group) {
      const table = map.tables.get(key) as MapTable
      if (needed.has(key)) parts.push(`${source(key)} as (${rowsOf(map, table, keyList(map, table), source)})`)
    }
  }
  return { prefix: parts.length === 0 ? '' : `with recursive ${parts.join(',\n')}\n`, source }
}

/** The columns of `t` by which other rows reference it, and with `identity` those that tell it apart. */
export function keyList(map: SubjectMap, table: MapTable, identity = false): string {
  const names = new Set(identity ? table.identity : [])
  for (const other of map.tables.values())
    for (const edge of other.edges) if (edge.parent === table.key) for (const name of edge.parentColumns) names.add(name)
  for (const cut of map.cuts)
    if (cut.foreignKey.references === table.key) for (const name of cut.foreignKey.referencedColumns) names.add(name)
  const columns = [...names].map((name) => `t.${identifier(name)}`)
  if (identity && table.identity.length === 0) columns.push(identityList(table))
  return columns.length === 0 ? '1 as one' : columns.join(', ')
}

/** The tables of the circle that `key` is part of (itself included), or undefined where it is part of none. */
export function circleOf(map: SubjectMap, key: string): readonly string[] | undefined {
  const group = map.groups.find((one) => one.includes(key))
  if (group === undefined) return undefined
  if (group.length > 1) return group
  return map.tables.get(key)?.edges.some((edge) => edge.parent === key) === true ? group : undefined
}

/** The relation that holds the places of all rows of a circle. */
export function circleSource(circle: readonly string[], source: Source): string {
  return source(circle[0] as string).replace(/"$/, ':circle"')
}

/**
 * The rows of tables that reach each other in a circle, as (number in the circle, table, place): one recursive query,
 * because PostgreSQL has no mutual recursion. `walk` is the query's own name. `union` drops what was found before, so circles in the rows end.
 */
export function circleSql(map: SubjectMap, circle: readonly string[], source: Source, walk: string): string {
  const seeds: string[] = []
  const steps: string[] = []
  for (const [n, key] of circle.entries()) {
    const table = map.tables.get(key) as MapTable
    for (const edge of table.edges) {
      const from = circle.indexOf(edge.parent)
      if (from === -1) {
        seeds.push(`select ${n}, c.tableoid, c.ctid from ${relation(table)} c where ${matches(edge, 'c', source)}`)
        continue
      }
      const parent = map.tables.get(edge.parent) as MapTable
      steps.push(
        `select ${n}, c.tableoid, c.ctid from ${relation(parent)} p join ${relation(table)} c on ${joined(edge, 'p', 'c')}
         where r.n = ${from} and ${samePlace(parent, 'p', `r.${oid}`, `r.${tid}`)}`,
      )
    }
  }
  const seed = seeds.length === 0 ? `select 0, 0::oid, null::tid where false` : seeds.join(' union ')
  return `select * from (${seed}) as s(n, ${oid}, ${tid}) union
    select x.* from ${walk} r(n, ${oid}, ${tid}) cross join lateral (${steps.join(' union all ')}) as x(n, ${oid}, ${tid})`
}

export function relation(table: Pick<MapTable, 'table'>): string {
  return qualified(table.table.schema, table.table.name)
}

export function isSubject(map: SubjectMap): string {
  return `t.${identifier(map.rootColumn.name)} = current_setting('${subjectSetting}')::${map.rootColumn.type}`
}

/** How a soft link's two values are compared. */
export function sameAs({ as }: Pick<Edge, 'as'>): (left: string, right: string) => string {
  return as === 'email'
    ? (left, right) => `lower(${left}::text) = lower(${right}::text)`
    : (left, right) => `${left}::text = ${right}::text`
}

/** Referenced and referencing columns equal, as the constraint itself compares them. */
export function joined(
  edge: Pick<Edge, 'parentColumns' | 'columns' | 'operators' | 'as' | 'place'> & { unlessNamed?: Edge['unlessNamed'] },
  parent: string,
  child: string,
): string {
  const pairs = edge.columns.map((name, n) => {
    const [above, below] = [`${parent}.${identifier(edge.parentColumns[n] as string)}`, `${child}.${identifier(name)}`]
    if (edge.place !== undefined) return `${softly(edge, edge.place, above, below, n)} and btrim(${above}::text) <> ''`
    return `${above} ${edge.operators[n] ?? '='} ${below}`
  })
  const guards = (edge.unlessNamed ?? []).map(
    (columns) => `(${columns.map((name) => `${child}.${identifier(name)} is null`).join(' or ')})`,
  )
  return [...pairs, ...guards].join(' and ')
}

/** A soft link. Blank values are no link: everybody without a telephone number would be one person. */
function softly(edge: Pick<Edge, 'as' | 'operators'>, place: LinkPlace, above: string, below: string, n: number): string {
  if (place.in !== 'scalar') return linkMatches(place, below, above, sameAs(edge))
  return edge.as === undefined ? `${above} ${edge.operators[n] ?? '='} ${below}` : sameAs(edge)(above, below)
}

function matches(edge: Edge, row: string, source: Source): string {
  return `exists (select from ${source(edge.parent)} k where ${joined(edge, 'k', row)})`
}

/** Two names for one row: by what tells it apart, else by its place (which an update moves). */
export function sameRow(table: MapTable, row: string, key: string): string {
  if (table.identity.length === 0) return samePlace(table, row, `${key}.${oid}`, `${key}.${tid}`)
  return table.identity.map((name) => `${row}.${identifier(name)} = ${key}.${identifier(name)}`).join(' and ')
}

/** What `sameRow` needs of a row `t`. */
export function identityList(table: MapTable): string {
  return table.identity.length === 0
    ? `t.tableoid as ${oid}, t.ctid as ${tid}`
    : table.identity.map((name) => `t.${identifier(name)}`).join(', ')
}

function samePlace(table: MapTable, row: string, atTable: string, atRow: string): string {
  return table.table.partitioned ? `${row}.ctid = ${atRow} and ${row}.tableoid = ${atTable}` : `${row}.ctid = ${atRow}`
}
