import { durationMs, nearest, type Policy, type RetentionRule } from '../../config/index.ts'
import { errorAt, type Issue } from '../issue.ts'
import { conditionProblem } from '../statement.ts'
import { leastAgeText, limitsOf } from './limits.ts'

export type RetentionVerb = 'purge' | 'archive' | 'anonymise' | 'keep'

export function ruleName(rule: RetentionRule): string {
  return rule.name ?? rule.table
}

export function verbOf({ action }: RetentionRule): RetentionVerb {
  if (typeof action === 'string') return action
  return 'archiveTo' in action ? 'archive' : 'anonymise'
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

/** What is wrong with a rule whatever the database holds. */
export function ruleIssues(policy: Pick<Policy, 'maintenance'>, rule: RetentionRule, path: string): Issue[] {
  const issues: Issue[] = []
  const verb = verbOf(rule)
  if (verb === 'keep') issues.push(...keepIssues(rule, path))
  else issues.push(...ageIssues(policy, rule, path))
  if (rule.partitions?.ahead !== undefined && rule.partitions.interval === undefined)
    issues.push(errorAt(`${path}.partitions.interval`, `found nothing, expected how long a partition is, such as "month"`))
  if (rule.partitions?.interval !== undefined && rule.partitions.ahead === undefined)
    issues.push(
      errorAt(`${path}.partitions.ahead`, `found nothing, expected for how long ahead there must be partitions, such as "3 months"`),
    )
  if (rule.partitions !== undefined && rule.column === undefined && verb !== 'keep')
    issues.push(errorAt(`${path}.column`, 'found nothing, expected the column that the table is partitioned by'))
  if (rule.partitions?.timezone !== undefined && !isTimeZone(rule.partitions.timezone))
    issues.push(
      errorAt(`${path}.partitions.timezone`, `found "${rule.partitions.timezone}", expected an IANA time zone such as "Europe/Berlin"`),
    )
  if (rule.mark !== undefined && verb !== 'anonymise')
    issues.push(errorAt(`${path}.mark`, 'found a mark on a rule that does not anonymise; expected none'))
  if (rule.where !== undefined) {
    const problem = conditionProblem(rule.where)
    if (problem !== undefined) issues.push(errorAt(`${path}.where`, problem))
  }
  return issues
}

function keepIssues(rule: RetentionRule, path: string): Issue[] {
  const issues: Issue[] = []
  if (rule.partitions?.ahead === undefined)
    issues.push(
      errorAt(
        `${path}.partitions`,
        'found nothing to do; a rule that keeps every row expected { interval, ahead } for the coming partitions',
      ),
    )
  if (rule.column === undefined)
    issues.push(errorAt(`${path}.column`, 'found nothing, expected the column that the table is partitioned by'))
  for (const key of ['olderThan', 'where'] as const)
    if (rule[key] !== undefined)
      issues.push(errorAt(`${path}.${key}`, `found "${rule[key]}" on a rule that keeps every row; expected none, or another action`))
  return issues
}

function ageIssues(policy: Pick<Policy, 'maintenance'>, rule: RetentionRule, path: string): Issue[] {
  const issues: Issue[] = []
  if (rule.olderThan === undefined && rule.where === undefined)
    issues.push(errorAt(path, 'found neither an age nor a condition; expected "column" with "olderThan", or "where", or both'))
  if (rule.olderThan !== undefined && rule.column === undefined)
    issues.push(errorAt(`${path}.column`, `found nothing, expected the column that "olderThan" (${rule.olderThan}) is an age of`))
  if (rule.column !== undefined && rule.olderThan === undefined)
    issues.push(errorAt(`${path}.olderThan`, `found nothing, expected the age after which "${rule.column}" is too old, such as "30 days"`))
  if (rule.olderThan !== undefined && durationMs(rule.olderThan) < limitsOf(policy, rule).leastAgeMs)
    issues.push(
      errorAt(
        `${path}.olderThan`,
        `found "${rule.olderThan}", expected at least "${leastAgeText(policy, rule)}"; where rows really live shorter, say so with limits: { leastAge: '${rule.olderThan}' }`,
      ),
    )
  return issues
}

export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}
