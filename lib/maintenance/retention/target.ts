import type { Policy, RetentionRule } from '../../config/index.ts'
import { durationMs, nearest } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { identifier } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { type Assignment, resolveAnonymise } from './anonymise.ts'
import { type ArchiveTarget, resolveArchive } from './archive.ts'
import { matchesEveryRow, planOf } from '../explain.ts'
import { errorAt, type Issue, warningAt } from '../issue.ts'
import { type Column, findRelation, isIssue, loadColumns, loadLeaves, missingColumn, type Relation } from '../relations.ts'
import { reading } from '../session-settings.ts'
import { conditionProblem } from '../statement.ts'

/** A retention rule that fits the database: what to do, to which physical tables, under which condition. */
export interface RetentionTarget {
  /** How jobs and reports call it. */
  name: string
  /** Where it stands in the policy: `retention.2`. */
  path: string
  rule: RetentionRule
  verb: 'purge' | 'archive' | 'anonymise'
  table: Relation
  columns: ReadonlyMap<string, Column>
  /** The tables that hold the rows: the table itself, or its partitions and heirs. */
  leaves: readonly Relation[]
  archive?: ArchiveTarget
  assignments?: readonly Assignment[]
  /** The condition in SQL for a cut-off as PostgreSQL wrote it, or null for a rule without an age. In parentheses. */
  condition(cutoff: string | null): string
}

/** The youngest age a rule may take without a condition of its own. A slip ("3 hours" for "3 months") must not empty a table. */
export const leastAgeMs = 86_400_000

/** Cut-offs are computed by PostgreSQL in calendar units, as text with microseconds: `2026-10-22 02:00:00.123456+00`. */
const cutoffPattern = /^\d{4,6}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$/

const ageTypes = new Set(['timestamptz', 'timestamp', 'date'])

export function ruleName(rule: RetentionRule): string {
  return rule.name ?? rule.table
}

/** The index of the rule a job step calls `wanted`, or an issue at `path`. */
export function findRule(policy: Policy, wanted: string, path: string): number | Issue {
  const rules = policy.retention ?? []
  const found = rules.flatMap((rule, index) => (ruleName(rule) === wanted ? [index] : []))
  if (found.length === 1) return found[0] as number
  if (found.length > 1)
    return errorAt(
      path,
      `found "${wanted}", which ${found.length} rules answer to (${found.map((i) => `retention.${i}`).join(', ')}); expected one: give them a "name"`,
    )
  const near = nearest(wanted, rules.map(ruleName))
  return errorAt(
    path,
    `found "${wanted}", expected the name (or the table) of a retention rule${near === undefined ? '' : `; did you mean "${near}"?`}`,
  )
}

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
  const issues: Issue[] = ruleIssues(rule, path)

  const found = await reading(ctx, async (tx) => {
    const table = await findRelation(tx, rule.table, 'table', `${path}.table`)
    if (isIssue(table)) return { table }
    const columns = await loadColumns(tx, table.oid)
    const leaves = await loadLeaves(tx, table.oid)
    const archive =
      typeof rule.action === 'object' && 'archiveTo' in rule.action
        ? await resolveArchive(tx, { table, columns, archiveTo: rule.action.archiveTo, path: `${path}.action.archiveTo` })
        : undefined
    return { table, columns, leaves, archive }
  })
  if (isIssue(found.table)) return { issues: [...issues, found.table] }
  const { table, columns = new Map<string, Column>(), leaves = [], archive } = found

  for (const leaf of leaves)
    if (leaf.kind === 'f')
      issues.push(errorAt(`${path}.table`, `has the foreign table ${leaf.label} as a part; expected tables of this database`))
  if (rule.column !== undefined) {
    const missing = missingColumn(columns, rule.column, table, `${path}.column`)
    if (missing !== undefined) issues.push(missing)
    const type = columns.get(rule.column)?.baseType
    if (type !== undefined && !ageTypes.has(type))
      issues.push(
        errorAt(
          `${path}.column`,
          `found "${rule.column}" of type ${type}, expected timestamptz, timestamp or date; use "where" to compute an age from another type`,
        ),
      )
  }
  if (archive !== undefined) issues.push(...archive.issues)
  const anonymise =
    typeof rule.action === 'object' && 'anonymise' in rule.action
      ? resolveAnonymise(table, columns, rule.action.anonymise, rule.mark, path)
      : undefined
  if (anonymise !== undefined) issues.push(...anonymise.issues)
  if (issues.some((issue) => issue.severity === 'error')) return { issues }

  const age = rule.column === undefined ? undefined : columns.get(rule.column)
  const notYet = anonymise?.notYet
  const target: RetentionTarget = {
    name: ruleName(rule),
    path,
    rule,
    verb: rule.action === 'purge' ? 'purge' : 'archiveTo' in rule.action ? 'archive' : 'anonymise',
    table,
    columns,
    leaves,
    ...(archive?.target === undefined ? {} : { archive: archive.target }),
    ...(anonymise === undefined ? {} : { assignments: anonymise.assignments }),
    condition(cutoff) {
      const parts: string[] = []
      if (age !== undefined && rule.olderThan !== undefined) {
        if (cutoff === null || !cutoffPattern.test(cutoff)) throw new CaretakerError('internal', `retention ${ruleName(rule)}: no cut-off`)
        parts.push(`${identifier(table.name)}.${identifier(age.name)} < '${cutoff}'::timestamptz::${age.baseType}`)
      }
      // The line feed ends a comment that the condition may end with.
      if (rule.where !== undefined) parts.push(`(${rule.where}\n)`)
      if (notYet !== undefined) parts.push(notYet)
      return `(${parts.join(' and ')})`
    },
  }
  issues.push(...(await tryCondition(ctx, target)))
  return issues.some((issue) => issue.severity === 'error') ? { issues } : { target, issues }
}

/** What is wrong with a rule whatever the database holds. */
function ruleIssues(rule: RetentionRule, path: string): Issue[] {
  const issues: Issue[] = []
  if (rule.olderThan === undefined && rule.where === undefined)
    issues.push(errorAt(path, 'found neither an age nor a condition; expected "column" with "olderThan", or "where", or both'))
  if (rule.olderThan !== undefined && rule.column === undefined)
    issues.push(errorAt(`${path}.column`, `found nothing, expected the column that "olderThan" (${rule.olderThan}) is an age of`))
  if (rule.column !== undefined && rule.olderThan === undefined)
    issues.push(errorAt(`${path}.olderThan`, `found nothing, expected the age after which "${rule.column}" is too old, such as "30 days"`))
  if (rule.olderThan !== undefined && rule.where === undefined && durationMs(rule.olderThan) < leastAgeMs)
    issues.push(
      errorAt(
        `${path}.olderThan`,
        `found "${rule.olderThan}", expected at least "1 day"; where rows really live shorter, say which ones with "where"`,
      ),
    )
  if (rule.mark !== undefined && !(typeof rule.action === 'object' && 'anonymise' in rule.action))
    issues.push(errorAt(`${path}.mark`, 'found a mark on a rule that does not anonymise; expected none'))
  if (rule.where !== undefined) {
    const problem = conditionProblem(rule.where)
    if (problem !== undefined) issues.push(errorAt(`${path}.where`, problem))
  }
  return issues
}

/** Has the server plan a select with the condition: it finds unknown columns, wrong types and conditions that are none. */
async function tryCondition(ctx: Pick<Context, 'db'>, target: RetentionTarget): Promise<Issue[]> {
  const { rule, path, table } = target
  try {
    const plan = await reading(ctx, async (tx) =>
      planOf(tx, `select 1 from ${table.sql} where ${target.condition(await computeCutoff(tx, rule))}`),
    )
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
    const unknown = /column "?([^" ]+)"? does not exist/.exec(message)?.[1]
    const near = unknown === undefined ? undefined : nearest(unknown, target.columns.keys())
    return [
      errorAt(`${path}.where`, `PostgreSQL refuses the condition: ${message}${near === undefined ? '' : `; did you mean "${near}"?`}`),
    ]
  }
}

/** The cut-off on the database's clock, in UTC; null for a rule without an age. Call it inside a pinned transaction. */
export async function computeCutoff(tx: { query: Context['db']['query'] }, rule: RetentionRule): Promise<string | null> {
  if (rule.olderThan === undefined) return null
  const [row] = await tx.query<{ cutoff: string }>('select (now() - $1::interval)::text as cutoff', [rule.olderThan])
  return row?.cutoff ?? null
}
