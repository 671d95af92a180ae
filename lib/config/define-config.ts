import type * as z from 'zod/mini'
import { CaretakerError } from '../platform/errors.ts'
import { nearest } from './nearest.ts'
import { type Policy, type PolicyInput, policySchema } from './schema.ts'

/**
 * The policy of one app, checked.
 * @throws {CaretakerError} `policy_invalid`; each issue has the path, what was found, what was expected and, for an
 * unknown key, the nearest one that exists.
 */
export function defineConfig(input: PolicyInput): Policy {
  const parsed = policySchema.safeParse(input)
  if (parsed.success) return parsed.data
  const issues = parsed.error.issues.flatMap((issue) => describe(issue, input))
  throw new CaretakerError('policy_invalid', `The policy is not usable:\n${issues.map((i) => `  ${i.path}: ${i.message}`).join('\n')}`, {
    issues,
  })
}

interface Described {
  path: string
  message: string
}

function describe(issue: z.core.$ZodIssue, input: unknown, prefix: readonly PropertyKey[] = []): Described[] {
  const at = [...prefix, ...issue.path]
  const path = at.length === 0 ? '(policy)' : at.map(String).join('.')
  const found = show(at.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], input))
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => {
        const near = nearest(key, knownKeys(at))
        return {
          path: [...at, key].map(String).join('.'),
          message: `not a known key${near === undefined ? '' : `; did you mean "${near}"?`}`,
        }
      })
    case 'invalid_key':
      return [{ path, message: `not a usable name, ${issue.issues.map(expected).join(' or ')}` }]
    case 'invalid_union': {
      // The branch that got furthest is the one that was meant.
      const best = [...issue.errors].sort((a, b) => depth(b) - depth(a) || a.length - b.length)[0]
      if (best !== undefined && depth(best) > 0) return best.flatMap((inner) => describe(inner, input, at))
      const wanted = issue.errors.flat().map(expected)
      return [{ path, message: `found ${found}, ${[...new Set(wanted)].join(' or ')}` }]
    }
    default:
      return [{ path, message: `found ${found}, ${expected(issue)}` }]
  }
}

/** How far into the input a branch got before it failed; a branch may be several forms again. */
function depth(issues: readonly z.core.$ZodIssue[]): number {
  return Math.max(0, ...issues.map(depthOf))
}

function depthOf(issue: z.core.$ZodIssue): number {
  if (issue.code === 'unrecognized_keys') return issue.path.length + 1
  if (issue.code === 'invalid_union') return issue.path.length + Math.max(0, ...issue.errors.map(depth))
  return issue.path.length
}

function expected(issue: z.core.$ZodIssue): string {
  // The schema's own words say more than the kind of failure.
  if (issue.message.startsWith('expected')) return issue.message
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${issue.expected}`
    case 'invalid_value':
      return `expected ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`
    case 'too_small':
      return `expected at least ${issue.minimum}`
    case 'too_big':
      return `expected at most ${issue.maximum}`
    case 'invalid_union':
      return [...new Set(issue.errors.flat().map(expected))].join(' or ')
    default:
      return 'expected another value'
  }
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'function') return 'a function'
  // A user name and password in a URL are a secret, wherever they stand.
  const json = JSON.stringify(value).replaceAll(/:\/\/[^\s"/]*@/g, '://…@')
  return json.length > 60 ? `${json.slice(0, 57)}…` : json
}

/** The keys the schema knows at `path`, through optionals, unions, records and arrays. */
function knownKeys(path: readonly PropertyKey[]): string[] {
  let schemas: unknown[] = [policySchema]
  for (const key of path) schemas = schemas.flatMap((schema) => children(schema, key))
  return schemas.flatMap(shapes).flatMap((shape) => Object.keys(shape))
}

type Def = {
  type: string
  shape?: Record<string, unknown>
  innerType?: unknown
  options?: unknown[]
  valueType?: unknown
  element?: unknown
}
const definition = (schema: unknown): Def => (schema as { _zod: { def: Def } })._zod.def

function unwrap(schema: unknown): unknown[] {
  const def = definition(schema)
  if (def.type === 'optional' || def.type === 'default') return unwrap(def.innerType)
  if (def.type === 'union') return (def.options ?? []).flatMap(unwrap)
  return [schema]
}

function children(schema: unknown, key: PropertyKey): unknown[] {
  return unwrap(schema).flatMap((one) => {
    const def = definition(one)
    const child =
      def.type === 'object'
        ? def.shape?.[String(key)]
        : def.type === 'record'
          ? def.valueType
          : def.type === 'array'
            ? def.element
            : undefined
    return child === undefined ? [] : [child]
  })
}

function shapes(schema: unknown): Record<string, unknown>[] {
  return unwrap(schema).map((one) => definition(one).shape ?? {})
}
