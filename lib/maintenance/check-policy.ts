import type { JobStep, Policy, ReindexTarget } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import type { Queryable } from '../platform/db.ts'
import { type Issue, warningAt } from './issue.ts'
import { blockingRefresh } from './refresh.ts'
import { resolveReindex } from './reindex.ts'
import { findRelation, isIssue, loadColumns, missingColumn, type Wanted } from './relations.ts'
import { checkReport } from './reports/check-report.ts'
import { findRule, ruleName } from './retention/rule.ts'
import { resolveRule } from './retention/target.ts'
import { reading } from './session-settings.ts'
import { sqlIssues } from './sql.ts'
import { tryStatement } from './try-statement.ts'

/** Everything the policy names in the database, held against the live catalogue. Reads only; needs no table of Caretaker's own. */
export async function checkPolicy(ctx: Context): Promise<Issue[]> {
  const { config } = ctx
  const issues: Issue[] = []
  const { vacuum = [], reindex = [], refresh = [] } = config.maintenance ?? {}
  issues.push(...(await checkNames(ctx, vacuum, 'maintained', 'maintenance.vacuum')))
  issues.push(...(await checkIndexes(ctx, reindex, 'maintenance.reindex')))
  issues.push(...(await checkViews(ctx, refresh, 'maintenance.refresh')))
  for (const index of (config.retention ?? []).keys()) issues.push(...(await resolveRule(ctx, index)).issues)
  issues.push(...twinIssues(config))
  for (const [name, report] of Object.entries(config.reports ?? {})) issues.push(...(await checkReport(ctx, name, report)))
  for (const [name, job] of Object.entries(config.jobs ?? {}))
    for (const [position, step] of job.steps.entries()) issues.push(...(await checkStep(ctx, step, `jobs.${name}.steps.${position}`)))
  await reading(ctx, async (tx) => {
    issues.push(...(await checkGdpr(tx, config)))
  })
  return issues
}

/** What a step names in the database. A step that calls the app or a function names nothing there, and a report is checked by itself. */
async function checkStep(ctx: Pick<Context, 'db' | 'config'>, step: JobStep, path: string): Promise<Issue[]> {
  if ('vacuum' in step) return checkNames(ctx, step.vacuum, 'maintained', `${path}.vacuum`)
  if ('analyze' in step) return step.analyze === 'all' ? [] : checkNames(ctx, step.analyze, 'maintained', `${path}.analyze`)
  if ('reindex' in step) return checkIndexes(ctx, step.reindex, `${path}.reindex`)
  if ('refresh' in step) return checkViews(ctx, step.refresh, `${path}.refresh`)
  if ('sql' in step) {
    const problems = sqlIssues(step.sql, `${path}.sql`)
    return problems.length > 0 ? problems : tryStatement(ctx, step.sql, `${path}.sql`)
  }
  if (!('retention' in step) || step.retention === 'all') return []
  return step.retention.map((rule, i) => findRule(ctx.config, rule, `${path}.retention.${i}`)).filter((found) => typeof found !== 'number')
}

function checkNames(ctx: Pick<Context, 'db'>, names: readonly string[], want: Wanted, path: string): Promise<Issue[]> {
  return reading(ctx, (tx) => checkNamesIn(tx, names, want, path))
}

async function checkNamesIn(db: Queryable, names: readonly string[], want: Wanted, path: string): Promise<Issue[]> {
  const issues: Issue[] = []
  for (const [position, name] of names.entries()) {
    const found = await findRelation(db, name, want, `${path}.${position}`)
    if (isIssue(found)) issues.push(found)
  }
  return issues
}

function checkIndexes(ctx: Pick<Context, 'db'>, targets: readonly ReindexTarget[], path: string): Promise<Issue[]> {
  return reading(ctx, async (tx) => {
    const issues: Issue[] = []
    for (const [position, target] of targets.entries()) {
      const at = `${path}.${position}`
      const found =
        typeof target === 'string'
          ? await resolveReindex(tx, target, at)
          : await findRelation(tx, target.table, 'maintained', `${at}.table`)
      if ('severity' in found) issues.push(found)
    }
    return issues
  })
}

async function checkViews(ctx: Pick<Context, 'db'>, names: readonly string[], path: string): Promise<Issue[]> {
  const issues: Issue[] = []
  for (const [position, name] of names.entries()) {
    const at = `${path}.${position}`
    const found = await reading(ctx, (tx) => findRelation(tx, name, 'matview', at))
    if (isIssue(found)) {
      issues.push(found)
      continue
    }
    const blocking = await blockingRefresh(ctx, found)
    if (blocking !== undefined) issues.push(warningAt(at, blocking))
  }
  return issues
}

/** Rules that jobs cannot call apart. */
function twinIssues(policy: Policy): Issue[] {
  const first = new Map<string, number>()
  const issues: Issue[] = []
  for (const [index, rule] of (policy.retention ?? []).entries()) {
    const name = ruleName(rule)
    const twin = first.get(name)
    if (twin === undefined) first.set(name, index)
    else
      issues.push(
        warningAt(
          `retention.${index}`,
          `answers to "${name}" as retention.${twin} does; give it a "name", or no job can name either of them`,
        ),
      )
  }
  return issues
}

/** Tables and columns of the GDPR map, by name only: what they mean is checked by `gdpr lint`. */
async function checkGdpr(db: Queryable, policy: Policy): Promise<Issue[]> {
  const { gdpr } = policy
  if (gdpr === undefined) return []
  const issues: Issue[] = []
  const check = async (table: string, path: string, columns: [name: string | undefined, path: string][]) => {
    const found = await findRelation(db, table, 'any', path)
    if (isIssue(found)) {
      issues.push(found)
      return
    }
    const there = await loadColumns(db, found.oid)
    for (const [name, at] of columns) {
      const missing = name === undefined ? undefined : missingColumn(there, name, found, at)
      if (missing !== undefined) issues.push(missing)
    }
  }
  const { subject } = gdpr
  await check(subject.table, 'gdpr.subject.table', [
    [subject.id, 'gdpr.subject.id'],
    [subject.email, 'gdpr.subject.email'],
  ])
  for (const [table, entry] of Object.entries(gdpr.tables ?? {})) {
    const path = `gdpr.tables.${table}`
    const links = entry.link === undefined || Array.isArray(entry.link) ? (entry.link ?? []) : [entry.link]
    const columns = links.map((link, i): [string | undefined, string] => [
      link.column,
      `${path}.link${Array.isArray(entry.link) ? `.${i}` : ''}.column`,
    ])
    if (Array.isArray(entry.export)) columns.push(...entry.export.map((name, i): [string, string] => [name, `${path}.export.${i}`]))
    if (typeof entry.erase === 'object' && entry.erase.anonymise !== undefined) {
      const { anonymise } = entry.erase
      const names = Array.isArray(anonymise) ? anonymise : Object.keys(anonymise)
      columns.push(...names.map((name): [string, string] => [name, `${path}.erase.anonymise.${name}`]))
    }
    await check(table, path, columns)
  }
  return issues
}
