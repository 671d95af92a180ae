import { identifier } from '../../platform/db.ts'
import type { Column } from './catalogue.ts'

/**
 * Where in a column a soft link stands: `scalar` is the column itself; `array` any element of a PostgreSQL array; `path` a value
 * inside JSON; `each` any element of a JSON array there.
 */
export type LinkPlace =
  | { in: 'scalar' }
  | { in: 'array' }
  | { in: 'path'; path: readonly string[] }
  | { in: 'each'; path: readonly string[] }

/** `path` as the policy writes it: `user.id`, or `members[]` for the elements of an array, `[]` where the column is the array. */
export function placeOf(column: Column, path: string | undefined): LinkPlace {
  if (path === undefined) return column.type.endsWith('[]') ? { in: 'array' } : { in: 'scalar' }
  const each = path.endsWith('[]')
  const steps = (each ? path.slice(0, -2) : path).split('.').filter((step) => step !== '')
  return each ? { in: 'each', path: steps } : { in: 'path', path: steps }
}

/** Several people may stand in it, so that its row is not one person's alone. */
export function isShared(place: LinkPlace): boolean {
  return place.in === 'array' || place.in === 'each'
}

/** How two values are compared: `(left, right)` as SQL. */
type Same = (left: string, right: string) => string

/** SQL that is true where the link names the person whose value `parent` is. */
export function linkMatches(place: LinkPlace, column: string, parent: string, same: Same): string {
  switch (place.in) {
    case 'scalar':
      return same(parent, column)
    case 'array':
      return `exists (select from unnest(${column}) as e(v) where ${same(parent, 'e.v')})`
    case 'path':
      return same(parent, `(${at(column, place.path)} #>> '{}')`)
    case 'each':
      return `exists (select from jsonb_array_elements_text(${listAt(column, place.path)}) as e(v) where ${same(parent, 'e.v')})`
  }
}

/** The column without the person: null, or without the elements or the JSON value that name them. `people` is a relation `k` of their values. */
export function withoutPerson(place: LinkPlace, column: Column, row: string, people: string, parent: string, same: Same): string {
  const own = `${row}.${identifier(column.name)}`
  const stays = (value: string) => `not exists (select from ${people} k where ${same(parent, value)})`
  switch (place.in) {
    case 'scalar':
      return 'null'
    case 'array':
      return `(select coalesce(array_agg(e.v order by e.n), '{}') from unnest(${own}) with ordinality as e(v, n) where ${stays('e.v')})`
    case 'path':
      return `(${own}::jsonb #- ${pathLiteral(place.path)})::${column.type}`
    case 'each': {
      const list = `(select coalesce(jsonb_agg(e.v order by e.n), '[]') from jsonb_array_elements(${listAt(own, place.path)}) with ordinality as e(v, n) where ${stays(`(e.v #>> '{}')`)})`
      return place.path.length === 0
        ? `${list}::${column.type}`
        : `jsonb_set(${own}::jsonb, ${pathLiteral(place.path)}, ${list})::${column.type}`
    }
  }
}

function at(column: string, path: readonly string[]): string {
  return path.length === 0 ? `${column}::jsonb` : `(${column}::jsonb #> ${pathLiteral(path)})`
}

/** The array there, or an empty one: what is no array has no elements. */
function listAt(column: string, path: readonly string[]): string {
  return `(case when jsonb_typeof(${at(column, path)}) = 'array' then ${at(column, path)} else '[]' end)`
}

function pathLiteral(path: readonly string[]): string {
  return `array[${path.map((step) => `'${step.replaceAll("'", "''")}'`).join(', ')}]::text[]`
}
