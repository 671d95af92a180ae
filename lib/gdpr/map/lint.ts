import { staticBlockers } from '../erase/plan.ts'
import type { Catalogue } from './catalogue.ts'
import type { GdprPolicy } from './policy-names.ts'
import { buildSubjectMap } from './subject-map.ts'

export interface LintFinding {
  rule: 'unclassified-table' | 'personal-column' | 'personal-value' | 'blocked' | 'drift'
  table: string
  column?: string
  message: string
}

/** Column names that hold a person's data in every app; whole words, in snake_case or camelCase. */
const personal =
  /(^|_)(e_?mail|phone|mobile|first_?name|last_?name|full_?name|surname|birth|dob|ssn|passport|iban|address|street|postcode|zip|ip|ip_?address|latitude|longitude|user_?id|customer_?id|user_?agent)(_|$)/i

/** What the policy leaves open: reachable tables it does not describe, and personal columns nothing leads to. Pure. */
export function lintMap(catalogue: Catalogue, policy: GdprPolicy): LintFinding[] {
  const map = buildSubjectMap(catalogue, policy)
  const findings: LintFinding[] = []
  for (const { key, classified, table, erase } of map.tables.values())
    if (!classified && table.schema !== 'auth' && erase.kind !== 'storage')
      findings.push({
        rule: 'unclassified-table',
        table: key,
        message: `${key} is reached from ${map.root} and not described in gdpr.tables: its rows are exported and deleted by default.`,
      })
  for (const [key, table] of catalogue.tables) {
    if (map.tables.has(key) || ['auth', 'storage', 'supabase_migrations'].includes(table.schema)) continue
    for (const { name } of table.columns)
      if (personal.test(name.replace(/([a-z])([A-Z])/g, '$1_$2')))
        findings.push({
          rule: 'personal-column',
          table: key,
          column: name,
          message: `${key}.${name} looks personal, and no foreign key leads there from ${map.root}. Describe the table: gdpr.tables["${key}"] = { link: { column: '…' } }.`,
        })
  }
  for (const message of staticBlockers(map)) findings.push({ rule: 'blocked', table: message.slice(0, message.indexOf(' ')), message })
  return findings
}
