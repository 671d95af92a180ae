import { identifier, type Queryable, qualified } from '../../platform/db.ts'
import { sqlState } from '../../platform/errors.ts'
import type { Catalogue } from './catalogue.ts'
import type { LintFinding } from './lint.ts'
import { tableKey } from './policy-names.ts'
import type { SubjectMap } from './subject-map.ts'

const rowsSampled = 200

/** What values look like that are about a person, and the share of a sample's values from which a column is one of them. */
const kinds: readonly { kind: string; test: (value: string) => boolean; share: number }[] = [
  { kind: 'e-mail addresses', test: (value) => /[\w.+-]+@[\w-]+(\.[\w-]+)*\.[a-z]{2,}/i.test(value), share: 0 },
  { kind: 'IBANs', test: isIban, share: 0.05 },
  { kind: 'card numbers', test: isCardNumber, share: 0.05 },
  { kind: 'telephone numbers', test: (value) => /^\+[1-9]\d{7,14}$/.test(value.replace(/[ ()/.-]/g, '')), share: 0.2 },
  {
    kind: 'IP addresses',
    test: (value) => /^(\d{1,3}\.){3}\d{1,3}$/.test(value) && value.split('.').every((part) => Number(part) <= 255),
    share: 0.2,
  },
]

/**
 * Columns whose values look like a person's, in tables that nothing leads to: a name like `note` or `data` gives nothing
 * away. Reads up to 200 rows a table; no value leaves this function.
 */
export async function sampleFindings(
  db: Queryable,
  catalogue: Catalogue,
  map: SubjectMap,
  known: readonly LintFinding[],
): Promise<LintFinding[]> {
  const findings: LintFinding[] = []
  for (const table of catalogue.tables.values()) {
    const key = tableKey(table)
    if (map.tables.has(key) || ['auth', 'storage', 'supabase_migrations'].includes(table.schema)) continue
    const columns = table.columns.filter(
      ({ name, type }) => /^(text|character|citext|json|inet)/.test(type) && !known.some((one) => one.table === key && one.column === name),
    )
    if (columns.length === 0) continue
    const rows = await sample(
      db,
      qualified(table.schema, table.name),
      columns.map(({ name }) => identifier(name)),
    )
    for (const [n, { name }] of columns.entries()) {
      const values = rows.map((row) => row[`c${n}`]).filter((value): value is string => typeof value === 'string' && value !== '')
      const found = kinds.find(({ test, share }) => {
        const hits = values.filter((value) => test(value)).length
        return hits > 0 && hits >= values.length * share
      })
      if (found !== undefined)
        findings.push({
          rule: 'personal-value',
          table: key,
          column: name,
          message: `${key}.${name} holds what looks like ${found.kind}, and nothing leads there from ${map.root}. Describe the table: gdpr.tables["${key}"] = { link: { column: '…' } }, or { mentions: ['${name}'] } where it is free text.`,
        })
    }
  }
  return findings
}

async function sample(db: Queryable, from: string, columns: readonly string[]): Promise<Record<string, string | null>[]> {
  try {
    // A few rows from either end: of the last twenty pages only, because sorting all places would read the whole table.
    const list = columns.map((column, n) => `left(t.${column}::text, 2000) as c${n}`).join(', ')
    const [end] = await db.query<{ page: string | null }>(
      `select case when size > 0 then format('(%s,0)', greatest(size / current_setting('block_size')::int - 20, 0)) end as page
       from pg_relation_size($1::regclass) as size`,
      [from],
    )
    const first = `(select ${list} from ${from} t limit ${rowsSampled / 2})`
    // A partitioned table has no pages of its own.
    if (end === undefined || end.page === null) return await db.query(first)
    return await db.query(
      `${first} union all (select ${list} from ${from} t where t.ctid >= $1::tid order by t.ctid desc limit ${rowsSampled / 2})`,
      [end.page],
    )
  } catch (error) {
    // Not readable, or without places of its own: its columns' names have been judged already.
    if (['42501', '42703', '0A000'].includes(sqlState(error) ?? '')) return []
    throw error
  }
}

/** ISO 13616: the remainder of the rearranged number by 97 is 1. */
function isIban(value: string): boolean {
  const text = value.replace(/ /g, '').toUpperCase()
  if (!/^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$/.test(text)) return false
  const digits = `${text.slice(4)}${text.slice(0, 4)}`.replace(/[A-Z]/g, (letter) => String(letter.charCodeAt(0) - 55))
  return [...digits].reduce((rest, digit) => (rest * 10 + Number(digit)) % 97, 0) === 1
}

/** ISO/IEC 7812: the Luhn check digit. */
function isCardNumber(value: string): boolean {
  const digits = value.replace(/[ -]/g, '')
  if (!/^[3-6]\d{12,18}$/.test(digits)) return false
  const sum = [...digits].reverse().reduce((total, digit, n) => {
    const doubled = Number(digit) * (n % 2 === 1 ? 2 : 1)
    return total + (doubled > 9 ? doubled - 9 : doubled)
  }, 0)
  return sum % 10 === 0
}
