import { nameOf } from '../table-name.ts'

/*
 * In which order tables come back. A group is open to the app when all of its tables are; tables of one family (a partitioned
 * table and its partitions, a table and what inherits from it) and whatever a table refers to come with it or before it.
 */

export interface OrderedTable {
  /** As `qualified` writes it. */
  key: string
  schema: string
  name: string
  bytes: number
}

export interface OrderInput {
  tables: readonly OrderedTable[]
  /** Pairs of tables of one family. */
  families: readonly (readonly [string, string])[]
  foreignKeys: readonly { child: string; parent: string }[]
  /** The policy's groups: names to patterns. null: a default that suits most apps. */
  groups: Readonly<Record<string, readonly string[]>> | null
  /** The table that holds the people: it comes in the first group, because nothing opens before it is known who was erased. */
  subject: string | null
}

export interface RestoreGroup {
  name: string
  /** Keys, those that others refer to first. */
  tables: string[]
  /** Tables that come earlier than their pattern says, and the table that is why. */
  moved: { table: string; because: string }[]
}

export const remaining = 'the rest'

/** Every table in just one group. Empty groups are left out. */
export function orderTables(input: OrderInput): RestoreGroup[] {
  const families = new Families(input)
  const { names, groupOf } = input.groups === null ? byDefault(input, families) : byPolicy(input.groups)
  const group = new Map<string, number>()
  for (const table of input.tables) {
    const family = families.of(table.key)
    const wanted = isSubject(table, input.subject) ? 0 : groupOf(table)
    group.set(family, Math.min(wanted, group.get(family) ?? wanted))
  }
  const because = promote(input, families, group)
  const tables = new Map(input.tables.map((table) => [table.key, table]))
  return names
    .map((name, at) => {
      const members = input.tables.filter((table) => group.get(families.of(table.key)) === at)
      return {
        name,
        tables: members.map((table) => table.key),
        moved: members.flatMap((table) => {
          const child = because.get(families.of(table.key))
          const reason = child === undefined ? undefined : tables.get(child)
          return reason === undefined ? [] : [{ table: nameOf(table), because: nameOf(reason) }]
        }),
      }
    })
    .filter((one) => one.tables.length > 0)
}

/** Patterns of the policy that no table of the backup matches. */
export function unmatched(groups: Readonly<Record<string, readonly string[]>>, tables: readonly OrderedTable[]): string[] {
  return Object.values(groups)
    .flat()
    .filter((pattern) => pattern !== '*' && !tables.some((table) => exactness(pattern, table) > 0))
}

/** A table that is referred to comes no later than what refers to it: then every foreign key of an open table holds. */
function promote(input: OrderInput, families: Families, group: Map<string, number>): Map<string, string> {
  const because = new Map<string, string>()
  for (let changed = true; changed; ) {
    changed = false
    for (const { child, parent } of input.foreignKeys) {
      const to = group.get(families.of(child))
      const from = group.get(families.of(parent))
      if (to === undefined || from === undefined || from <= to) continue
      group.set(families.of(parent), to)
      because.set(families.of(parent), child)
      changed = true
    }
  }
  return because
}

function byPolicy(groups: Readonly<Record<string, readonly string[]>>): { names: string[]; groupOf(table: OrderedTable): number } {
  const named = Object.entries(groups)
  return {
    names: [...named.map(([name]) => name), ...(named.some(([name]) => name === remaining) ? [] : [remaining])],
    groupOf(table) {
      let best = { exactness: 0, at: named.length }
      for (const [at, [, patterns]] of named.entries())
        for (const pattern of patterns) {
          const found = exactness(pattern, table)
          if (found > best.exactness) best = { exactness: found, at }
        }
      return best.at
    },
  }
}

/** How exactly a pattern names a table: not at all (0), as one of all, of its schema's, or itself (3). */
function exactness(pattern: string, table: OrderedTable): number {
  if (pattern === '*') return 1
  if (pattern === `${table.schema}.*`) return 2
  return pattern === nameOf(table) || (table.schema === 'public' && pattern === table.name) ? 3 : 0
}

const small = 16 * 1024 * 1024
const large = 64 * 1024 * 1024

/**
 * Who may sign in; what others refer to and is small; the rest; and last what is large and nothing refers to: logs, events.
 */
function byDefault(input: OrderInput, families: Families): { names: string[]; groupOf(table: OrderedTable): number } {
  const bytes = new Map<string, number>()
  for (const table of input.tables) bytes.set(families.of(table.key), (bytes.get(families.of(table.key)) ?? 0) + table.bytes)
  const total = [...bytes.values()].reduce((sum, one) => sum + one, 0)
  const referredTo = new Set(
    input.foreignKeys.filter(({ child, parent }) => families.of(child) !== families.of(parent)).map(({ parent }) => families.of(parent)),
  )
  return {
    names: ['authentication', 'core', remaining, 'largest'],
    groupOf(table) {
      if (table.schema === 'auth') return 0
      const family = families.of(table.key)
      const size = bytes.get(family) ?? 0
      if (referredTo.has(family)) return size <= Math.max(small, total / 20) ? 1 : 2
      return size >= Math.max(large, total / 10) ? 3 : 2
    },
  }
}

function isSubject(table: OrderedTable, subject: string | null): boolean {
  return subject !== null && exactness(subject, table) === 3
}

/** Which tables belong together. */
class Families {
  readonly #head = new Map<string, string>()

  constructor(input: OrderInput) {
    for (const [one, other] of input.families) {
      const a = this.of(one)
      const b = this.of(other)
      if (a !== b) this.#head.set(a, b)
    }
  }

  of(key: string): string {
    let head = key
    for (let next = this.#head.get(head); next !== undefined; next = this.#head.get(head)) head = next
    return head
  }
}
