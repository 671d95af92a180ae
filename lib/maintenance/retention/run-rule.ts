import { createHash } from 'node:crypto'
import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { identifier } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import type { PlanLine } from '../../platform/job.ts'
import { anonymiseStatement } from './anonymise.ts'
import { archiveStatement } from './archive.ts'
import { type BatchOptions, batchDefaults, type Cursor, runBatches, type TouchStatement } from './batches.ts'
import { countOrEstimate } from '../count.ts'
import { loadReferences } from './foreign-keys.ts'
import { type Issue, throwErrors } from '../issue.ts'
import { missingPrivileges } from '../privileges.ts'
import { purgeStatement } from './purge.ts'
import { computeCutoff, findRule, type RetentionTarget, resolveRule, ruleName } from './target.ts'
import { pinnedTransaction, reading } from '../session-settings.ts'
import type { Counts, PlannedChanges, Task, TaskProgress } from '../task.ts'

/** Where a rule's run is. The cut-off is computed once, so that a run which is resumed ends where it would have ended. */
interface RetentionProgress {
  /** The rule this speaks of. A rule that a deployment has changed begins anew. */
  rule: string
  cutoff: string | null
  /** The last physical table that is finished, in the order of their names. */
  finished: string | null
  cursor: Cursor | null
}

/** The rule a job step names at `path`, or all of them, as tasks. */
export function retentionTasks(ctx: Pick<Context, 'config'>, step: number, names: 'all' | readonly string[], path: string): Task[] {
  if (names === 'all') return (ctx.config.retention ?? []).map((_, index) => ruleTask(ctx, step, index))
  return names.map((name, position) => {
    const found = findRule(ctx.config, name, `${path}.${position}`)
    return typeof found === 'number' ? ruleTask(ctx, step, found) : failingTask(`retention ${name}`, step, found)
  })
}

function failingTask(label: string, step: number, issue: Issue): Task {
  const fail = () => {
    throwErrors([issue])
    return Promise.resolve([])
  }
  return { label, step, changesRows: true, run: fail as () => Promise<never>, plan: fail }
}

function ruleTask(ctx: Pick<Context, 'config'>, step: number, index: number): Task {
  const rule = ctx.config.retention?.[index]
  const verb = rule === undefined || rule.action === 'purge' ? 'purge' : 'archiveTo' in rule.action ? 'archive' : 'anonymise'
  return {
    label: `${verb} ${rule === undefined ? index : ruleName(rule)}`,
    step,
    changesRows: true,
    run: (context, progress) => runRule(context, index, progress),
    plan: (context, before) => planRule(context, index, before),
  }
}

/**
 * Purges, archives or anonymises what rule number `index` names, in short batches. Each batch commits together with
 * the checkpoint: a kill at any instant neither loses a row nor moves one twice.
 * @throws {CaretakerError} `policy_invalid` before anything is touched; `job_failed` when the database refuses a batch
 */
export async function runRule(
  ctx: Context,
  index: number,
  progress: TaskProgress,
  options: BatchOptions = batchDefaults,
): Promise<Counts | 'hand-over'> {
  const { target, issues } = await resolveRule(ctx, index)
  throwErrors(issues)
  if (target === undefined) throw new CaretakerError('internal', `retention.${index} resolved to nothing`)
  const label = `${target.verb} ${target.name}`
  const state = await resume(ctx, target, progress.inner as RetentionProgress | null)
  const counts = { rows: Number(progress.counts.rows ?? 0), batches: Number(progress.counts.batches ?? 0) }
  const detail = {
    rule: target.name,
    action: target.verb,
    ...(state.cutoff === null ? {} : { cutoff: state.cutoff }),
    ...(target.archive === undefined ? {} : { to: target.archive.table.label }),
  }
  const leaves = [...target.leaves].sort((a, b) => compare(a.label, b.label))
  for (const leaf of leaves) {
    if (state.finished !== null && compare(leaf.label, state.finished) <= 0) continue
    const ended = await explainFailure(label, () =>
      runBatches(ctx, {
        label,
        table: target.table,
        columns: target.columns,
        leaf,
        condition: target.condition(state.cutoff),
        statement: statementOf(target),
        cursor: state.cursor,
        options,
        stop: progress.stop,
        async commitWith(tx, cursor, rows) {
          if (rows > 0 && counts.rows === 0) await appendAudit(tx, ctx, { action: 'retention.started', target: target.table.label, detail })
          await progress.save(
            { ...state, cursor } satisfies RetentionProgress,
            { rows: counts.rows + rows, batches: counts.batches + 1 },
            tx,
          )
        },
        // Not before: a batch that is tried again starts from what was committed.
        committed(cursor, rows) {
          state.cursor = cursor
          counts.rows += rows
          counts.batches++
        },
      }),
    )
    if (!ended) return 'hand-over'
    Object.assign(state, { finished: leaf.label, cursor: null })
    await progress.save(state, counts)
  }
  await ctx.db.transaction(async (tx) => {
    await progress.finish(counts, tx)
    if (counts.rows > 0)
      await appendAudit(tx, ctx, { action: 'retention.completed', target: target.table.label, detail: { ...detail, ...counts } })
  })
  return counts
}

async function resume(ctx: Context, target: RetentionTarget, saved: RetentionProgress | null): Promise<RetentionProgress> {
  const rule = createHash('sha256').update(JSON.stringify(target.rule)).digest('hex').slice(0, 16)
  if (saved?.rule === rule) return { ...saved }
  return {
    rule,
    cutoff: await pinnedTransaction(ctx, { readOnly: true }, (tx) => computeCutoff(tx, target.rule)),
    finished: null,
    cursor: null,
  }
}

function statementOf(target: RetentionTarget): TouchStatement {
  const { archive, assignments } = target
  if (archive !== undefined) return archiveStatement({ ...target, archive })
  if (assignments !== undefined) return anonymiseStatement({ ...target, assignments })
  return purgeStatement(target)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

const refusals: Record<string, string> = {
  '23503': 'another table still refers to the rows; let a rule for that table come first, or give the foreign key an "on delete"',
  '23505': 'a row with the same unique key is already there; look whether rows were moved by hand before',
  '23502': 'a column that must not be null would be',
  '23514': 'a check constraint does not allow it',
  '22001': 'a value is longer than the column of the archive',
  '42501': 'the database role may not',
}

/** Gives a refusal of the database the sentence that says what to do; never the values of the row. */
async function explainFailure<T>(label: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const state = sqlState(error)
    const reason = state === undefined ? undefined : refusals[state]
    if (reason === undefined) throw error
    const { table, constraint } = error as { table?: string; constraint?: string }
    const where = [constraint === undefined ? '' : `constraint ${constraint}`, table === undefined ? '' : `table ${table}`]
      .filter((part) => part !== '')
      .join(', ')
    throw new CaretakerError(
      'job_failed',
      `${label}: ${reason}${where === '' ? '' : ` (${where})`}. What was committed before stays; the batch was rolled back.`,
      { cause: error },
    )
  }
}

/** What the rule would touch now, given what earlier tasks of the job take away. */
export async function planRule(ctx: Context, index: number, before: PlannedChanges): Promise<PlanLine[]> {
  const { target, issues } = await resolveRule(ctx, index)
  throwErrors(issues)
  if (target === undefined) throw new CaretakerError('internal', `retention.${index} resolved to nothing`)
  const { table } = target
  const facts = await reading(ctx, async (tx) => ({
    cutoff: await computeCutoff(tx, target.rule),
    references: target.verb === 'anonymise' ? [] : await loadReferences(tx, table.oid),
    privileges: [
      ...(await missingPrivileges(tx, table, target.verb === 'anonymise' ? ['select', 'update'] : ['select', 'update', 'delete'])),
      ...(target.archive === undefined ? [] : await missingPrivileges(tx, target.archive.table, ['insert'])),
    ],
  }))
  const condition = target.condition(facts.cutoff)
  const counted = await countPlanned(ctx, target, condition, before)
  const still = [condition, ...notGone(before, table.oid)].join(' and ')
  if (target.archive !== undefined) {
    const columns = target.archive.columns.map((column) => `${identifier(table.name)}.${identifier(column)}`).join(', ')
    const arriving = before.incoming.get(target.archive.table.oid) ?? []
    before.incoming.set(target.archive.table.oid, [...arriving, `select ${columns} from ${table.sql} where ${still}`])
  }
  if (target.verb !== 'anonymise') before.gone.set(table.oid, [...(before.gone.get(table.oid) ?? []), condition])
  for (const reference of facts.references) if (reference.onDelete === 'cascade') before.unsure.add(reference.childOid)
  const warnings = [
    ...issues.map((issue) => `${issue.path}: ${issue.message}`),
    ...facts.privileges,
    ...facts.references.flatMap((reference) => reference.warnings),
  ]
  return [
    {
      action: target.archive === undefined ? `${target.verb} ${target.name}` : `archive ${target.name} to ${target.archive.table.label}`,
      target: table.label,
      count: counted.count,
      unit: 'rows',
      ...(counted.estimated || before.unknown || before.unsure.has(table.oid) ? { estimated: true } : {}),
      ...(warnings.length === 0 ? {} : { warnings }),
    },
  ]
}

/** Conditions that leave out what earlier tasks of the job take away. */
function notGone(before: PlannedChanges, table: number): string[] {
  return (before.gone.get(table) ?? []).map((earlier) => `(${earlier}) is not true`)
}

/** Rows that match now, less those that will be gone by then, plus those that will have come from a table that is archived into this one. */
async function countPlanned(
  ctx: Context,
  target: RetentionTarget,
  condition: string,
  before: PlannedChanges,
): Promise<{ count: number; estimated: boolean }> {
  const { table } = target
  const conditions = [condition, ...notGone(before, table.oid)].join(' and ')
  let { count, estimated } = await countOrEstimate(ctx, table.sql, conditions)
  for (const arriving of before.incoming.get(table.oid) ?? []) {
    try {
      const more = await countOrEstimate(ctx, `(${arriving}) as ${identifier(table.name)}`, conditions)
      count += more.count
      estimated ||= more.estimated
    } catch (error) {
      // 42703: the condition looks at a column that only the archive has, such as archived_at.
      if (sqlState(error) !== '42703') throw error
      estimated = true
    }
  }
  return { count, estimated }
}
