import type { TrustInput } from '../signing/index.ts'
import { showConfigVersion } from './stored.ts'

export interface ConfigChange {
  /** `policy.backup.keep.daily`, `database.objects.TABLE public.users`. */
  path: string
  change: 'added' | 'removed' | 'changed'
  before?: unknown
  after?: unknown
}

export interface ConfigDiff {
  from: string
  to: string
  changes: ConfigChange[]
}

/** What changed between two versions of the configuration; `to` is the newest unless it is given. */
export async function diffConfigVersions(
  ctx: Parameters<typeof showConfigVersion>[0],
  input: { from: string; to?: string | undefined } & TrustInput,
): Promise<ConfigDiff> {
  const from = await showConfigVersion(ctx, { ...input, id: input.from })
  const to = await showConfigVersion(ctx, { ...input, id: input.to ?? 'latest', database: from.version.database })
  return { from: from.version.id, to: to.version.id, changes: compare('', named(from.content), named(to.content)) }
}

/** Lists of named things as objects by name, so that one more of them is one change. */
function named(value: unknown): unknown {
  if (Array.isArray(value)) {
    const names = value.map((one: unknown) => (isObject(one) && typeof one.name === 'string' ? one.name : undefined))
    if (value.length > 0 && names.every((name) => name !== undefined) && new Set(names).size === names.length)
      return Object.fromEntries(value.map((one: unknown, at) => [names[at], named(one)]))
    return value.map(named)
  }
  return isObject(value) ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, named(inner)])) : value
}

function compare(path: string, before: unknown, after: unknown): ConfigChange[] {
  if (JSON.stringify(before) === JSON.stringify(after)) return []
  if (!isObject(before) || !isObject(after)) return [{ path, change: 'changed', before, after }]
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].sort().flatMap((key): ConfigChange[] => {
    const at = path === '' ? key : `${path}.${key}`
    if (!(key in before)) return [{ path: at, change: 'added', after: after[key] }]
    if (!(key in after)) return [{ path: at, change: 'removed', before: before[key] }]
    return compare(at, before[key], after[key])
  })
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
