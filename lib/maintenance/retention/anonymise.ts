import { identifier } from '../../platform/db.ts'
import { errorAt, type Issue } from '../issue.ts'
import { type Column, missingColumn, type Relation } from '../relations.ts'
import type { RetentionTarget } from './target.ts'
import type { Verb } from './touch.ts'

/** One column and what it becomes. */
export interface Assignment {
  column: string
  type: string
  /** As text, which PostgreSQL casts to the column's type. */
  value: string | null
}

type Replacement = string | number | boolean | null

/**
 * Matches the columns to overwrite with the table's. `notYet` is the condition that a row still has something to
 * overwrite: it makes a second run find nothing, and an unfinished one go on where it stopped.
 */
export function resolveAnonymise(
  table: Relation,
  columns: ReadonlyMap<string, Column>,
  replacements: Record<string, Replacement>,
  mark: string | undefined,
  path: string,
): { assignments: Assignment[]; notYet: string; issues: Issue[] } {
  const issues: Issue[] = []
  const assignments: Assignment[] = []
  for (const [name, value] of Object.entries(replacements)) {
    const at = `${path}.action.anonymise.${name}`
    const missing = missingColumn(columns, name, table, at)
    if (missing !== undefined) issues.push(missing)
    const column = columns.get(name)
    if (column === undefined) continue
    if (column.generated || column.identity === 'always')
      issues.push(errorAt(at, `found "${name}", which PostgreSQL computes itself; expected a column that can be written`))
    if (value === null && column.notNull) issues.push(errorAt(at, `found null, but ${table.label}.${name} is "not null"; expected a value`))
    assignments.push({ column: name, type: column.type, value: value === null ? null : String(value) })
  }
  if (assignments.length === 0 && issues.length === 0)
    issues.push(errorAt(`${path}.action.anonymise`, 'found no columns, expected at least one with the value it becomes'))
  if (mark !== undefined) {
    const missing = missingColumn(columns, mark, table, `${path}.mark`)
    if (missing !== undefined) issues.push(missing)
    const column = columns.get(mark)
    if (column !== undefined && column.baseType !== 'bool')
      issues.push(errorAt(`${path}.mark`, `found "${mark}" of type ${column.type}, expected a boolean column`))
  }
  const alias = identifier(table.name)
  const notYet =
    mark === undefined
      ? // Compared as text: json has no equality of its own.
        `(${assignments.map(({ column, type, value }) => `${alias}.${identifier(column)}::text is distinct from ${asText(value, type)}`).join(' or ')})`
      : `${alias}.${identifier(mark)} is not true`
  return {
    assignments: mark === undefined ? assignments : [...assignments, { column: mark, type: 'boolean', value: 'true' }],
    notYet,
    issues,
  }
}

function asText(value: string | null, type: string): string {
  return value === null ? 'null' : `${literal(value)}::${type}::text`
}

/** A string constant, whatever `standard_conforming_strings` says. */
export function literal(text: string): string {
  return `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}

/** Overwrites the batch's columns. */
export function anonymiseVerb(target: Pick<RetentionTarget, 'table'>, assignments: readonly Assignment[]): Verb {
  const alias = identifier(target.table.name)
  const set = assignments
    .map(({ column, type, value }) => `${identifier(column)} = ${value === null ? 'null' : `${literal(value)}::${type}`}`)
    .join(', ')
  return { change: (leaf, where) => `update only ${leaf} as ${alias} set ${set} where ${where}` }
}
