import * as z from 'zod/mini'
import { canonicalName } from '../check-name.ts'
import { nearest } from '../nearest.ts'
import { name, url } from './primitives.ts'

/** The public status page. It is there without this part, too. */
export const status = z.strictObject({
  /** Default true. `false`: nothing of it is answered. */
  public: z.optional(z.boolean()),
  /** Default: `app.name`. */
  title: z.optional(name),
  /** Checks that are shown. Default: those whose failure people notice (docs/status.md). */
  checks: z.optional(z.array(name)),
  /** What they are called there, by check. */
  names: z.optional(z.record(z.string(), name)),
  /** Headings with the checks below them. What is in none comes first. */
  groups: z.optional(z.record(z.string(), z.array(name))),
  /** Checks whose response times are drawn, at most three. Default: the first addresses, else the database. */
  plots: z.optional(z.array(name).check(z.maxLength(3, 'expected at most three checks'))),
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
