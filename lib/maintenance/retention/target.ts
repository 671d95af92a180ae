import { nearest, type RetentionRule } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { identifier, type Queryable } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { matchesEveryRow, planOf } from '../explain.ts'
import { errorAt, type Issue, warningAt } from '../issue.ts'
import { type Column, findRelation, isIssue, loadColumns, loadLeaves, missingColumn, type Relation } from '../relations.ts'
import { reading } from '../session-settings.ts'
import { lex } from '../statement.ts'
import { tryStatement } from '../try-statement.ts'
import { anonymiseVerb, resolveAnonymise } from './anonymise.ts'
import { type ArchiveTarget, archiveVerb, resolveArchive } from './archive.ts'
import { type Descent, resolveChildren } from './children.ts'
import { partitionKeyProblem } from './partitions/tree.ts'
import { purgeVerb } from './purge.ts'
import { type RetentionVerb, ruleIssues, ruleName, verbOf } from './rule.ts'
import type { Verb } from './touch.ts'

/** A retention rule that fits the database: what to do, to which physical tables, under which condition. */
export interface RetentionTarget {
  /** How jobs and reports call it. */
  name: string
  /** Where it stands in the policy: `retention.2`. */
  path: string
  rule: RetentionRule
  verb: RetentionVerb
  table: Relation
  columns: ReadonlyMap<string, Column>
  /** The column whose age counts. */
  age: Column | undefined
  /** Rows of other tables that go along. */
  descents: readonly Descent[]
  archive?: ArchiveTarget
  /** What becomes of a batch. */
  change: Verb
  /** The condition in SQL for a cut-off as PostgreSQL wrote it, or null for a rule without an age. In parentheses. */
  condition(cutoff: string | null): string
}

/** Cut-offs are computed by PostgreSQL in calendar units, as text with microseconds: `2026-10-22 02:00:00.123456+00`. */
const cutoffPattern = /^\d{4,6}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$/

const ageTypes = new Set(['timestamptz', 'timestamp', 'date'])

/**
 * Holds rule number `index` against the live catalogue. Reads only.
 * @returns the target, or undefined with at least one issue that is an error
 */
export async function resolveRule(
  ctx: Pick<Context, 'db' | 'config'>,
  index: number,
): Promise<{ target?: RetentionTarget; issues: Issue[] }> {
  const rule = ctx.config.retention?.[index]
  const path = `retention.${index}`
  if (rule === undefined) return { issues: [errorAt(path, 'found nothing, expected a retention rule')] }
  const issues: Issue[] = ruleIssues(ctx.config, rule, path)

  const found = await reading(ctx, async (tx) => {
    const table = await findRelation(tx, rule.table, 'table', `${path}.table`)
    if (isIssue(table)) return table
    const columns = await loadColumns(tx, table.oid)
    const leaves = await loadLeaves(tx, table.oid)
    const archive =
      typeof rule.action === 'object' && 'archiveTo' in rule.action
        ? await resolveArchive(tx, { table, columns, archiveTo: rule.action.archiveTo, path: `${path}.action.archiveTo` })
        : undefined
    const children = await resolveChildren(tx, rule, table, path)
    const age = rule.column === undefined ? undefined : columns.get(rule.column)
    const partitionProblem =
      rule.partitions?.ahead === undefined || age === undefined ? undefined : await partitionKeyProblem(tx, table, age.name)
    return { table, columns, leaves, archive, children, age, partitionProblem }
  })
  if ('severity' in found) return { issues: [...issues, found] }
  const { table, columns, leaves, archive, children, age } = found

  for (const leaf of leaves)
    if (leaf.kind === 'f')
      issues.push(errorAt(`${path}.table`, `has the foreign table ${leaf.label} as a part; expected tables of this database`))
  if (rule.column !== undefined) {
    const missing = missingColumn(columns, rule.column, table, `${path}.column`)
    if (missing !== undefined) issues.push(missing)
    if (age !== undefined && !ageTypes.has(age.baseType))
      issues.push(
        errorAt(
          `${path}.column`,
          `found "${rule.column}" of type ${age.baseType}, expected timestamptz, timestamp or date; use "where" to compute an age from another type`,
        ),
      )
  }
  if (found.partitionProblem !== undefined) issues.push(errorAt(`${path}.partitions`, found.partitionProblem))
  if (archive !== undefined) issues.push(...archive.issues)
  issues.push(...children.issues)
  const anonymise =
    typeof rule.action === 'object' && 'anonymise' in rule.action
      ? resolveAnonymise(table, columns, rule.action.anonymise, rule.mark, path)
      : undefined
  if (anonymise !== undefined) issues.push(...anonymise.issues)
  if (issues.some((issue) => issue.severity === 'error')) return { issues }

  const target: RetentionTarget = {
    name: ruleName(rule),
    path,
    rule,
    verb: verbOf(rule),
    table,
    columns,
    age,
    descents: children.descents,
    ...(archive?.target === undefined ? {} : { archive: archive.target }),
    change:
      archive?.target !== undefined
        ? archiveVerb({ table }, archive.target)
        : anonymise !== undefined
          ? anonymiseVerb({ table }, anonymise.assignments)
          : purgeVerb({ table }),
    condition: (cutoff) => conditionOf(rule, table, age, anonymise?.notYet, cutoff),
  }
  if (target.verb !== 'keep') issues.push(...(await tryCondition(ctx, target)))
  return issues.some((issue) => issue.severity === 'error') ? { issues } : { target, issues }
}

function conditionOf(
  rule: RetentionRule,
  table: Relation,
  age: Column | undefined,
  notYet: string | undefined,
  cutoff: string | null,
): string {
  const parts: string[] = []
  if (age !== undefined && rule.olderThan !== undefined)
    parts.push(`${identifier(table.name)}.${identifier(age.name)} < ${cutoffLiteral(ruleName(rule), age, cutoff)}`)
  // The line feed ends a comment that the condition may end with.
  if (rule.where !== undefined) parts.push(`(${rule.where}\n)`)
  if (notYet !== undefined) parts.push(notYet)
  return parts.length === 0 ? '(false)' : `(${parts.join(' and ')})`
}

/** The cut-off as a value of the column's type. */
export function cutoffLiteral(name: string, age: Column, cutoff: string | null): string {
  if (cutoff === null || !cutoffPattern.test(cutoff)) throw new CaretakerError('internal', `retention ${name}: no cut-off`)
  return `'${cutoff}'::timestamptz::${age.baseType}`
}

/**
 * Has the server parse and plan a select with the condition: it finds a second statement, unknown columns, wrong types
 * and conditions that are none, or hold for every row, or differ from one asking to the next.
 */
async function tryCondition(ctx: Pick<Context, 'db'>, target: RetentionTarget): Promise<Issue[]> {
  const { rule, path, table } = target
  try {
    const cutoff = await reading(ctx, (tx) => computeCutoff(tx, rule))
    const statement = `select 1 from ${table.sql} where ${target.condition(cutoff)}`
    if (rule.where !== undefined) {
      // The protocol's Parse takes one statement, whatever a condition hides from our own reading of it.
      const refused = await tryStatement(ctx, statement, `${path}.where`)
      if (refused.length > 0) return refused.map((issue) => named(issue, target))
      const { where } = rule
      const volatile = await reading(ctx, (tx) => volatileFunction(tx, where))
      if (volatile !== undefined)
        return [
          errorAt(
            `${path}.where`,
            `found ${volatile}(), which may answer differently for the same row; expected a condition of functions that are "stable" or "immutable" (one of your own that only reads: alter function ${volatile} stable)`,
          ),
        ]
    }
    const plan = await reading(ctx, (tx) => planOf(tx, statement))
    if (rule.olderThan === undefined && target.verb !== 'anonymise' && matchesEveryRow(plan))
      return [errorAt(`${path}.where`, `found a condition that every row of ${table.label} satisfies; expected one that looks at a column`)]
    return []
  } catch (error) {
    const state = sqlState(error)
    const message = error instanceof Error ? error.message : ''
    if (state === '42501')
      return [
        errorAt(
          `${path}.table`,
          `the database role may not read ${table.label} (or its rows are hidden by row-level security): ${message}; grant it select, or let the owner run this`,
        ),
      ]
    // 55P03 and 57014: the table is locked just now; the condition is checked again by the run itself.
    if (state === '55P03' || state === '57014')
      return [warningAt(`${path}.table`, `${table.label} is locked by another session just now, so the condition could not be checked`)]
    if (state === undefined || rule.where === undefined) throw error
    return [named(errorAt(`${path}.where`, `PostgreSQL refuses the condition: ${message}`), target)]
  }
}

/** With the nearest column where one is not there. */
function named(issue: Issue, target: RetentionTarget): Issue {
  const message = issue.message.replace('refuses the statement', 'refuses the condition')
  const unknown = /column "?([^" ]+)"? does not exist/.exec(message)?.[1]
  const near = unknown === undefined ? undefined : nearest(unknown, target.columns.keys())
  return { ...issue, message: near === undefined ? message : `${message}; did you mean "${near}"?` }
}

/** A function the condition calls that is volatile under every signature it has. */
async function volatileFunction(db: Queryable, where: string): Promise<string | undefined> {
  const [row] = await db.query<{ name: string }>(
    `select p.proname as name from pg_proc p where p.proname = any($1::text[]) and p.prokind = 'f'
     group by p.proname having bool_and(p.provolatile = 'v') order by p.proname limit 1`,
    [calledNames(where)],
  )
  return row?.name
}

/** Words of the condition that an opening parenthesis may follow: names of functions, among others. */
function calledNames(where: string): string[] {
  const words = new Set(lex(where).words)
  const quoted = [...where.matchAll(/"((?:[^"]|"")+)"\s*\(/g)].map(([, name]) => name ?? '')
  return [...[...words].filter((word) => new RegExp(`(^|[^\\w$])${word.replaceAll('$', '\\$')}\\s*\\(`, 'i').test(where)), ...quoted]
}

/** The cut-off on the database's clock, in UTC; null for a rule without an age. Call it inside a pinned transaction. */
export async function computeCutoff(tx: Queryable, rule: RetentionRule): Promise<string | null> {
  if (rule.olderThan === undefined) return null
  const [row] = await tx.query<{ cutoff: string }>('select (now() - $1::interval)::text as cutoff', [rule.olderThan])
  return row?.cutoff ?? null
}
