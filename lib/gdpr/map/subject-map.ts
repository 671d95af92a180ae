import type { Catalogue, Column, ForeignKey, Table } from './catalogue.ts'
import { components } from './components.ts'
import { type Cut, cutsOf } from './cuts.ts'
import { isShared, type LinkPlace, placeOf } from './links.ts'
import { type GdprPolicy, linksOf, type ResolvedPolicy, resolvePolicy, type TablePolicy } from './policy-names.ts'

type Constant = string | number | boolean | null
/** How a value is made less of the person's, without being the same in every row. */
export type Transform = { pseudonym: true } | { generalise: 'year' | 'month' | 'day' | { first: number } | { step: number } }

/** How rows of a table are found from rows of another (or the same) that are already the subject's. */
export interface Edge {
  kind: 'key' | 'link'
  /** The constraint's name, or the linking column's. */
  name: string
  parent: string
  parentColumns: readonly string[]
  columns: readonly string[]
  operators: readonly string[]
  /** Compare as text, e-mail addresses without regard to case: a soft link has no constraint that says how. */
  as?: 'text' | 'email'
  /** Of a soft link: where in its column it stands. */
  place?: LinkPlace
  /**
   * Foreign keys of the row that name a person directly. The edge only takes rows where each of them is null: a row that
   * names another person is that person's, and this edge can be cut without deleting it.
   */
  unlessNamed: readonly (readonly string[])[]
}

/** What becomes of the columns of rows that stay. */
interface Overwritten {
  set: Readonly<Record<string, Constant>>
  /** Columns that keep something of their value. */
  transform: Readonly<Record<string, Transform>>
  /** Soft links that others share a column with: the person is taken out of it, and the rest stays. */
  unlink: readonly Edge[]
}

export type EraseAction =
  | { kind: 'delete' }
  | ({ kind: 'anonymise' } & Overwritten)
  | ({ kind: 'keep'; basis: string; until: string } & Overwritten)
  /** Rows of Supabase Storage: its API deletes them together with the files; SQL never does. */
  | { kind: 'storage' }

export interface MapTable {
  key: string
  table: Table
  edges: readonly Edge[]
  /** From the subject's table to this one: the constraints passed, shortest first. */
  paths: readonly (readonly string[])[]
  /** The columns that the person gets; empty where the table is not exported. */
  exportColumns: readonly string[]
  /** Columns the export leaves blank because they are other people's: `true`, or unless this column holds the person's id. */
  redact: Readonly<Record<string, string | true>>
  erase: EraseAction
  classified: boolean
  /** One row a person: another person's row is never taken. */
  person: boolean
  /**
   * Rows are locked before what hangs from them is looked for. Without the lock a row that comes in meanwhile is stopped by
   * its constraint, and the erasure tried again; but ON DELETE SET NULL would let it stay as a residue, and a reference
   * that is to be emptied would be missed.
   */
  lock: boolean
  /** What tells one row from another: the primary key, else a unique key without nulls, else nothing. */
  identity: readonly string[]
}

/** Where one person's rows are, and what happens to them. Export and erasure read the same map. */
export interface SubjectMap {
  /** Where the closure starts: the subject's table, or the Auth user that it is an extension of. */
  root: string
  rootColumn: Column
  /** The policy's table: where ids and e-mail addresses are looked up. */
  subject: string
  idColumn: Column
  emailColumn: string | undefined
  /** By key, in the order in which rows are found: parents first. */
  tables: ReadonlyMap<string, MapTable>
  /** The same order; tables that reach each other in a circle share a group. */
  groups: readonly (readonly string[])[]
  /** Deletion order: groups of tables, children first; a group is deleted in one statement. */
  deletions: readonly (readonly string[])[]
  /** References into rows that will be deleted, from rows that stay. */
  cuts: readonly Cut[]
}

/** The subject map of a catalogue under a policy. Pure. @throws {CaretakerError} `policy_invalid` */
export function buildSubjectMap(catalogue: Catalogue, policy: GdprPolicy): SubjectMap {
  const resolved = resolvePolicy(catalogue, policy)
  const { root, rootColumn } = liftToAuth(catalogue, resolved)
  const people = personTables(catalogue, root)
  const edges = edgesByTable(catalogue, resolved, root, people)
  const reached = reach(root, edges)
  const parents = new Map(
    reached.map((key) => [key, new Set((edges.get(key) ?? []).map((edge) => edge.parent).filter((parent) => reached.includes(parent)))]),
  )
  const groups = components(reached, parents)

  const survivable = new Set(
    catalogue.foreignKeys
      .filter(({ onDelete }) => onDelete === 'set null' || onDelete === 'set default')
      .map(({ references }) => references),
  )
  const tables = new Map<string, MapTable>()
  for (const key of groups.flat()) {
    const table = catalogue.tables.get(key) as Table
    const settings = resolved.tables.get(key)
    const own = (edges.get(key) ?? []).filter((edge) => reached.includes(edge.parent))
    tables.set(key, {
      key,
      table,
      edges: own,
      paths: pathsTo(key, root, edges),
      exportColumns: exportColumns(table, settings),
      redact: settings?.redact ?? {},
      erase: eraseAction(table, settings, own),
      classified: settings !== undefined || key === root || key === resolved.subject,
      person: people.has(key),
      lock: table.schema !== 'storage' && (key === root || survivable.has(key)),
      identity: identityOf(table),
    })
  }

  const cuts = cutsOf(catalogue, tables)
  lockAbove(tables, cuts)
  const deleted = groups.flat().filter((key) => tables.get(key)?.erase.kind === 'delete')
  const referencing = new Map<string, Set<string>>(deleted.map((key) => [key, new Set()]))
  for (const fk of catalogue.foreignKeys)
    if (fk.table !== fk.references && referencing.has(fk.table)) referencing.get(fk.references)?.add(fk.table)
  const subjectTable = catalogue.tables.get(resolved.subject) as Table
  return {
    root,
    rootColumn,
    subject: resolved.subject,
    idColumn: column(subjectTable, resolved.idColumn),
    emailColumn: resolved.emailColumn,
    tables,
    groups,
    deletions: components(deleted, referencing),
    cuts,
  }
}

/** What is above a table that must be locked must be locked as well: a whole branch may come in meanwhile. */
function lockAbove(tables: Map<string, MapTable>, cuts: readonly Cut[]): void {
  const locked = new Set(
    [...tables.values()]
      .filter(({ key, lock }) => lock || cuts.some(({ foreignKey }) => foreignKey.references === key))
      .map(({ key }) => key),
  )
  for (const key of locked) for (const { parent } of tables.get(key)?.edges ?? []) locked.add(parent)
  for (const key of locked) {
    const table = tables.get(key)
    if (table !== undefined && table.erase.kind !== 'storage') tables.set(key, { ...table, lock: true })
  }
}

function column(table: Table, name: string): Column {
  return table.columns.find((known) => known.name === name) as Column
}

/** `public.users(id) → auth.users(id)` is one person in two rows: the closure starts at the Auth user, so that both go. */
function liftToAuth(catalogue: Catalogue, { subject, idColumn }: ResolvedPolicy): { root: string; rootColumn: Column } {
  const up = catalogue.foreignKeys.find(
    (fk) =>
      fk.table === subject &&
      fk.references === 'auth.users' &&
      subject !== 'auth.users' &&
      fk.columns.length === 1 &&
      fk.columns[0] === idColumn,
  )
  const root = up === undefined ? subject : 'auth.users'
  const name = up === undefined ? idColumn : (up.referencedColumns[0] as string)
  return { root, rootColumn: column(catalogue.tables.get(root) as Table, name) }
}

/** The root, and every table with a mandatory, unique foreign key to such a table: a profile is its person. */
function personTables(catalogue: Catalogue, root: string): Set<string> {
  const people = new Set([root])
  for (let grown = true; grown; ) {
    grown = false
    for (const fk of catalogue.foreignKeys) {
      if (people.has(fk.table) || !people.has(fk.references) || !isOneToOne(catalogue, fk)) continue
      people.add(fk.table)
      grown = true
    }
  }
  return people
}

function isOneToOne(catalogue: Catalogue, fk: ForeignKey): boolean {
  const table = catalogue.tables.get(fk.table)
  if (table === undefined || fk.table === fk.references) return false
  const mandatory = fk.columns.every((name) => column(table, name).notNull)
  return mandatory && table.uniqueKeys.some((key) => key.length > 0 && key.every((name) => fk.columns.includes(name)))
}

function edgesByTable(catalogue: Catalogue, resolved: ResolvedPolicy, root: string, people: ReadonlySet<string>): Map<string, Edge[]> {
  const edges = new Map<string, Edge[]>()
  const add = (table: string, edge: Edge) => edges.set(table, [...(edges.get(table) ?? []), edge])
  for (const fk of catalogue.foreignKeys) {
    const table = catalogue.tables.get(fk.table) as Table
    const unlessNamed = takes(catalogue, resolved, root, people, fk, table)
    if (unlessNamed === undefined) continue
    const { name, columns, operators } = fk
    add(fk.table, { kind: 'key', name, parent: fk.references, parentColumns: fk.referencedColumns, columns, operators, unlessNamed })
  }
  for (const [key, settings] of resolved.tables) {
    if (key === root) continue
    for (const link of linksOf(settings)) {
      const to = link.to ?? 'id'
      const parentColumn = to === 'id' ? resolved.idColumn : ((to === 'email' ? resolved.emailColumn : resolved.phoneColumn) as string)
      const own = column(catalogue.tables.get(key) as Table, link.column)
      const place = placeOf(own, link.path)
      const above = column(catalogue.tables.get(resolved.subject) as Table, parentColumn)
      const as = to === 'email' ? { as: 'email' as const } : place.in === 'scalar' && own.type === above.type ? {} : { as: 'text' as const }
      add(key, {
        kind: 'link',
        name: link.path === undefined ? link.column : `${link.column}.${link.path}`,
        parent: resolved.subject,
        parentColumns: [parentColumn],
        columns: [link.column],
        operators: ['='],
        ...as,
        place,
        unlessNamed: [],
      })
    }
  }
  return edges
}

/** Whether a foreign key makes its row the subject's: undefined when it does not, else the columns that must be null for it. */
function takes(
  catalogue: Catalogue,
  resolved: ResolvedPolicy,
  root: string,
  people: ReadonlySet<string>,
  fk: ForeignKey,
  table: Table,
): readonly string[][] | undefined {
  const ignored = resolved.tables.get(fk.table)?.ignore ?? []
  if (fk.columns.some((name) => ignored.includes(name))) return undefined
  // Another row of the root table is another person, whoever it references (referred_by, manager_id).
  if (fk.table === root) return undefined
  // A bucket that a person made holds other people's files: Storage is followed to what names the person, no further.
  if (table.schema === 'storage' && fk.references !== root) return undefined
  if (people.has(fk.table)) return people.has(fk.references) && isOneToOne(catalogue, fk) ? [] : undefined
  if (people.has(fk.references)) return []
  // The schema lets this row outlive what it references: it is only the subject's when it is nobody else's.
  const outlives = fk.onDelete !== 'cascade' && fk.columns.some((name) => !column(table, name).notNull)
  if (!outlives) return []
  const named = catalogue.foreignKeys
    .filter(
      (other) =>
        other.table === fk.table && other !== fk && people.has(other.references) && !other.columns.some((name) => ignored.includes(name)),
    )
    .map((other) => [...other.columns])
  // A column that is never null names somebody in every row.
  return named.some((columns) => columns.every((name) => column(table, name).notNull)) ? undefined : named
}

function reach(root: string, edges: ReadonlyMap<string, readonly Edge[]>): string[] {
  const children = new Map<string, string[]>()
  for (const [key, own] of edges) for (const { parent } of own) children.set(parent, [...(children.get(parent) ?? []), key])
  const found = new Set([root])
  for (const key of found) for (const child of children.get(key) ?? []) found.add(child)
  return [...found].sort()
}

/** A breadth-first walk to the root; at most eight paths, which is what a person reads. */
function pathsTo(key: string, root: string, edges: ReadonlyMap<string, readonly Edge[]>): string[][] {
  const complete: string[][] = []
  let open: { at: string; passed: string[]; seen: string[] }[] = [{ at: key, passed: [], seen: [key] }]
  for (let depth = 0; depth < 12 && open.length > 0 && complete.length < 8; depth++) {
    const next: typeof open = []
    for (const { at, passed, seen } of open) {
      if (at === root) {
        complete.push([...passed])
        continue
      }
      for (const edge of edges.get(at) ?? [])
        if (!seen.includes(edge.parent))
          next.push({ at: edge.parent, passed: [`${at}(${edge.columns.join(', ')})`, ...passed], seen: [...seen, edge.parent] })
    }
    open = next.slice(0, 200)
  }
  return complete.slice(0, 8)
}

/** Credentials are of no use to the person and of much use to a thief: Auth's own are left out of every export. */
const credential = /password|token|secret|nonce|code|hash|challenge|otp/i

function exportColumns(table: Table, settings: TablePolicy | undefined): string[] {
  if (settings?.export === false) return []
  const chosen = Array.isArray(settings?.export) ? settings.export : undefined
  return table.columns
    .map(({ name }) => name)
    .filter((name) => (chosen === undefined ? !(table.schema === 'auth' && credential.test(name)) : chosen.includes(name)))
}

function eraseAction(table: Table, settings: TablePolicy | undefined, edges: readonly Edge[]): EraseAction {
  if (table.schema === 'storage') return { kind: 'storage' }
  const links = edges.filter(({ kind }) => kind === 'link')
  // A row that names several people is nobody's to delete: the person is taken out of it.
  const shared = links.some(({ place }) => place !== undefined && isShared(place))
  if (settings?.erase === undefined && shared && edges.length === links.length)
    return { kind: 'anonymise', set: {}, transform: {}, unlink: links }
  const erase = settings?.erase ?? 'delete'
  if (erase === 'delete') return { kind: 'delete' }
  const written = erase.anonymise ?? []
  const set: Record<string, Constant> = {}
  const transform: Record<string, Transform> = {}
  for (const [name, to] of Array.isArray(written) ? written.map((one): [string, null] => [one, null]) : Object.entries(written)) {
    if (typeof to === 'object' && to !== null) transform[name] = to
    else set[name] = to
  }
  // A soft link names the person as surely as the rest of the row: what stays must not.
  for (const { columns, place } of links)
    if (place?.in === 'scalar') for (const name of columns) if (!(name in set) && !(name in transform)) set[name] = null
  const unlink = links.filter(({ columns, place }) => place?.in !== 'scalar' && !columns.some((name) => name in set || name in transform))
  return 'keep' in erase
    ? { kind: 'keep', basis: erase.keep, until: erase.until, set, transform, unlink }
    : { kind: 'anonymise', set, transform, unlink }
}

function identityOf(table: Table): readonly string[] {
  if (table.primaryKey.length > 0) return table.primaryKey
  return table.uniqueKeys.find((key) => key.every((name) => column(table, name).notNull)) ?? []
}

/** The columns that are emptied or overwritten in rows that stay. */
export function overwrittenColumns(erase: EraseAction | undefined): string[] {
  if (erase?.kind !== 'anonymise' && erase?.kind !== 'keep') return []
  return [...new Set([...Object.keys(erase.set), ...Object.keys(erase.transform), ...erase.unlink.flatMap(({ columns }) => columns)])]
}
