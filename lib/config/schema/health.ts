import * as z from 'zod/mini'
import { canonicalName } from '../check-name.ts'
import { isCron, longestGapMs } from '../cron-fields.ts'
import { durationMs, isDuration } from '../duration.ts'
import { nearest } from '../nearest.ts'
import { byteSize, durationBetween, line, name, url, zone } from './primitives.ts'

const check = z.strictObject({
  /** A checker's name; the key of the entry where it is absent. `url` checks any address. */
  kind: z.optional(z.string()),
  url: z.optional(url),
  /** A failing critical check makes the whole report fail. Default true for the database, false for third parties. */
  critical: z.optional(z.boolean()),
  timeoutMs: z.optional(z.int().check(z.gte(50), z.lte(30_000))),
  expectStatus: z.optional(z.int().check(z.gte(100), z.lte(599))),
  /** Checks without which this one cannot pass: their failure explains this one's. Default by kind (docs/health.md). */
  dependsOn: z.optional(z.array(name)),
  /** Of a check that measures an amount (`memory`): more is a failure. */
  atMost: z.optional(byteSize),
})

/** It stands in addresses (`/health/NAME`), in matchers of silences and in names of alerts. */
const checkName = z.string().check(
  z.regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, 'expected letters, digits, hyphens and underscores, such as "object-store"'),
  z.refine((given) => canonicalName(given) !== 'several-dependencies', 'expected another name: it is what a storm of alerts goes by'),
)

const weekdays = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const

const time = z.string().check(z.regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'expected a time of day such as "02:30"'))

/** Maintenance that comes again: a cron expression and a duration, or days with a time from and to. */
const maintenanceWindow = z
  .strictObject({
    name: line(100),
    title: z.optional(line()),
    cron: z.optional(z.string().check(z.refine(isCron, 'expected a cron expression of five fields such as "0 2 * * 0"'))),
    duration: z.optional(durationBetween('1 minute', '30 days')),
    /** Default: every day. */
    days: z.optional(
      z.array(z.enum(weekdays, `expected days out of ${weekdays.join(', ')}`)).check(z.minLength(1, 'expected at least one day')),
    ),
    from: z.optional(time),
    /** Not after `from`: on the next day. */
    to: z.optional(time),
    /** In which the rest is read. Default: `app.timezone`, else UTC. */
    timezone: z.optional(zone),
    /** Checks that may fail meanwhile, with what depends on them. Default: all. */
    components: z.optional(z.array(name).check(z.minLength(1, 'expected at least one check; leave it out for all'))),
  })
  .check((given) => {
    const { cron: expression, duration: length, days, from, to } = given.value
    const message =
      expression !== undefined
        ? length === undefined || days !== undefined || from !== undefined || to !== undefined
          ? 'expected "duration" beside "cron", and no "days", "from" or "to"'
          : undefined
        : from === undefined || to === undefined || length !== undefined
          ? 'expected "cron" with "duration", or "from" with "to" (and "days")'
          : undefined
    if (message !== undefined) given.issues.push({ code: 'custom', message, input: given.value, path: [] })
    else if (isAlwaysOpen(given.value))
      given.issues.push({
        code: 'custom',
        message: 'expected a window that ends before it comes again: in this one nobody would ever be told of anything',
        input: given.value,
        path: [expression === undefined ? 'to' : 'duration'],
      })
  })

export const health = z
  .strictObject({
    checks: z.optional(z.record(checkName, check)),
    /** How old a report may be before it is made anew, seconds. Default 10. */
    maxAgeSeconds: z.optional(z.int().check(z.gte(1), z.lte(300))),
    /** How long the job waits before it looks a second time at what seems to have changed, milliseconds. Default 2,000. */
    confirmAfterMs: z.optional(z.int().check(z.gte(0), z.lte(15_000))),
    maintenance: z.optional(z.array(maintenanceWindow)),
  })
  .check((given) => {
    for (const issue of references(given.value)) given.issues.push({ code: 'custom', input: given.value, ...issue })
  })

interface Referring {
  checks?: Record<string, { dependsOn?: string[] | undefined }> | undefined
  maintenance?: { name: string; components?: string[] | undefined }[] | undefined
}

/** Names of checks that do not exist, circles of dependencies, names of windows taken twice. */
function* references({ checks, maintenance = [] }: Referring): Generator<{ path: PropertyKey[]; message: string }> {
  const names = Object.keys(checks ?? {})
  const parents = new Map(
    Object.entries(checks ?? {}).map(([key, { dependsOn = [] }]) => [canonicalName(key), dependsOn.map(canonicalName)]),
  )
  const unknown = (wanted: string) => {
    if (checks === undefined || parents.has(canonicalName(wanted))) return undefined
    const near = nearest(wanted, names)
    return `expected a check of "health.checks"${near === undefined ? '' : `; did you mean "${near}"?`}`
  }
  for (const [index, key] of names.entries()) {
    const other = names.findIndex((one) => canonicalName(one) === canonicalName(key))
    if (other !== index)
      yield { path: ['checks', key], message: `expected another name: "${names[other]}" before it is the same check in another spelling` }
  }
  for (const [key, { dependsOn = [] }] of Object.entries(checks ?? {}))
    for (const [index, parent] of dependsOn.entries()) {
      const message =
        unknown(parent) ??
        (reaches(parents, canonicalName(parent), canonicalName(key))
          ? `expected no circle: "${parent}" depends on "${key}" itself`
          : undefined)
      if (message !== undefined) yield { path: ['checks', key, 'dependsOn', index], message }
    }
  for (const [index, window] of maintenance.entries()) {
    if (maintenance.findIndex(({ name: other }) => other === window.name) !== index)
      yield {
        path: ['maintenance', index, 'name'],
        message: 'expected a name of its own for each window',
      }
    for (const [position, component] of (window.components ?? []).entries()) {
      const message = unknown(component)
      if (message !== undefined) yield { path: ['maintenance', index, 'components', position], message }
    }
  }
}

interface Window {
  cron?: string | undefined
  duration?: string | undefined
  days?: readonly string[] | undefined
  from?: string | undefined
  to?: string | undefined
}

/** Whether there is no moment at which it is not open: each day whole, or one that comes again before it ends. */
function isAlwaysOpen({ cron: expression, duration: length, days, from, to }: Window): boolean {
  if (expression === undefined) return from === to && new Set(days ?? weekdays).size === weekdays.length
  if (length === undefined || !isDuration(length) || !isCron(expression)) return false
  return durationMs(length) >= longestGapMs(expression)
}

function reaches(parents: ReadonlyMap<string, readonly string[]>, from: string, to: string, seen: Set<string> = new Set()): boolean {
  if (from === to) return true
  if (seen.has(from)) return false
  seen.add(from)
  return (parents.get(from) ?? []).some((parent) => reaches(parents, parent, to, seen))
}

export type HealthCheckPolicy = z.output<typeof check>
export type MaintenancePolicy = z.output<typeof maintenanceWindow>
