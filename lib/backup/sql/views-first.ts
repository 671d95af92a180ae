import { splitStatements } from './split-statements.ts'

const entry = /^--\n-- Name: .*; Type: ([A-Z ]+); Schema: /gm
const end = '--\n-- PostgreSQL database dump complete\n--\n'

/**
 * A script of pg_dump's post-data in which materialised views are filled before event triggers are made: one of those that forbids DDL would
 * forbid that, too. Where the script cannot be cut, because a text in it looks like a heading, it stays as it is.
 */
export function viewsFirst(script: string, restrictKey: string): string {
  const heads = [...script.matchAll(entry)].map((match) => ({ at: match.index, type: match[1] }))
  const first = heads.find(({ type }) => type === 'EVENT TRIGGER')
  const tail = script.lastIndexOf(end)
  if (first === undefined || tail < first.at) return script
  const views: string[] = []
  const others: string[] = []
  for (const [index, { at, type }] of heads.entries()) {
    if (at < first.at) continue
    const text = script.slice(at, heads[index + 1]?.at ?? tail)
    if (type === 'MATERIALIZED VIEW DATA') views.push(text)
    else others.push(text)
  }
  const ordered = [script.slice(0, first.at), ...views, ...others, script.slice(tail)].join('')
  return sameStatements(script, ordered, restrictKey) ? ordered : script
}

function sameStatements(one: string, other: string, restrictKey: string): boolean {
  const [a, b] = [one, other].map((script) =>
    splitStatements(script, restrictKey)
      .map((statement) => statement.sql)
      .sort(),
  )
  return a !== undefined && b !== undefined && a.length === b.length && a.every((sql, at) => sql === b[at])
}
