import type { Policy } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import type { Queryable } from '../platform/db.ts'
import { type Issue, warningAt } from './issue.ts'
import { concurrencyObstacle } from './refresh.ts'
import { resolveReindex } from './reindex.ts'
import { findRelation, isIssue, loadColumns, missingColumn, type Wanted } from './relations.ts'
import { findRule, resolveRule, ruleName } from './retention-target.ts'
import { reading } from './session-settings.ts'
import { sqlIssues } from './sql.ts'
import { tryStatement } from './try-statement.ts'

/** Everything the policy names in the database, held against the live catalogue. Reads only; needs no table of Caretaker's own. */
export async function checkPolicy(ctx: Pick<Context, 'db' | 'config'>): Promise<Issue[]> {
  const { config } = ctx
  const issues: Issue[] = []
  await reading(ctx, async (tx) => {
    const { vacuum = [], reindex = [], refresh = [] } = config.maintenance ?? {}
    issues.push(...(await checkNames(tx, vacuum, 'maintained', 'maintenance.vacuum')))
    issues.push(...(await checkIndexes(tx, reindex, 'maintenance.reindex')))
    issues.push(...(await checkViews(tx, refresh, 'maintenance.refresh')))
  })
  for (const index of (config.retention ?? []).keys()) issues.push(...(await resolveRule(ctx, index)).issues)
  issues.push(...twinIssues(config))
  for (const [name, job] of Object.entries(config.jobs ?? {})) {
    for (const [position, step] of job.steps.entries()) {
      const path = `jobs.${name}.steps.${position}`
      if ('sql' in step) {
        const problems = sqlIssues(step.sql, `${path}.sql`)
        issues.push(...problems)
        if (problems.length === 0) issues.push(...(await tryStatement(ctx, step.sql, `${path}.sql`)))
      } else if ('retention' in step) {
        if (step.retention === 'all') continue
        for (const [i, rule] of step.retention.entries()) {
          const found = findRule(config, rule, `${path}.retention.${i}`)
          if (typeof found !== 'number') issues.push(found)
        }
      } else {
        await reading(ctx, async (tx) => {
          if ('vacuum' in step) issues.push(...(await checkNames(tx, step.vacuum, 'maintained', `${path}.vacuum`)))
          else if ('reindex' in step)
            issues.push(
              ...(await checkIndexes(
                tx,
                step.reindex.filter((target) => typeof target === 'string'),
                `${path}.reindex`,
              )),
            )
          else if ('refresh' in step) issues.push(...(await checkViews(tx, step.refresh, `${path}.refresh`)))
          else if ('analyze' in step && step.analyze !== 'all')
            issues.push(...(await checkNames(tx, step.analyze, 'maintained', `${path}.analyze`)))
        })
      }
    }
  }
  await reading(ctx, async (tx) => {
    issues.push(...(await checkGdpr(tx, config)))
  })
  return issues
}

async function checkNames(db: Queryable, names: readonly string[], want: Wanted, path: string): Promise<Issue[]> {
  const issues: Issue[] = []
  for (const [position, name] of names.entries()) {
    const found = await findRelation(db, name, want, `${path}.${position}`)
    if (isIssue(found)) issues.push(found)
  }
  return issues
}

async function checkIndexes(db: Queryable, names: readonly string[], path: string): Promise<Issue[]> {
  const issues: Issue[] = []
  for (const [position, name] of names.entries()) {
    const found = await resolveReindex(db, name, `${path}.${position}`)
    if ('severity' in found) issues.push(found)
  }
  return issues
}

async function checkViews(db: Queryable, names: readonly string[], path: string): Promise<Issue[]> {
  const issues: Issue[] = []
  for (const [position, name] of names.entries()) {
    const at = `${path}.${position}`
    const found = await findRelation(db, name, 'matview', at)
    if (isIssue(found)) {
      issues.push(found)
      continue
    }
    const obstacle = await concurrencyObstacle(db, found.oid)
    if (obstacle !== undefined) issues.push(warningAt(at, `readers of ${found.label} wait while it is refreshed, because ${obstacle}`))
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
    const columns: [string | undefined, string][] = [[entry.link?.column, `${path}.link.column`]]
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
