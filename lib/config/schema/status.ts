import * as z from 'zod/mini'
import { canonicalName } from '../check-name.ts'
import { nearest } from '../nearest.ts'
import { line, name, url } from './primitives.ts'

const once = z.refine<string[]>(
  (names) => new Set(names.map(canonicalName)).size === names.length,
  'expected each check once, in either spelling',
)

/** The public status page. It is there without this part, too. */
export const status = z.strictObject({
  /** Default true. `false`: nothing of it is answered. */
  public: z.optional(z.boolean()),
  /** Default: `app.name`. */
  title: z.optional(line(100)),
  /** Checks that are shown. Default: those whose failure people notice (docs/status.md). */
  checks: z.optional(z.array(name).check(once)),
  /** What they are called there, by check. */
  names: z.optional(z.record(z.string(), line(100))),
  /** Headings with the checks below them. What is in none comes first. */
  groups: z.optional(z.record(line(100), z.array(name).check(z.minLength(1, 'expected at least one check')))),
  /** Checks whose response times are drawn, at most three. Default: the first addresses, else the database. */
  plots: z.optional(z.array(name).check(z.maxLength(3, 'expected at most three checks'), once)),
  /** Whether to keep to oneself why something fails. Default false: a word such as "did not answer in time" is shown. */
  hideCauses: z.optional(z.boolean()),
  /** Where people turn to with questions. */
  support: z.optional(url),
})

export type StatusPolicy = z.output<typeof status>

interface Referring {
  health?: { checks?: Record<string, unknown> | undefined } | undefined
  status?: StatusPolicy | undefined
}

/** Checks that the status page names and that do not exist. Where the policy lists none, they follow from the environment. */
export function* referencesOfStatus(policy: Referring): Generator<{ path: PropertyKey[]; message: string; input: unknown }> {
  const { health, status: page } = policy
  if (health?.checks === undefined || page === undefined) return
  const names = Object.keys(health.checks)
  const known = new Set(names.map(canonicalName))
  const grouped = new Map<string, string>()
  for (const [group, checks] of Object.entries(page.groups ?? {}))
    for (const [index, one] of checks.entries()) {
      const before = grouped.get(canonicalName(one))
      if (before !== undefined)
        yield { path: ['status', 'groups', group, index], message: `expected a check that is not in "${before}" already`, input: policy }
      grouped.set(canonicalName(one), group)
    }
  const named: [PropertyKey[], string][] = [
    ...(page.checks ?? []).map((one, index): [PropertyKey[], string] => [['checks', index], one]),
    ...(page.plots ?? []).map((one, index): [PropertyKey[], string] => [['plots', index], one]),
    ...Object.keys(page.names ?? {}).map((one): [PropertyKey[], string] => [['names', one], one]),
    ...Object.entries(page.groups ?? {}).flatMap(([group, checks]) =>
      checks.map((one, index): [PropertyKey[], string] => [['groups', group, index], one]),
    ),
  ]
  for (const [path, found] of named) {
    if (known.has(canonicalName(found))) continue
    const near = nearest(found, names)
    yield {
      path: ['status', ...path],
      message: `expected a check of "health.checks"${near === undefined ? '' : `; did you mean "${near}"?`}`,
      input: policy,
    }
  }
}
