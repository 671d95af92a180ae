import { createHash } from 'node:crypto'
import { canonicalName, type HealthCheckPolicy, type Policy } from '../config/index.ts'
import { canonicalJson } from '../platform/audit.ts'
import type { Env } from '../platform/env.ts'
import type { CheckerKind } from './checker.ts'
import { findKind } from './checkers/index.ts'

/** One check of the policy, resolved: what it runs, and everything the policy left to the default. */
export interface Check {
  name: string
  policy: HealthCheckPolicy
  /** Absent where the policy names a kind that does not exist: the check then fails as `misconfigured`. */
  kind: CheckerKind | undefined
  critical: boolean
  timeoutMs: number
}

/**
 * The checks of the policy. Without `health.checks` they follow from what the policy and the environment have: the
 * database, row level security, Supabase where its URL is set, the object store where backups go to one.
 */
export function policyChecks(config: Policy, env: Env): Check[] {
  const listed = config.health?.checks
  if (listed !== undefined) return Object.entries(listed).map(([name, policy]) => resolveCheck(name, policy))
  const names = ['database']
  if (env.SUPABASE_URL !== undefined) names.push('supabase')
  if (config.backup?.store !== undefined) names.push('object_store')
  names.push('rls')
  return names.map((name) => resolveCheck(name, {}))
}

export function resolveCheck(name: string, policy: HealthCheckPolicy): Check {
  const found = findKind(policy.kind ?? name)
  const kind = 'kind' in found ? found.kind : undefined
  return {
    name,
    policy,
    kind,
    critical: policy.critical ?? kind?.critical ?? false,
    timeoutMs: policy.timeoutMs ?? kind?.timeoutMs ?? 3_000,
  }
}

/** Paths below /health that are not checks. */
const routeNames: ReadonlySet<string> = new Set(['live', 'ready', 'detailed'])

/** What is wrong with the policy's entry, or undefined. */
export function misconfiguration(check: Check): string | undefined {
  const kindName = check.policy.kind ?? check.name
  const found = findKind(kindName)
  if ('near' in found)
    return `health.checks.${check.name}: there is no checker "${kindName}"${found.near === undefined ? '' : `; did you mean "${found.near}"?`} To check an address, add kind: 'url' and url.`
  if (routeNames.has(check.name)) return `health.checks.${check.name}: the name is taken by the path /health/${check.name}; choose another.`
  const kind = canonicalName(kindName)
  if (['url', 'dns', 'certificate'].includes(kind) && check.policy.url === undefined)
    return `health.checks.${check.name}: kind "${kind}" needs a url.`
  return undefined
}

/**
 * Under what a check's last result is shared between instances. Another environment or another entry under the same
 * name is another dependency: a preview deployment that shares the database must not answer for production.
 */
export function snapshotScope(check: Check, env: Env): string {
  const entry = createHash('sha256')
    .update(canonicalJson([check.policy, check.critical]))
    .digest('hex')
    .slice(0, 8)
  return `check:${env.CARETAKER_ENVIRONMENT ?? ''}:${check.name}:${entry}`
}
