import { identifier } from '../../platform/db.ts'
import type { TouchWork } from './touch.ts'

interface Move {
  table: string
  left: number
  arrived: number
}

/**
 * One statement that takes the parents at `ctids` and every row that hangs from them. All of it sees one state, and
 * foreign keys (here and between the archives) are looked at when it is done, so no order of tables can be wrong.
 */
export function familyStatement(work: TouchWork, ctids: readonly string[]): string {
  const alias = identifier(work.table.name)
  // What PostgreSQL wrote as a tid: digits, a comma and parentheses.
  const tids = `array[${ctids.map((ctid) => `'${ctid.replaceAll(/[^\d(),]/g, '')}'`).join(', ')}]::tid[]`
  const keys = [...new Set(work.descents.filter(({ through }) => through === null).flatMap(({ references }) => references))]
  const parts = [
    `parents as materialized (select ${list(keys, alias)} from only ${work.leaf.sql} as ${alias} where ${alias}.ctid = any(${tids}))`,
  ]
  const counts: string[] = []
  const count = (from: string, as: string) => counts.push(`(select count(*)::int from ${from}) as ${as}`)
  for (const [index, descent] of work.descents.entries()) {
    const name = `c${index}`
    const from = descent.through === null ? 'parents' : `c${descent.through}`
    const child = identifier(descent.table.name)
    const join = descent.columns.map((column, i) => `${child}.${identifier(column)} = up.${identifier(descent.references[i] ?? '')}`)
    const needed = work.descents.filter(({ through }) => through === index).flatMap(({ references }) => references)
    const returned = [...new Set([...needed, ...(descent.into?.columns ?? [])])]
    parts.push(
      `${name} as (delete from ${descent.table.sql} as ${child} using ${from} as up where ${join.join(' and ')} returning ${returned.length === 0 ? '1' : list(returned, child)})`,
    )
    count(name, `left_${index}`)
    if (descent.into === undefined) continue
    parts.push(`a${index} as (${descent.into.insert(name)} returning 1)`)
    count(`a${index}`, `arrived_${index}`)
  }
  const { into } = work.verb
  const change = work.verb.change(work.leaf.sql, `${alias}.ctid = any(${tids})`)
  parts.push(`touched as (${change} returning ${into === undefined ? '1' : list(into.columns, alias)})`)
  count('touched', 'rows')
  if (into !== undefined) {
    parts.push(`written as (${into.insert('touched')} returning 1)`)
    count('written', 'written')
  }
  return `with ${parts.join(', ')} select ${counts.join(', ')}`
}

/** What the statement counted. */
export function readFamily(work: TouchWork, found: Record<string, number>): { rows: number; childRows: number; moves: Move[] } {
  const rows = found.rows ?? 0
  const moves: Move[] = work.verb.into === undefined ? [] : [{ table: work.leaf.label, left: rows, arrived: found.written ?? 0 }]
  let childRows = 0
  for (const [index, descent] of work.descents.entries()) {
    const left = found[`left_${index}`] ?? 0
    childRows += left
    if (descent.into !== undefined) moves.push({ table: descent.table.label, left, arrived: found[`arrived_${index}`] ?? 0 })
  }
  return { rows, childRows, moves }
}

function list(columns: readonly string[], alias: string): string {
  return columns.map((column) => `${alias}.${identifier(column)}`).join(', ')
}
