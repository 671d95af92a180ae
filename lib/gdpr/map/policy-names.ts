import { nearest, type Policy } from '../../config/index.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { Catalogue, Table } from './catalogue.ts'

export type GdprPolicy = NonNullable<Policy['gdpr']>
export type TablePolicy = NonNullable<GdprPolicy['tables']>[string]

interface Issue {
  path: string
  message: string
}

export interface ResolvedPolicy {
  /** `schema.table`. */
  subject: string
  idColumn: string
  emailColumn: string | undefined
  phoneColumn: string | undefined
  tables: ReadonlyMap<string, TablePolicy>
}

/**
 * The policy's names, each found in the catalogue.
 * @throws {CaretakerError} `policy_invalid`, one issue a name that is not there, with the nearest that is.
 */
export function resolvePolicy(catalogue: Catalogue, policy: GdprPolicy): ResolvedPolicy {
  const issues: Issue[] = []
  const subject = resolveTable(catalogue, policy.subject.table, 'gdpr.subject.table', issues)
  const tables = new Map<string, TablePolicy>()
  for (const [written, settings] of Object.entries(policy.tables ?? {})) {
    const path = `gdpr.tables.${written}`
    const table = resolveTable(catalogue, written, path, issues)
    if (table === undefined) continue
    const key = tableKey(table)
    if (tables.has(key)) issues.push({ path, message: `${key} is already described under another spelling; describe it once` })
    tables.set(key, settings)
    for (const [at, column] of columnsNamed(settings)) requireColumn(table, column, `${path}.${at}`, issues)
  }
  let idColumn = policy.subject.id
  let emailColumn = policy.subject.email
  if (subject !== undefined)
    for (const column of policy.subject.identifiers ?? []) requireColumn(subject, column, 'gdpr.subject.identifiers', issues)
  if (subject !== undefined) {
    if (idColumn !== undefined) requireColumn(subject, idColumn, 'gdpr.subject.id', issues)
    else if (subject.primaryKey.length === 1) idColumn = subject.primaryKey[0]
    else
      issues.push({
        path: 'gdpr.subject.id',
        message: `${tableKey(subject)} has ${subject.primaryKey.length === 0 ? 'no primary key' : 'a primary key of several columns'}; name the column that identifies a person`,
      })
    if (emailColumn !== undefined) requireColumn(subject, emailColumn, 'gdpr.subject.email', issues)
    else emailColumn = subject.columns.find((column) => column.name === 'email')?.name
    if (emailColumn === undefined)
      for (const [key, settings] of tables)
        if (linksOf(settings).some(({ to }) => to === 'email'))
          issues.push({
            path: `gdpr.tables.${key}.link`,
            message: `links by e-mail, but ${tableKey(subject)} has no column "email"; set gdpr.subject.email`,
          })
  }
  let phoneColumn = policy.subject.phone
  if (subject !== undefined) {
    if (phoneColumn !== undefined) requireColumn(subject, phoneColumn, 'gdpr.subject.phone', issues)
    else phoneColumn = subject.columns.find((column) => column.name === 'phone')?.name
    if (phoneColumn === undefined)
      for (const [key, settings] of tables)
        if (linksOf(settings).some(({ to }) => to === 'phone'))
          issues.push({
            path: `gdpr.tables.${key}.link`,
            message: `links by telephone number, but ${tableKey(subject)} has no column "phone"; set gdpr.subject.phone`,
          })
  }
  for (const [key, settings] of tables)
    for (const { column, path } of linksOf(settings)) {
      const type = catalogue.tables.get(key)?.columns.find(({ name }) => name === column)?.type
      if (path !== undefined && type !== undefined && !/^jsonb?$/.test(type))
        issues.push({ path: `gdpr.tables.${key}.link.path`, message: `${column} is of type ${type}; a path leads into json or jsonb` })
    }
  if (issues.length > 0 || subject === undefined || idColumn === undefined)
    throw new CaretakerError(
      'policy_invalid',
      `The policy does not fit the database:\n${issues.map((i) => `  ${i.path}: ${i.message}`).join('\n')}`,
      { issues },
    )
  return { subject: tableKey(subject), idColumn, emailColumn, phoneColumn, tables }
}

/** A table's soft links. */
export function linksOf({ link }: TablePolicy): { column: string; to?: 'id' | 'email' | 'phone' | undefined; path?: string | undefined }[] {
  return link === undefined ? [] : Array.isArray(link) ? link : [link]
}

export function tableKey(table: Pick<Table, 'schema' | 'name'>): string {
  return `${table.schema}.${table.name}`
}

function resolveTable(catalogue: Catalogue, written: string, path: string, issues: Issue[]): Table | undefined {
  const key = written.includes('.') ? written : `public.${written}`
  const table = catalogue.tables.get(key)
  if (table !== undefined) return table
  const near = nearestTable(catalogue, written)
  issues.push({ path, message: `there is no table ${key}${near === undefined ? '' : `; did you mean "${near}"?`}` })
  return undefined
}

/** The same name in another schema is nearer than another name in the same one. */
function nearestTable(catalogue: Catalogue, written: string): string | undefined {
  const bare = written.slice(written.indexOf('.') + 1)
  const elsewhere = [...catalogue.tables.values()].find((table) => table.name === bare)
  if (elsewhere !== undefined) return tableKey(elsewhere)
  const spellings = [...catalogue.tables.values()].map((table) => (written.includes('.') ? tableKey(table) : table.name))
  return nearest(written, spellings)
}

function requireColumn(table: Table, column: string, path: string, issues: Issue[]): void {
  if (table.columns.some((known) => known.name === column)) return
  const near = nearest(
    column,
    table.columns.map((known) => known.name),
  )
  issues.push({ path, message: `${tableKey(table)} has no column "${column}"${near === undefined ? '' : `; did you mean "${near}"?`}` })
}

function columnsNamed(settings: TablePolicy): [string, string][] {
  const named: [string, string][] = []
  if (Array.isArray(settings.export)) for (const column of settings.export) named.push(['export', column])
  for (const link of linksOf(settings)) named.push(['link.column', link.column])
  for (const [column, unless] of Object.entries(settings.redact ?? {})) {
    named.push(['redact', column])
    if (unless !== true) named.push([`redact.${column}`, unless])
  }
  for (const column of settings.mentions ?? []) named.push(['mentions', column])
  for (const column of settings.rectify ?? []) named.push(['rectify', column])
  for (const column of settings.ignore ?? []) named.push(['ignore', column])
  if (typeof settings.erase === 'object' && settings.erase.anonymise !== undefined) {
    const { anonymise } = settings.erase
    for (const column of Array.isArray(anonymise) ? anonymise : Object.keys(anonymise)) named.push(['erase.anonymise', column])
  }
  return named
}
