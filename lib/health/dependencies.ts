import { canonicalName, type Policy } from '../config/index.ts'
import type { Env } from '../platform/env.ts'
import { type Check, policyChecks } from './check.ts'

/** What a kind cannot pass without, where the policy does not say. */
const parentKinds: Readonly<Record<string, string>> = {
  activity: 'database',
  backup: 'database',
  drill: 'database',
  gdpr: 'database',
  jobs: 'database',
  migrations: 'database',
  pooler: 'database',
  rls: 'database',
  webhooks: 'database',
  'supabase-auth': 'supabase',
  'supabase-realtime': 'supabase',
  'supabase-rest': 'supabase',
  'supabase-storage': 'supabase',
}

// Every setting that adds a check where the policy lists none: what is not there is not observed either.
const everything = { SUPABASE_URL: 'https://supabase.invalid' } as Env

/**
 * For each check of the policy, by canonical name, what its failure may come from: its parents, nearest first, and theirs.
 * `dependsOn` says it; where it is absent the kind does. Only checks of the policy are named, and no check is its own
 * ancestor.
 */
export function dependencyTree(policy: Policy): ReadonlyMap<string, readonly string[]> {
  const checks = policyChecks(policy, everything)
  const parents = new Map(checks.map((check) => [canonicalName(check.name), parentsOf(check, checks, policy)]))
  return new Map([...parents.keys()].map((name) => [name, ancestors(name, parents)]))
}

/**
 * The checks of the policy, by canonical name, that reach over the internet, and not through the database: what fails when this
 * deployment's network does.
 */
export function remoteChecks(policy: Policy): ReadonlySet<string> {
  const near = new Set(policyChecks(policy, everything).flatMap((check) => (isNear(kindOf(check)) ? [canonicalName(check.name)] : [])))
  const stands = ([name, above]: readonly [string, readonly string[]]) => ![name, ...above].some((one) => near.has(one))
  return new Set([...dependencyTree(policy)].filter(stands).map(([name]) => name))
}

function isNear(kind: string): boolean {
  return kind === 'database' || kind === 'memory' || parentKinds[kind] === 'database'
}

function parentsOf(check: Check, checks: readonly Check[], policy: Policy): string[] {
  if (check.policy.dependsOn !== undefined) return check.policy.dependsOn.map(canonicalName)
  const kind = kindOf(check)
  const named = (wanted: (other: Check) => boolean) =>
    checks.filter((other) => other !== check && wanted(other)).map((other) => canonicalName(other.name))
  if (kind === 'url' || kind === 'certificate') {
    const host = hostOf(check)
    return host === undefined ? [] : named((other) => kindOf(other) === 'dns' && hostOf(other) === host)
  }
  if (kind === 'object-store')
    return policy.backup?.store?.startsWith('supabase:') === true ? named((other) => kindOf(other) === 'supabase') : []
  const parent = parentKinds[kind]
  return parent === undefined ? [] : named((other) => kindOf(other) === parent)
}

function ancestors(name: string, parents: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = []
  for (let level = parents.get(name) ?? []; level.length > 0; ) {
    const fresh = level.filter((one) => one !== name && !found.includes(one) && parents.has(one))
    found.push(...new Set(fresh))
    level = fresh.flatMap((one) => parents.get(one) ?? [])
  }
  return found
}

function kindOf(check: Check): string {
  return canonicalName(check.policy.kind ?? check.name)
}

function hostOf(check: Check): string | undefined {
  return check.policy.url === undefined ? undefined : URL.parse(check.policy.url)?.hostname
}
