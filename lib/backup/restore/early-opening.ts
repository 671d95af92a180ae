import type { Session } from '../../platform/db.ts'
import type { Statement } from '../sql/split-statements.ts'
import { closeTables, guardedBy, mayClose, openTables, setGuard } from './gates.ts'
import { stepOf } from './journal.ts'
import { definedView, type ForeignKey, grantedTable } from './post-data.ts'
import { mayWait, type Run } from './run.ts'

/** A grant of pre-data that is kept back until its table opens. */
export interface HeldGrant {
  position: number
  statement: Statement
  table: string
}

/** The positions of all statements of an entry that grants on a table: it may switch roles in between. */
export function heldGrants(statements: readonly Statement[]): Map<number, HeldGrant> {
  const held = new Map<number, HeldGrant>()
  for (let from = 0; from < statements.length; ) {
    const first = statements[from] as Statement
    let to = from + 1
    while (to < statements.length && sameEntry(statements[to] as Statement, first)) to++
    const entry = statements.slice(from, to)
    const table = first.type === 'ACL' ? entry.map((one) => grantedTable(one.sql)).find((one) => one !== undefined) : undefined
    if (table !== undefined) for (const [at, statement] of entry.entries()) held.set(from + at, { position: from + at, statement, table })
    from = to
  }
  return held
}

function sameEntry(one: Statement, other: Statement): boolean {
  return one.type === other.type && one.name === other.name && one.schema === other.schema
}

/** Tells why nothing may open before the end, or null. Asked when the first group is in. */
export type Obstacle = () => Promise<string | null>

/**
 * Opens tables to the app group by group. Until then they are closed to writes of anybody, and to roles that only have grants
 * altogether.
 */
export class EarlyOpening {
  readonly #run: Run
  readonly #grants: readonly HeldGrant[]
  readonly #closed: ReadonlySet<string>
  readonly #group: ReadonlyMap<string, number>
  readonly #foreignKeys: readonly ForeignKey[]
  readonly #obstacle: Obstacle

  constructor(run: Run, input: { grants: readonly HeldGrant[]; closable: readonly string[]; obstacle: Obstacle }) {
    this.#run = run
    this.#grants = input.grants
    this.#closed = new Set(input.closable)
    this.#obstacle = input.obstacle
    const group = new Map(run.groups.flatMap((one, at) => one.tables.map((table) => [table, at] as const)))
    const late = new Set(run.post.statements.flatMap((statement) => definedView(statement) ?? []))
    const { views } = run.target
    for (const { view, reads } of views) {
      const unknown = late.has(view) || reads.some((table) => !group.has(table))
      group.set(view, unknown ? run.groups.length - 1 : Math.max(0, ...reads.map((table) => group.get(table) ?? 0)))
    }
    this.#group = group
    this.#foreignKeys = [...run.post.work.values()].flatMap((work) => (work.kind === 'foreign key' ? [work.foreignKey] : []))
  }

  /** Why nothing can open early; null when it can. */
  async problem(session: Session): Promise<string | null> {
    const { post, groups } = this.#run
    if (groups.length < 2) return 'all tables are in one group'
    if (post.unread !== null) return `it is not known what belongs to which table (${post.unread})`
    const guarded = this.#foreignKeys.map((key) => key.parent).filter((table) => !this.#closed.has(table))
    return mayClose(session, [...this.#closed], guarded)
  }

  async close(session: Session): Promise<void> {
    const { journal } = this.#run
    if (journal.isDone('closed')) return
    await closeTables(session, [...this.#closed])
    await journal.note(session, 'closed')
    // Foreign tables and the like have nothing to wait for.
    await this.#grant(session, (table) => !this.#group.has(table))
  }

  isClosed(table: string): boolean {
    return this.#closed.has(table)
  }

  /** Everything that a table of the group needs is there: the app may use it from now on. */
  async openGroup(session: Session, at: number): Promise<void> {
    const { journal, groups, loading, stopwatch } = this.#run
    const name = groups[at]?.name ?? ''
    const step = `open:${name}`
    if (journal.isDone(step) || this.reason() !== null) return
    if (!journal.isDone('may open')) {
      const reason = await this.#obstacle()
      await journal.note(session, 'may open', reason)
      if (reason !== null) return
    }
    await this.#finish(session, at)
    if (this.#run.postponed.size > 0) {
      await journal.note(session, 'not open', 'indexes or keys of its tables need something that comes last')
      return
    }
    const isOpen = (table: string, until: number) => (this.#group.get(table) ?? 0) <= until
    const before = guardedBy(this.#foreignKeys, (table) => isOpen(table, at - 1))
    const now = guardedBy(this.#foreignKeys, (table) => isOpen(table, at))
    for (const table of new Set([...before.keys(), ...now.keys()])) await setGuard(session, table, now.get(table) ?? [])
    await openTables(
      session,
      (groups[at]?.tables ?? []).filter((table) => this.#closed.has(table)),
    )
    await this.#grant(session, (table) => this.#group.get(table) === at)
    // From here on the app may rely on it: it has to be on disk.
    await journal.note(session, step, stopwatch.elapsedMs(), true)
    const open = groups.slice(0, at + 1).map((group) => group.name)
    loading.onProgress?.({ phase: 'open', what: open.join(', '), doneBytes: at + 1, totalBytes: groups.length })
  }

  /** Why nothing, or nothing more, is open before the end. */
  reason(): string | null {
    const { journal } = this.#run
    for (const step of ['may open', 'not open']) {
      const reason = journal.detailOf(step)
      if (typeof reason === 'string') return reason
    }
    return null
  }

  /** Every group is open: nothing is closed or kept back any more. */
  isOpen(): boolean {
    return this.#run.groups.every((group) => this.#run.journal.isDone(`open:${group.name}`))
  }

  /** Lets writes in where no group has. */
  async openRest(session: Session): Promise<void> {
    if (this.isOpen()) return
    for (const table of new Set(this.#foreignKeys.map((key) => key.parent))) await setGuard(session, table, [])
    await openTables(session, [...this.#closed])
  }

  /** All that is left of what was kept back. */
  async grantRest(session: Session): Promise<void> {
    await this.#grant(session, () => true)
  }

  async #grant(session: Session, which: (table: string) => boolean): Promise<void> {
    for (const { position, statement, table } of this.#grants)
      if (which(table)) await this.#run.journal.run(session, stepOf('pre-data', position, statement), statement, this.#run.rules)
  }

  /** Policies, triggers and rules of the group's tables. */
  async #finish(session: Session, at: number): Promise<void> {
    const { post, journal, rules, groups } = this.#run
    const tables = new Set(groups[at]?.tables)
    for (const [position, { kind, table }] of post.work) {
      const statement = post.statements[position]
      if (statement === undefined || !tables.has(table) || (kind !== 'finish' && kind !== 'row security')) continue
      try {
        await journal.run(session, stepOf('post-data', position, statement), statement, rules)
      } catch (error) {
        if (!mayWait(error)) throw error
        this.#run.postponed.add(position)
      }
    }
  }
}
