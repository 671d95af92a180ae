import { errorAt, type Issue } from '../issue.ts'
import { lex } from '../statement.ts'
import type { ReportWindow } from './period.ts'

/** A report's query with its parameters as PostgreSQL's own: bound, never pasted in. */
export interface BoundReport {
  text: string
  values(window: ReportWindow): unknown[]
}

const known = {
  from: { type: 'timestamptz', value: (window: ReportWindow) => window.from },
  to: { type: 'timestamptz', value: (window: ReportWindow) => window.to },
  slot: { type: 'timestamptz', value: (window: ReportWindow) => window.slot },
  timezone: { type: 'text', value: (window: ReportWindow) => window.timezone },
} as const
type Known = keyof typeof known
const isKnown = (name: string): name is Known => Object.hasOwn(known, name)

const queries = new Set(['select', 'with', 'values', 'table'])

/** What is wrong with the text of a report; what PostgreSQL makes of it is another question. */
export function reportSqlIssues(report: { sql: string; period?: unknown }, path: string): Issue[] {
  const { sql } = report
  const at = `${path}.sql`
  const lexed = lex(sql)
  const [first] = lexed.words
  if (lexed.unterminated !== null) return [errorAt(at, `has an unterminated ${lexed.unterminated}`)]
  if (first === undefined) return [errorAt(at, 'found no statement, expected one query')]
  const rest = lexed.semicolons[0] === undefined ? '' : sql.slice(lexed.semicolons[0] + 1)
  if (lex(rest).words.length > 0 || lexed.semicolons.length > 1) return [errorAt(at, 'found several statements, expected one query')]
  if (!queries.has(first))
    return [errorAt(at, `found "${lexed.words.slice(0, 4).join(' ')}…", expected a query (select, with, values or table)`)]
  if (lexed.parameters.length > 0)
    return [
      errorAt(
        at,
        `found the parameter ${lexed.parameters[0]}, expected the named ones: ${Object.keys(known)
          .map((name) => `:${name}`)
          .join(', ')}`,
      ),
    ]
  const strange = lexed.named.find(({ name }) => !isKnown(name))
  if (strange !== undefined)
    return [
      errorAt(
        at,
        `found the parameter :${strange.name}, expected one of ${Object.keys(known)
          .map((name) => `:${name}`)
          .join(', ')}`,
      ),
    ]
  const bounded = lexed.named.find(({ name }) => name === 'from' || name === 'to')
  if (bounded !== undefined && report.period === undefined)
    return [errorAt(`${path}.period`, `found nothing, expected one, because the query asks for :${bounded.name}`)]
  return []
}

/** The query as PostgreSQL takes it. Call it with a text that has no issues. */
export function bindReport(sql: string): BoundReport {
  const { named, semicolons } = lex(sql)
  const used: Known[] = []
  let text = ''
  let copied = 0
  for (const { name, start, end } of named) {
    if (!isKnown(name)) continue
    if (!used.includes(name)) used.push(name)
    text += `${sql.slice(copied, start)}$${used.indexOf(name) + 1}::${known[name].type}`
    copied = end
  }
  // The semicolon at its end would not stand in parentheses, nor would a comment that runs to the end of the line.
  text += sql.slice(copied, semicolons[0])
  return { text: `${text}\n`, values: (window) => used.map((name) => known[name].value(window)) }
}
