import { qualified, type Session } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { holdsCronJobs } from '../cron-jobs.ts'
import { loadLargeObjects } from '../load-large-objects.ts'
import { loadRows, orSay, proveBeginning, proveRows } from '../load-tables.ts'
import type { ManifestTable } from '../manifest.ts'
import { nameOf } from '../table-name.ts'
import { parentsFirst } from '../target.ts'
import type { EarlyOpening } from './early-opening.ts'
import { throughGate } from './gates.ts'
import { stepOf } from './journal.ts'
import type { ForeignKey } from './post-data.ts'
import { beginningBytes, isUntouched, type StoredAsSent } from './proof.ts'
import { mayWait, type Run } from './run.ts'
import type { Task } from './run-tasks.ts'
import type { RestorePhase } from './stopwatch.ts'
import type { TargetTable } from './target-tables.ts'

/**
 * What is to be done for the rows of a backup: load and prove every table, index it, make its foreign keys, gather its statistics.
 * Each begins when what it needs is there: a table is indexed while the next one is loaded.
 */
export function buildTasks(run: Run, early: EarlyOpening | null): Task[] {
  const tasks: Task[] = []
  const add = (
    task: Omit<Task, 'run'>,
    { phase, failed }: { phase: RestorePhase; failed: string },
    work: (session: Session, spare: number) => Promise<void>,
  ): Task => {
    const made = {
      ...task,
      run: (session: Session, spare: number) => run.stopwatch.measure(phase, () => orSay(failed, () => work(session, spare))),
    }
    tasks.push(made)
    return made
  }
  const group = new Map(run.groups.flatMap((one, at) => one.tables.map((table) => [table, at] as const)))
  const inManifest = new Map(run.loading.manifest.tables.map((table) => [qualified(table.schema, table.name), table]))
  const statements = statementsByTable(run)
  const progress = progressOf(run)
  /** In this run. */
  const analyzed = new Set<string>()
  /** Sessions that build an index without parallel workers. */
  const unaided = new Set<Session>()
  const loaded = loadingTasks()
  const ready = new Map<string, Task[]>()
  for (const table of run.target.tables) {
    const at = group.get(table.key)
    if (at !== undefined) ready.set(table.key, indexTasks(table, at))
  }
  const complete = familyTasks()
  foreignKeyTasks()
  if (early !== null) openingTasks(early)
  return tasks

  function weightOf(key: string): number {
    return inManifest.get(key)?.bytes ?? 0
  }

  function loadingTasks(): Map<string, Task> {
    const { manifest } = run.loading
    const loads = new Map<string, Task>()
    for (const table of manifest.tables) {
      const key = qualified(table.schema, table.name)
      const at = group.get(key)
      if (at === undefined)
        throw new CaretakerError(
          'restore_mismatch',
          `The schema of the backup has no table ${nameOf(table)}, but the backup has rows of it.`,
        )
      // Jobs of pg_cron come last of all: they act.
      if (holdsCronJobs(table)) continue
      const base = { group: at, weight: table.bytes, tables: [key] }
      loads.set(
        key,
        add({ ...base, after: [], alone: true }, { phase: 'rows', failed: `Table ${nameOf(table)} could not be loaded` }, (session) =>
          load(session, key, table),
        ),
      )
    }
    // Tables of the platform have their foreign keys already. Two that refer to each other have an order, too.
    const order = new Map(parentsFirst([...loads.keys()], run.target.foreignKeys).map((key, at) => [key, at]))
    for (const { child, parent } of run.target.foreignKeys) {
      const [one, other] = [loads.get(child), loads.get(parent)]
      if (one !== undefined && other !== undefined && (order.get(parent) ?? 0) < (order.get(child) ?? 0)) one.after.push(other)
    }
    for (const part of manifest.largeObjects.parts.slice(0, 1)) {
      // With the first tables: what the app makes later is not among those that are compared.
      const { contentBytes } = manifest.objects.find((object) => object.key === part.key) ?? { contentBytes: 0 }
      const task = { group: 0, weight: contentBytes, tables: [], after: [], alone: false }
      add(task, { phase: 'rows', failed: 'The large objects could not be loaded' }, (session) => loadLargeObjects(run, session))
    }
    return loads
  }

  async function load(session: Session, key: string, table: ManifestTable): Promise<void> {
    const { journal, loading, restored } = run
    const name = nameOf(table)
    const [rows, proven, stored] = [`rows:${name}`, `proven:${name}`, `stored as sent:${name}`]
    if (!journal.isDone(rows)) {
      const gate = early?.isClosed(key) === true ? throughGate(key) : null
      // In a database of others the proof is part of the load: they may write right after it.
      const notes = [journal.noting(rows), ...(table.shared ? [journal.noting(proven)] : [])]
      try {
        await loadRows(loading, session, table, {
          before: gate === null ? [] : [gate.before],
          after: [...notes.map((note) => note.sql), ...(gate === null ? [] : [gate.after])],
          proof: table.shared ? 'now' : run.readAll ? 'later' : 'as necessary',
          onStoredAsSent(how) {
            const note = journal.noting(stored, how)
            notes.push(note)
            return note.sql
          },
          onBytes: (bytes) => progress(name, bytes),
        })
        for (const note of notes) note.done()
      } catch (error) {
        if (table.condition === null || !(error instanceof CaretakerError) || sqlState(error.cause) !== '42501') throw error
        await session.execute('rollback')
        await journal.note(session, rows, `${table.rows} rows were not restored: ${error.detail}`)
      }
    } else progress(name, table.bytes)
    const problem = journal.detailOf(rows)
    if (typeof problem === 'string') restored.set(name, { table: name, rows: 0, verified: false, problem })
    else restored.set(name, { table: name, rows: table.rows, verified: journal.isDone(proven) })
  }

  /** What was noted with the rows of a table of which not all have to be read back; null for any other. */
  function storedAsSent(table: ManifestTable): StoredAsSent | null {
    const noted = run.journal.detailOf(`stored as sent:${nameOf(table)}`)
    return run.readAll || noted === undefined ? null : (noted as StoredAsSent)
  }

  /** All rows, where that is what the proof needs. */
  async function prove(session: Session, table: ManifestTable): Promise<void> {
    if (storedAsSent(table) === null) await note(session, table, null, () => proveRows(run.loading, session, table))
  }

  /** The beginning, where all else is known; all rows where somebody has touched one since. Statistics have just been gathered. */
  async function proveLarge(session: Session, table: ManifestTable, isAnalyzed: () => boolean): Promise<void> {
    const stored = storedAsSent(table)
    if (stored === null) return
    const key = qualified(table.schema, table.name)
    // An earlier run may have gathered them.
    if (!isAnalyzed()) await session.execute(`analyze ${key}`)
    if (await isUntouched(session, table, stored))
      await note(session, table, 'beginning', () => proveBeginning(session, table, stored.beginning))
    else await note(session, table, null, () => proveRows(run.loading, session, table))
  }

  async function note(session: Session, table: ManifestTable, readBack: 'beginning' | null, work: () => Promise<void>): Promise<void> {
    const name = nameOf(table)
    const step = `proven:${name}`
    if (!run.journal.isDone(step)) {
      await work()
      await run.journal.note(session, step, readBack)
    }
    const part = run.journal.detailOf(step) === 'beginning' ? ({ readBack: 'beginning' } as const) : {}
    run.restored.set(name, { table: name, rows: table.rows, verified: true, ...part })
  }

  function notReadBack(table: ManifestTable): string {
    return `Table ${nameOf(table)} is loaded (${table.bytes} bytes) and could not be read back`
  }

  /** Reading back and indexing of one table; the last of them are what others wait for. */
  function indexTasks(table: TargetTable, at: number): Task[] {
    const { key } = table
    const name = nameOf(table)
    const load = loaded.get(key)
    const source = inManifest.get(key)
    const after = load === undefined ? [] : [load]
    const base = { group: at, weight: weightOf(key), tables: [key] }
    const last: Task[] = [...after]
    if (source !== undefined && load !== undefined && !source.shared)
      last.push(
        add({ ...base, after: [...after], alone: false }, { phase: 'proof', failed: notReadBack(source) }, (session) =>
          prove(session, source),
        ),
      )
    const own = statements.get(key)
    const indexing = { phase: 'indexes', failed: `Table ${name} could not be indexed` } as const
    // First what locks the table: then the rest can be done side by side, to the end.
    const constraints = own?.constraint ?? []
    if (constraints.length > 0)
      last.push(add({ ...base, after: [...after], alone: true }, indexing, (session, spare) => build(session, spare, constraints)))
    for (const position of own?.index ?? [])
      last.push(add({ ...base, after: [...after], alone: false }, indexing, (session, spare) => build(session, spare, [position])))
    return last
  }

  /** By table: what has to be done before its foreign keys can be made. Indexes of partitions are put together, and statistics gathered. */
  function familyTasks(): Map<string, Task[]> {
    const finished = new Map<string, Task[]>()
    for (const { root, members } of partitionTrees(run.target.tables, run.target.families)) {
      const at = group.get(root.key)
      if (at === undefined) continue
      const keys = members.map((member) => member.key)
      const base = { group: at, weight: keys.reduce((sum, key) => sum + weightOf(key), 0), tables: keys, alone: true }
      // Statistics of a table hold what inherits from it, too.
      const heirs = run.target.families.filter(([, parent]) => parent === root.key).flatMap(([child]) => loaded.get(child) ?? [])
      let after = [...keys.flatMap((key) => ready.get(key) ?? []), ...(members.length === 1 ? heirs : [])]
      const attach = keys.flatMap((key) => statements.get(key)?.attach ?? []).sort((a, b) => a - b)
      if (attach.length > 0)
        after = [
          add(
            { ...base, after },
            { phase: 'indexes', failed: `The indexes of ${nameOf(root)} could not be put together` },
            async (session) => {
              for (const position of attach) await make(session, position)
            },
          ),
        ]
      // What is not there yet is not measured.
      const objects = keys.flatMap((key) => statements.get(key)?.statistics ?? []).sort((a, b) => a - b)
      if (keys.some((key) => loaded.has(key)))
        after = [
          add(
            { ...base, after },
            { phase: 'statistics', failed: `The statistics of table ${nameOf(root)} could not be gathered` },
            async (session) => {
              for (const position of objects) await make(session, position)
              await analyze(session, root)
            },
          ),
        ]
      const large = keys.flatMap((key) => inManifest.get(key) ?? []).filter((table) => !table.shared && table.bytes > beginningBytes)
      if (large.length > 0)
        after = large.map((table) =>
          add({ ...base, after, weight: table.bytes, alone: false }, { phase: 'proof', failed: notReadBack(table) }, (session) =>
            proveLarge(session, table, () => analyzed.has(root.key)),
          ),
        )
      for (const key of keys) finished.set(key, after)
    }
    return finished
  }

  function foreignKeyTasks(): void {
    for (const [key, own] of statements)
      for (const position of own['foreign key']) {
        const work = run.post.work.get(position)
        const at = group.get(key)
        if (work?.kind !== 'foreign key' || at === undefined) continue
        const { parent, child } = work.foreignKey
        const after = [...new Set([...(complete.get(child) ?? []), ...(complete.get(parent) ?? [])])]
        add(
          { group: at, weight: weightOf(child), tables: [child, parent], after, alone: true },
          { phase: 'foreign keys', failed: `Foreign key ${work.foreignKey.name} of ${child} could not be made` },
          (session) => makeForeignKey(session, position, work.foreignKey),
        )
      }
  }

  function openingTasks(opening: EarlyOpening): void {
    let before: Task[] = []
    for (const [at, { name }] of run.groups.entries()) {
      const after = [...before, ...tasks.filter((task) => task.group === at)]
      const task = { group: at, weight: 0, tables: [], after, alone: false }
      before = [add(task, { phase: 'the rest', failed: `Group ${name} could not be opened` }, (session) => opening.openGroup(session, at))]
    }
  }

  /**
   * Indexes, one after the other. While every session is busy each is built by its own process alone, which is less work in sum (a tenth,
   * measured): `backup.connections` says how many processors a restore may use. The last of them are helped.
   */
  async function build(session: Session, spare: number, positions: readonly number[]): Promise<void> {
    const alone = spare === 0 && run.loading.sessions.length > 1
    if (alone !== unaided.has(session)) {
      await session.execute(alone ? 'set max_parallel_maintenance_workers = 0' : 'reset max_parallel_maintenance_workers')
      if (alone) unaided.add(session)
      else unaided.delete(session)
    }
    for (const position of positions) await make(session, position)
  }

  /** An index or a key. What it needs may only come with the rest: then it is tried again there, and says why if it fails. */
  async function make(session: Session, position: number): Promise<void> {
    const statement = run.post.statements[position]
    if (statement === undefined || run.journal.isDone(stepOf('post-data', position, statement))) return
    run.loading.onProgress?.({ phase: 'indexes', what: statement.name ?? '', doneBytes: 0, totalBytes: 0 })
    try {
      await run.journal.run(session, stepOf('post-data', position, statement), statement, run.rules)
    } catch (error) {
      if (!mayWait(error)) throw error
      run.postponed.add(position)
    }
  }

  async function makeForeignKey(session: Session, position: number, foreignKey: ForeignKey): Promise<void> {
    const statement = run.post.statements[position]
    const child = run.target.tables.find((table) => table.key === foreignKey.child)
    const parentIsOpen = early !== null && (group.get(foreignKey.parent) ?? 0) < (group.get(foreignKey.child) ?? 0)
    if (statement === undefined) return
    const isThere = run.rules.platform?.statements.has(statement.sql) === true
    if (isThere || !parentIsOpen || foreignKey.notValid || child?.partitioned !== false) return make(session, position)
    // In two steps, so that nobody who writes to the open table waits until all rows of the other are looked at.
    const step = stepOf('post-data', position, statement)
    const unproven = { ...statement, sql: `${statement.sql.replace(/;$/, '')} not valid;` }
    const proof = { ...statement, sql: `alter table ${foreignKey.child} validate constraint "${foreignKey.name.replaceAll('"', '""')}";` }
    if (run.journal.isDone(step)) return
    try {
      await run.journal.run(session, `${step}:not valid`, unproven, run.rules)
      await run.journal.run(session, step, proof, run.rules)
    } catch (error) {
      if (!mayWait(error)) throw error
      run.postponed.add(position)
    }
  }

  async function analyze(session: Session, table: TargetTable): Promise<void> {
    const step = `statistics:${nameOf(table)}`
    if (run.journal.isDone(step)) return
    await session.execute(`analyze ${table.key}`)
    analyzed.add(table.key)
    await run.journal.note(session, step)
  }
}

type Positions = Record<'index' | 'constraint' | 'attach' | 'statistics' | 'foreign key', number[]>

function statementsByTable(run: Run): Map<string, Positions> {
  const found = new Map<string, Positions>()
  for (const [position, { kind, table }] of run.post.work) {
    if (kind === 'finish' || kind === 'row security') continue
    const own = found.get(table) ?? { index: [], constraint: [], attach: [], statistics: [], 'foreign key': [] }
    own[kind].push(position)
    found.set(table, own)
  }
  return found
}

/** Trees of partitions, each with its root; any other table stands for itself. */
function partitionTrees(
  tables: readonly TargetTable[],
  families: readonly (readonly [string, string])[],
): { root: TargetTable; members: TargetTable[] }[] {
  const parentOf = new Map(families)
  const rootOf = (table: TargetTable): string => {
    let key = table.key
    let parent = table.partition ? parentOf.get(key) : undefined
    while (parent !== undefined) {
      key = parent
      parent = parentOf.get(key)
    }
    return key
  }
  const trees = new Map<string, TargetTable[]>()
  for (const table of tables) {
    const root = rootOf(table)
    const members = trees.get(root)
    if (members === undefined) trees.set(root, [table])
    else members.push(table)
  }
  return [...trees].flatMap(([key, members]) => {
    const root = members.find((table) => table.key === key)
    return root === undefined ? [] : [{ root, members }]
  })
}

function progressOf(run: Run): (what: string, bytes: number) => void {
  const totalBytes = run.loading.manifest.tables.reduce((sum, table) => sum + table.bytes, 0)
  let doneBytes = 0
  return (what, bytes) => {
    doneBytes += bytes
    run.loading.onProgress?.({ phase: 'load', what, doneBytes, totalBytes })
  }
}
