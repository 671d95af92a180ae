import { createHash } from 'node:crypto'
import type { Context } from '../../platform/context.ts'
import type { JobOutcome, PlanLine } from '../../platform/job.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { requirePolicy } from '../policy.ts'
import { type Catalogue, readCatalogue } from './catalogue.ts'
import { type LintFinding, lintMap } from './lint.ts'
import { sampleFindings } from './samples.ts'
import { buildSubjectMap } from './subject-map.ts'

export interface Lint {
  findings: LintFinding[]
  /** What `gdpr.reviewed` is to be when somebody has looked at every table and column there is now. */
  fingerprint: string
}

/** Everything the policy leaves open, by names, by values, and by what has changed in the schema since it was reviewed. Only reads. */
export async function lintDatabase(ctx: Pick<Context, 'db' | 'config'>): Promise<Lint> {
  const policy = requirePolicy(ctx)
  const catalogue = await readCatalogue(ctx.db)
  const findings = lintMap(catalogue, policy)
  findings.push(...(await sampleFindings(ctx.db, catalogue, buildSubjectMap(catalogue, policy), findings)))
  const fingerprint = fingerprintOf(catalogue)
  if (policy.reviewed !== undefined && policy.reviewed !== fingerprint)
    findings.push({
      rule: 'drift',
      table: '',
      message: `Tables or columns have changed since the policy was reviewed. Look at \`caretaker gdpr map\`, then set gdpr.reviewed to "${fingerprint}".`,
    })
  return { findings, fingerprint }
}

/** The app's tables, their columns and types, and their foreign keys. Supabase's own schemas change with its releases, not with the app. */
export function fingerprintOf(catalogue: Catalogue): string {
  const own = (key: string) => !/^(auth|storage|realtime|vault|extensions|supabase_[a-z_]+)\./.test(key)
  const tables = [...catalogue.tables]
    .filter(([key]) => own(key))
    .map(
      ([key, { columns }]) =>
        `${key}(${columns
          .map(({ name, type }) => `${name} ${type}`)
          .sort()
          .join(', ')})`,
    )
  const keys = catalogue.foreignKeys
    .filter(({ table }) => own(table))
    .map(
      ({ table, columns, references, referencedColumns, onDelete }) =>
        `${table}(${columns.join()}) ${references}(${referencedColumns.join()}) ${onDelete}`,
    )
  return createHash('sha256')
    .update([...tables.sort(), ...keys.sort()].join('\n'))
    .digest('hex')
    .slice(0, 16)
}

/** The job `gdpr-lint`: what it finds is its result, which the health check `gdpr` reads, and an event. */
export async function lintJob(ctx: Context): Promise<JobOutcome> {
  const { findings, fingerprint } = await lintDatabase(ctx)
  const rules: Record<string, number> = {}
  for (const { rule } of findings) rules[rule] = (rules[rule] ?? 0) + 1
  if (findings.length > 0) await ctx.db.transaction((tx) => emitEvent(tx, 'gdpr.lint_failed', { findings: findings.length, rules }))
  return { status: 'done', result: { findings: findings.length, rules, fingerprint } }
}

export async function planLint(): Promise<PlanLine[]> {
  return [{ action: 'look for personal data that the policy does not describe', target: 'gdpr', count: null, unit: 'rows' }]
}
