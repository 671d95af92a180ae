import { qualified, type Session } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { holdsCronJobs, replayCronJobs } from '../cron-jobs.ts'
import { takeLeftOut } from '../left-out.ts'
import { type Loading, orSay, type RestoredTable } from '../load-tables.ts'
import type { Manifest, ManifestObject } from '../manifest.ts'
import { type Opening, readObjectText } from '../object-stream.ts'
import { platformSkipped, runScript, type ScriptRules, type Skipped } from '../run-script.ts'
import { restoreSettings } from '../settings.ts'
import { splitStatements } from '../sql/split-statements.ts'
import { isPlatformSchema } from '../supabase.ts'
import { nameOf } from '../table-name.ts'
import { EarlyOpening, type HeldGrant, heldGrants, type Obstacle } from './early-opening.ts'
import { type Journal, stepOf } from './journal.ts'
import { type OrderInput, orderTables, type RestoreGroup, unmatched } from './order.ts'
import { type PostData, readPostData } from './post-data.ts'
import type { Run } from './run.ts'
import { runTasks } from './run-tasks.ts'
import type { RestorePhase, Stopwatch } from './stopwatch.ts'
import { readTargetTables, type TargetTables } from './target-tables.ts'
import { buildTasks } from './tasks.ts'

export interface RestoreAll {
  loading: Loading
  journal: Journal
  rules: ScriptRules
  preData: string
  order: Pick<OrderInput, 'groups' | 'subject'>
  /** null: everything opens at the end. Asked when the first group is in. */
  obstacle: Obstacle | null
  /** Called when all rows are in, before the database is open. */
  beforeOpening: (() => Promise<unknown>) | undefined
  readAll: boolean
  stopwatch: Stopwatch
  /** Ends what is under way on the sessions. */
  stop: (failure: unknown) => void
}

export interface OpenedGroup {
  name: string
  tables: string[]
  /** Tables that came earlier than the policy says, and which table is why. */
  moved: RestoreGroup['moved']
  /** When the app could use it, milliseconds since the run began in which it was opened; null: with the end. */
  openAfterMs: number | null
}

export interface RestoredAll {
  tables: RestoredTable[]
  groups: OpenedGroup[]
  /** Why nothing was opened before the end; null where something was, or nobody asked for it. */
  notEarly: string | null
  /** What in the policy's order of groups means nothing in this backup. */
  notes: string[]
  skipped: Skipped[]
  /** They are restored disabled. */
  subscriptions: string[]
}

interface Plan {
  groups: RestoreGroup[]
  notes: string[]
  /** Why nothing can open early. */
  problem: string | null
}

/** Restores everything, from whatever an earlier run has left. */
export async function restoreAll(input: RestoreAll): Promise<RestoredAll> {
  const { loading, journal, rules, stopwatch } = input
  const { manifest, opening, main, sessions } = loading
  const phase = <T>(name: RestorePhase, failed: string, work: () => Promise<T>) => stopwatch.measure(name, () => orSay(failed, work))
  const progress = (phase: 'schema' | 'sequences' | 'indexes', what: string) =>
    loading.onProgress?.({ phase, what, doneBytes: 0, totalBytes: 0 })

  progress('schema', 'roles and schema')
  const statements = splitStatements(input.preData, rules.restrictKey)
  const grants = input.obstacle === null ? new Map<number, HeldGrant>() : heldGrants(statements)
  await phase('schema', 'The schema could not be made', async () => {
    await runOnce(input, 'roles', async () => {
      const { skipped } = await runScript(main, await textOf(opening, manifest, 'roles'), rules)
      return [...skipped, ...(await takeLeftOut(main))]
    })
    for (const [at, statement] of statements.entries())
      if (!grants.has(at)) await journal.run(main, stepOf('pre-data', at, statement), statement, rules)
  })
  const post = readPostData(await textOf(opening, manifest, 'post-data'), rules.restrictKey)
  const target = await orSay('The schema could not be read back', () => readTargetTables(main))
  await phase('schema', 'Row security could not be put on', () => secureRows(input, post, target))

  const plan = (journal.detailOf('plan') as Plan | undefined) ?? planOf(input, post, target)
  const run: Run = { ...input, post, target, groups: plan.groups, restored: new Map(), postponed: new Set() }
  const early =
    input.obstacle === null
      ? null
      : new EarlyOpening(run, { grants: [...grants.values()], closable: closable(input, target), obstacle: input.obstacle })
  if (!journal.isDone('plan')) {
    if (early !== null) plan.problem = await early.problem(main)
    await journal.note(main, 'plan', plan)
  }
  const opens = early !== null && plan.problem === null
  if (opens) {
    await early.close(main)
    // Somebody may work with open tables, who is not to queue behind us for long.
    for (const session of sessions) await session.execute(`set lock_timeout = '2s'`)
  }

  progress('sequences', 'sequences')
  await phase('sequences', 'The sequences could not be set', () =>
    runOnce(input, 'sequences', async () => {
      const { skipped } = await runScript(main, await textOf(opening, manifest, 'sequences'), rules)
      // Now, because an app that is let in goes on from there.
      await checkSequences(main, manifest, rules)
      return skipped
    }),
  )
  await runTasks(sessions, buildTasks(run, opens ? early : null), { inGroups: opens, stop: input.stop })

  await main.execute('reset max_parallel_maintenance_workers')
  await phase('the rest', 'All rows are in, and the end of the restore failed', async () => {
    progress('indexes', 'triggers, policies and what else comes last')
    // What reads the rows, or hears of what is made, comes when nobody is in them who has been erased.
    const filled = post.statements.findIndex(({ type }) => type === 'MATERIALIZED VIEW DATA' || type === 'EVENT TRIGGER')
    const until = filled < 0 ? post.statements.length : filled
    await finishStatements(run, [...post.statements.keys()].slice(0, until))
    if (opens) await early.openRest(main)
    await input.beforeOpening?.()
    await early?.grantRest(main)
    // pg_dump has event triggers before them: one that forbids DDL would forbid to fill a view, too.
    const filling = (at: number) => post.statements[at]?.type === 'MATERIALIZED VIEW DATA'
    const last = [...post.statements.keys()].slice(until)
    await finishStatements(run, [...last.filter(filling), ...last.filter((at) => !filling(at))])
    await runOnce(input, 'settings', () => restoreSettings(main, opening, manifest))
    for (const table of manifest.tables) if (holdsCronJobs(table)) await makeCronJobs(run, table)
    await analyzeViews(main)
  })
  const platform = platformSkipped(journal.count("the platform's"))
  return {
    tables: manifest.tables.flatMap((table) => run.restored.get(nameOf(table)) ?? []),
    groups: plan.groups.map(({ name, tables, moved }) => {
      const at = journal.detailOf(`open:${name}`)
      return { name, tables: tables.map((key) => nameIn(target, key)), moved, openAfterMs: typeof at === 'number' ? at : null }
    }),
    notEarly: early === null ? null : (plan.problem ?? early.reason()),
    notes: plan.notes,
    skipped: [...journal.skipped, ...platform],
    subscriptions: [...new Set(post.statements.filter(({ type }) => type === 'SUBSCRIPTION').map(({ name }) => name ?? ''))],
  }
}

/** A step that is done again, whole, when it was broken off: repeating it changes nothing. */
async function runOnce({ journal, loading }: RestoreAll, step: string, work: () => Promise<readonly Skipped[]>): Promise<void> {
  if (journal.isDone(step)) return
  const skipped = await work()
  await journal.skip(loading.main, skipped)
  await journal.note(loading.main, step)
}

/**
 * Row security goes on before there are rows: until the policies are made too, roles that were granted a table see none of them. (Default
 * privileges of a target may grant every new table.)
 */
async function secureRows({ loading, journal, rules }: RestoreAll, post: PostData, target: TargetTables): Promise<void> {
  const { main } = loading
  const [role] = await main.query<{ bypasses: boolean }>(
    'select rolsuper or rolbypassrls as bypasses from pg_catalog.pg_roles where rolname = current_user',
  )
  // There it would hold for the one who restores, too.
  const forced = new Set(target.tables.filter((table) => table.forced && role?.bypasses !== true).map((table) => table.key))
  for (const [at, { kind, table }] of post.work) {
    const statement = post.statements[at]
    if (statement !== undefined && kind === 'row security' && !forced.has(table))
      await journal.run(main, stepOf('post-data', at, statement), statement, rules)
  }
}

function planOf({ loading, order, rules }: RestoreAll, post: PostData, target: TargetTables): Plan {
  const { manifest } = loading
  const bytes = new Map(manifest.tables.map((table) => [qualified(table.schema, table.name), table.bytes]))
  const tables = target.tables.map(({ key, schema, name }) => ({ key, schema, name, bytes: bytes.get(key) ?? 0 }))
  const wanted = [...post.work.values()].flatMap((work) => (work.kind === 'foreign key' ? [work.foreignKey] : []))
  const groups = orderTables({ ...order, tables, families: target.families, foreignKeys: [...wanted, ...target.foreignKeys] })
  const unknown = order.groups === null ? [] : unmatched(order.groups, tables)
  return {
    // Those of the platform that hold nothing of the app's have nothing to wait for.
    groups: groups
      .map((group) => ({ ...group, tables: group.tables.filter((key) => bytes.has(key) || !isForeign(target, key, rules)) }))
      .filter((group) => group.tables.length > 0),
    notes: unknown.map((pattern) => `backup.restoreOrder names ${pattern}, which this backup does not have.`),
    problem: null,
  }
}

/** A table of the platform, in a project. */
function isForeign(target: TargetTables, key: string, rules: ScriptRules): boolean {
  const table = target.tables.find((one) => one.key === key)
  return rules.platform !== null && table !== undefined && isPlatformSchema(table.schema)
}

/** Tables that are the backup's alone: not the platform's, where others write too, and not an extension's. */
function closable({ loading, rules }: RestoreAll, target: TargetTables): string[] {
  const shared = new Set(loading.manifest.tables.filter((table) => table.shared).map((table) => qualified(table.schema, table.name)))
  return target.tables.filter(({ key }) => !shared.has(key) && !isForeign(target, key, rules)).map(({ key }) => key)
}

/** What is left of post-data at those positions, in that order. */
async function finishStatements({ post, journal, loading, rules }: Run, positions: readonly number[]): Promise<void> {
  for (const at of positions) {
    const statement = post.statements[at]
    if (statement !== undefined) await journal.run(loading.main, stepOf('post-data', at, statement), statement, rules)
  }
}

async function makeCronJobs({ journal, loading, restored }: Run, table: Manifest['tables'][number]): Promise<void> {
  const step = `rows:${nameOf(table)}`
  if (!journal.isDone(step)) await journal.note(loading.main, step, await replayCronJobs(loading, loading.main, table))
  restored.set(nameOf(table), journal.detailOf(step) as RestoredTable)
}

/** Materialised views have just been filled. */
async function analyzeViews(session: Session): Promise<void> {
  const views = await session.query<{ name: string }>(
    `select c.oid::regclass::text as name from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'm' and c.relispopulated and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' and pg_has_role(c.relowner, 'usage')`,
  )
  for (const { name } of views) await session.execute(`analyze ${name}`)
}

function nameIn(target: TargetTables, key: string): string {
  const table = target.tables.find((one) => one.key === key)
  return table === undefined ? key : nameOf(table)
}

/** @throws {CaretakerError} `backup_corrupt` when the backup has none of that kind */
export async function textOf(opening: Opening, manifest: Manifest, kind: ManifestObject['kind']): Promise<string> {
  const object = manifest.objects.find((candidate) => candidate.kind === kind)
  if (object === undefined) throw new CaretakerError('backup_corrupt', `The backup has no ${kind}.`)
  return readObjectText(opening, object)
}

async function checkSequences(session: Session, manifest: Manifest, rules: ScriptRules): Promise<void> {
  for (const sequence of manifest.sequences) {
    // A refusal there has been reported.
    if (rules.platform !== null && isPlatformSchema(sequence.schema)) continue
    const [state] = await session.query<{ lastValue: string; isCalled: boolean }>(
      `select last_value::text as "lastValue", is_called as "isCalled" from ${qualified(sequence.schema, sequence.name)}`,
    )
    if (state?.lastValue !== sequence.lastValue || state.isCalled !== sequence.isCalled)
      throw new CaretakerError(
        'restore_mismatch',
        `Sequence ${sequence.schema}.${sequence.name} stands at ${state?.lastValue}; the backup has ${sequence.lastValue}.`,
      )
  }
}
