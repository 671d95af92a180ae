import * as z from 'zod/mini'
import { canonicalName } from '../check-name.ts'
import { durationMs, isDuration } from '../duration.ts'
import { nearest } from '../nearest.ts'
import { duration, name, url } from './primitives.ts'

/*
 * Rules that look at figures, and channels that people are told on. Checks, certificates, backups, jobs and deadlines need no rule:
 * what Caretaker itself knows to be wrong is told of without one.
 */

const key = z.string().check(z.regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'expected lower-case letters, digits, hyphens and underscores'))
const channelNames = z.array(key)
const labels = z.record(z.string(), z.string())

/** What checks and channels go by among rules is theirs alone: two of one name would be one alert. */
const ruleName = key.check(
  z.refine((given) => !/^(check-.*|rule-failing|channel-failing)$/.test(given), 'expected another name: Caretaker has a rule of this one'),
)

const rule = z
  .strictObject({
    name: ruleName,
    /** Of `metrics`: a named figure such as "http.error_rate", or a series such as "database_pool_waiting_count". */
    metric: name,
    /** Which figure of the series over the time: `p95` of a histogram, `per_second` or `sum` of a counter. Default: as the metric says. */
    stat: z.optional(z.enum(['last', 'average', 'max', 'min', 'sum', 'per_second', 'p50', 'p90', 'p95', 'p99'])),
    /** Only series with these labels; "5xx" stands for every status from 500 to 599. */
    where: z.optional(labels),
    /** Divided by this one: 5xx per request, timeouts per call. */
    per: z.optional(z.strictObject({ metric: name, where: z.optional(labels) })),
    /** An alert for each value of these labels. */
    by: z.optional(z.array(name)),
    /** The time one look covers. Default "5 minutes". */
    over: z.optional(
      // Figures are of whole minutes: of less there are none.
      duration.check(z.refine((given) => !isDuration(given) || durationMs(given) >= 60_000, 'expected at least "1 minute"')),
    ),
    above: z.optional(z.number()),
    below: z.optional(z.number()),
    /** What it must come back to before it clears. Default: the threshold itself. */
    recover: z.optional(z.number()),
    /** How long the condition must hold. Default: the first look that finds it fires. */
    for: z.optional(duration),
    /** How long it must be over before it is told as over. Default: of `alerts`. */
    keepFiringFor: z.optional(duration),
    /** Fewer samples than this say nothing: 1 failed request of 3 is no error rate. */
    minimum: z.optional(z.int().check(z.gte(1))),
    /** Of `incidents.severities`. */
    severity: name,
    /** What is broken when it fires: alerts of one component are one incident. Default: the rule's name. */
    component: z.optional(key),
    /** Components whose failure explains this one: it then opens nothing of its own. */
    dependsOn: z.optional(z.array(key)),
    runbook: z.optional(url),
    /** Channels instead of the severity's; [] for an incident that nobody is told of. */
    notify: z.optional(channelNames),
    description: z.optional(z.string()),
    /** False: never evaluated; `caretaker alerts replay` tells what it would have done. */
    enabled: z.optional(z.boolean()),
  })
  .check(
    z.refine(({ above, below }) => (above === undefined) !== (below === undefined), 'expected either "above" or "below"'),
    z.refine(
      ({ above, below, recover }) =>
        recover === undefined || (above !== undefined && recover <= above) || (below !== undefined && recover >= below),
      'expected "recover" on the good side of the threshold',
    ),
  )

export type AlertRule = z.output<typeof rule>

const kinds = ['slack', 'email', 'pagerduty', 'opsgenie', 'webhook'] as const

/** Which settings a kind of channel takes, beside `kind`. */
const settingsOf: Readonly<Record<(typeof kinds)[number], readonly string[]>> = {
  slack: [],
  email: ['to'],
  pagerduty: ['region'],
  opsgenie: ['url', 'allowPrivate'],
  webhook: ['url', 'allowPrivate'],
}

const channel = z.strictObject({
  /** Default: the channel's own name, where that is one of these. */
  kind: z.optional(z.enum(kinds)),
  /** `webhook`: where to. `opsgenie`: another address of its API, such as https://api.eu.opsgenie.com or a compatible one. */
  url: z.optional(url),
  /** `email`: who is written to. */
  to: z.optional(
    z
      .array(z.string().check(z.regex(/^[^\s@]+@[^\s@]+\.[^\s@]+$/, 'expected an e-mail address')))
      .check(z.minLength(1, 'expected at least one address')),
  ),
  /** `pagerduty`: of an account in the European Union. Default "us". */
  region: z.optional(z.enum(['us', 'eu'])),
  /** `webhook`, `opsgenie`: an address in a private network on purpose. Default false: such are refused. */
  allowPrivate: z.optional(z.boolean()),
})

export type AlertChannelPolicy = z.output<typeof channel>

const override = z.union([
  z.literal(false),
  z.strictObject({
    severity: z.optional(name),
    /** How long the check must fail. Default: one look, which a second one has confirmed. */
    for: z.optional(duration),
    notify: z.optional(channelNames),
    runbook: z.optional(url),
  }),
])

export type AlertOverride = z.output<typeof override>

export const alerts = z.strictObject({
  /** Where people are told, by name. Default: Slack, where SLACK_WEBHOOK_URL is set. */
  channels: z.optional(z.record(key, channel)),
  rules: z.optional(z.array(rule)),
  /** What a failing check does, by check; false for one that only shows in the report. `checks: false` for none at all. */
  checks: z.optional(z.union([z.literal(false), z.record(z.string(), override)])),
  /** What an event of Caretaker or of the app does, by its type ("job.missed"); false for one that is only recorded. */
  events: z.optional(z.record(z.string(), override)),
  /** How often an incident that nobody has acknowledged is told of again. Default "4 hours". */
  remindEvery: z.optional(duration),
  /** How long a condition must be over before it is told as over. Default "5 minutes". */
  keepFiringFor: z.optional(duration),
})

export const alertRule = rule

interface Referring {
  alerts?: z.output<typeof alerts> | undefined
  health?: { checks?: Record<string, unknown> | undefined } | undefined
}

/** Channels of no kind or with another kind's settings, rules of one name, and checks that the policy does not have. */
export function referencesOfAlerts({ alerts: policy, health }: Referring): { path: PropertyKey[]; message: string; input: unknown }[] {
  const issues: { path: PropertyKey[]; message: string; input: unknown }[] = []
  const issue = (path: PropertyKey[], message: string) => issues.push({ path: ['alerts', ...path], message, input: undefined })
  for (const [channelName, settings] of Object.entries(policy?.channels ?? {})) {
    const kind = settings.kind ?? kinds.find((one) => one === channelName)
    if (kind === undefined) {
      issue(['channels', channelName, 'kind'], `expected one of ${kinds.join(', ')}, because "${channelName}" is none of them`)
      continue
    }
    for (const setting of Object.keys(settings))
      if (setting !== 'kind' && !settingsOf[kind].includes(setting))
        issue(
          ['channels', channelName, setting],
          `expected nothing: a channel of the kind ${kind} takes ${settingsOf[kind].length === 0 ? 'no settings' : settingsOf[kind].join(', ')}`,
        )
    if (kind === 'email' && settings.to === undefined) issue(['channels', channelName, 'to'], 'expected the addresses to write to')
  }
  const names = new Set<string>()
  for (const [index, { name: of }] of (policy?.rules ?? []).entries()) {
    if (names.has(of)) issue(['rules', index, 'name'], `expected another name: there is a rule "${of}" before it`)
    if (Object.hasOwn(policy?.events ?? {}, of)) issue(['rules', index, 'name'], `expected another name: there is an event "${of}"`)
    names.add(of)
  }
  // Without a list the checks follow from what is configured.
  const checks = health?.checks === undefined ? undefined : Object.keys(health.checks).map(canonicalName)
  for (const check of Object.keys(policy?.checks || {}))
    if (checks !== undefined && !checks.includes(canonicalName(check))) {
      const near = nearest(canonicalName(check), checks)
      issue(['checks', check], `expected a check of "health.checks"${near === undefined ? '' : `; did you mean "${near}"?`}`)
    }
  return issues
}
