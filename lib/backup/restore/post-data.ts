import { qualified } from '../../platform/db.ts'
import { type Statement, splitStatements } from '../sql/split-statements.ts'

/** What a statement of post-data does to the one table that it is about. */
export type TableWork =
  | { kind: 'index' | 'constraint' | 'attach' | 'statistics' | 'row security' | 'finish'; table: string }
  | { kind: 'foreign key'; table: string; foreignKey: ForeignKey }

export interface ForeignKey {
  name: string
  child: string
  parent: string
  parentColumns: string[]
  /** It is made without a look at the rows, as it was in the source. */
  notValid: boolean
}

interface TableName {
  schema: string
  name: string
}

export interface PostData {
  statements: Statement[]
  /** By position among `statements`; what is not here is done at the end, in its order. Tables are named as `qualified` does. */
  work: Map<number, TableWork>
  /** The first statement that is about one table and could not be read: then it is not known what a table still waits for. */
  unread: string | null
}

const part = '(?:"(?:[^"]|"")+"|[^\\s".(),;]+)'
const name = `(${part}\\.${part})`
/** Whatever stands before a word that is looked for, so that no quoted name is taken for it. */
const before = `(?:[^"']|"(?:[^"]|"")*"|'(?:[^']|'')*')*?`
const patterns = {
  index: new RegExp(`^create (?:unique )?index (${part}) on (?:only )?${name}`, 'i'),
  constraint: new RegExp(`^alter table (?:only )?${name}\\s+add constraint (${part}) (?:primary key|unique|exclude)`, 'i'),
  foreignKey: new RegExp(
    `^alter table (?:only )?${name}\\s+add constraint (${part}) foreign key \\([^)]*\\) references ${name}\\s?\\((${part}(?:, ${part})*)\\)`,
    'i',
  ),
  statistics: new RegExp(`^create statistics ${name} (?:\\([a-z, ]+\\) )?on .+ from ${name};$`, 'is'),
  statisticsTarget: new RegExp(`^alter statistics ${name} set statistics `, 'i'),
  attach: new RegExp(`^alter index ${name} attach partition`, 'i'),
  rowSecurity: new RegExp(`^alter table ${name} enable row level security`, 'i'),
  policy: new RegExp(`^create policy ${part} on ${name}`, 'i'),
  trigger: new RegExp(`^create (?:constraint )?trigger ${part} ${before} on ${name}`, 'i'),
  triggerState: new RegExp(`^alter table ${name} (?:enable|disable) (?:always |replica )?trigger`, 'i'),
  rule: new RegExp(`^create rule ${part} as\\s+on [a-z]+ to ${name}`, 'i'),
  check: new RegExp(`^alter table (?:only )?${name}\\s+add constraint ${part} (?:check|not null)`, 'i'),
}

/** What a table may be open without: how it is stored and replicated. */
const harmless =
  /^(?:alter index \S+ alter column |alter table (?:only )?\S+ (?:cluster on|replica identity|alter column))|^create or replace view /i
const aboutTables = new Set([
  'INDEX',
  'CONSTRAINT',
  'INDEX ATTACH',
  'FK CONSTRAINT',
  'CHECK CONSTRAINT',
  'ROW SECURITY',
  'POLICY',
  'TRIGGER',
  'RULE',
])

/**
 * Cuts pg_dump's post-data into statements, and tells what belongs to one table and can be done as soon as that one is
 * loaded: indexes, keys, policies, triggers. A setting that changes on the way (a tablespace) leaves all to its order.
 */
export function readPostData(script: string, restrictKey: string): PostData {
  const statements = splitStatements(script, restrictKey)
  const work = new Map<number, TableWork>()
  const firstEntry = statements.findIndex((statement) => statement.type !== undefined)
  if (statements.slice(Math.max(0, firstEntry)).some((statement) => /^set /i.test(statement.sql)))
    return { statements, work, unread: 'a change of tablespace' }
  /** Of indexes and statistics objects. */
  const tables = new Map<string, string>()
  let unread: string | null = null
  for (const [at, statement] of statements.entries()) {
    const found = workOf(statement, tables)
    if (found !== undefined) work.set(at, found)
    else if (aboutTables.has(statement.type ?? '') && !harmless.test(statement.sql)) unread ??= `${statement.type} ${statement.name}`
  }
  return { statements, work, unread }
}

function workOf({ type, sql }: Statement, tables: Map<string, string>): TableWork | undefined {
  const tableIn = (pattern: RegExp) => canonical(pattern.exec(sql)?.[1])
  switch (type) {
    case 'INDEX': {
      const match = patterns.index.exec(sql)
      const table = canonical(match?.[2])
      return noteIndex(tables, table, match?.[1], 'index')
    }
    case 'CONSTRAINT': {
      const match = patterns.constraint.exec(sql)
      return noteIndex(tables, canonical(match?.[1]), match?.[2], 'constraint')
    }
    case 'INDEX ATTACH': {
      const table = tables.get(tableIn(patterns.attach) ?? '')
      return table === undefined ? undefined : { kind: 'attach', table }
    }
    case 'STATISTICS': {
      const match = patterns.statistics.exec(sql)
      const [object, of] = [canonical(match?.[1]), canonical(match?.[2])]
      if (object !== undefined && of !== undefined) tables.set(`statistics ${object}`, of)
      const table = of ?? tables.get(`statistics ${tableIn(patterns.statisticsTarget)}`)
      return table === undefined ? undefined : { kind: 'statistics', table }
    }
    case 'FK CONSTRAINT': {
      const foreignKey = foreignKeyOf(sql)
      return foreignKey === undefined ? undefined : { kind: 'foreign key', table: foreignKey.child, foreignKey }
    }
    case 'ROW SECURITY': {
      const table = tableIn(patterns.rowSecurity)
      return table === undefined ? undefined : { kind: 'row security', table }
    }
    case 'POLICY':
      return finish(tableIn(patterns.policy))
    case 'TRIGGER':
      return finish(tableIn(patterns.trigger) ?? tableIn(patterns.triggerState))
    case 'RULE':
      return finish(tableIn(patterns.rule))
    case 'CHECK CONSTRAINT':
      return finish(tableIn(patterns.check))
    default:
      return undefined
  }
}

function noteIndex(
  tables: Map<string, string>,
  table: string | undefined,
  index: string | undefined,
  kind: 'index' | 'constraint',
): TableWork | undefined {
  if (table === undefined || index === undefined) return undefined
  // An index lives in the schema of its table.
  const [schema = ''] = partsOf(table)
  tables.set(qualified(schema, unquoted(index)), table)
  return { kind, table }
}

function finish(table: string | undefined): TableWork | undefined {
  return table === undefined ? undefined : { kind: 'finish', table }
}

function foreignKeyOf(sql: string): ForeignKey | undefined {
  const match = patterns.foreignKey.exec(sql)
  const child = canonical(match?.[1])
  const parent = canonical(match?.[3])
  if (match?.[2] === undefined || child === undefined || parent === undefined) return undefined
  const columns = match[4]?.match(new RegExp(part, 'g')) ?? []
  return { name: unquoted(match[2]), child, parent, parentColumns: columns.map(unquoted), notValid: /\bnot valid;?$/i.test(sql) }
}

/** A partition and the table that it is put to; undefined for any other statement. */
export function attachedPartition(sql: string): { parent: TableName; partition: TableName } | undefined {
  const match = attachTable.exec(sql)
  const [parent, partition] = [tableOf(match?.[1]), tableOf(match?.[2])]
  return parent === undefined || partition === undefined ? undefined : { parent, partition }
}

/** The table that a GRANT or REVOKE is about, as `qualified` names it. */
export function grantedTable(sql: string): string | undefined {
  return canonical(grant.exec(sql)?.[1])
}

/** The view that is defined there although it was made before, because it needs a key that comes with the indexes. */
export function definedView({ type, sql }: Statement): string | undefined {
  return type === 'RULE' || type === 'VIEW' ? canonical(view.exec(sql)?.[1]) : undefined
}

const attachTable = new RegExp(`^alter table only ${name} attach partition ${name}`, 'i')
const view = new RegExp(`^create (?:or replace )?view ${name}`, 'i')
const grant = new RegExp(`^(?:grant|revoke) ${before} on table ${name} (?:to|from) `, 'i')

/** A name as pg_dump writes it, as `qualified` does. */
function canonical(written: string | undefined): string | undefined {
  const table = tableOf(written)
  return table === undefined ? undefined : qualified(table.schema, table.name)
}

function tableOf(written: string | undefined): TableName | undefined {
  const [schema, table] = written === undefined ? [] : partsOf(written)
  return schema === undefined || table === undefined ? undefined : { schema, name: table }
}

function partsOf(written: string): string[] {
  return (written.match(new RegExp(part, 'g')) ?? []).map(unquoted)
}

function unquoted(written: string): string {
  return written.startsWith('"') ? written.slice(1, -1).replaceAll('""', '"') : written
}
