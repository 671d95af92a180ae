import * as z from 'zod/mini'
import { canonicalName } from '../check-name.ts'
import { nearest } from '../nearest.ts'
import { alertStorm } from './alert-storm.ts'
import { issuesOfFigure } from './figure-references.ts'
import { labelName } from './metrics.ts'
import { durationBetween, line, name, url } from './primitives.ts'

/*
 * Rules that look at figures, and channels that people are told on. Checks, certificates, backups, jobs and deadlines need no rule:
 * what Caretaker itself knows to be wrong is told of without one.
 */

const key = z.string().check(z.regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'expected lower-case letters, digits, hyphens and underscores'))
const channelNames = z.array(key)
const labels = z.record(labelName, z.string())

/** What the incident of a storm goes by is nobody else's. */
const component = key.check(z.refine((given) => given !== 'several-dependencies', 'expected another name: it is what a storm goes by'))

/** It stands in every message. */
const runbook = url.check(z.maxLength(1_000, 'expected at most 1000 characters'))

/** Conditions that must hold for longer than anybody waits are never told of. */
const hold = durationBetween('1 second', '30 days')
/** Rules are looked at once a minute: more often nobody could be reminded, and what comes after months is no reminder. */
const remindEvery = durationBetween('5 minutes', '30 days')

/** What checks and channels go by among rules is theirs alone: two of one name would be one alert. */
const ruleName = key.check(
  z.refine(
    (given) => !/^(check-.*|rule-failing|channel-failing|several-dependencies)$/.test(given),
    'expected another name: Caretaker has a rule of this one',
  ),
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
    by: z.optional(z.array(labelName).check(z.minLength(1, 'expected at least one label; leave it out for one alert of all'))),
    /** The time one look covers. Default "5 minutes". */
    // Figures are of whole minutes: of less there are none. They are kept for 400 days.
    over: z.optional(durationBetween('1 minute', '400 days')),
    above: z.optional(z.number()),
    below: z.optional(z.number()),
    /** What it must come back to before it clears. Default: the threshold itself. */
    recover: z.optional(z.number()),
    /** How long the condition must hold. Default: the first look that finds it fires. */
    for: z.optional(hold),
    /** How long it must be over before it is told as over. Default: of `alerts`. */
    keepFiringFor: z.optional(hold),
    /** Fewer samples than this say nothing: 1 failed request of 3 is no error rate. */
    minimum: z.optional(z.int().check(z.gte(1))),
    /** Of `incidents.severities`. */
    severity: name,
    /** What is broken when it fires: alerts of one component are one incident. Default: the rule's name. */
    component: z.optional(component),
    /** Components whose failure explains this one: it then opens nothing of its own. */
    dependsOn: z.optional(z.array(key)),
    runbook: z.optional(runbook),
    /** Channels instead of the severity's; [] for an incident that nobody is told of. */
    notify: z.optional(channelNames),
    description: z.optional(line()),
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
    z.refine(({ component, name: of, dependsOn = [] }) => !dependsOn.includes(component ?? of), {
      error: 'expected other components than its own',
      path: ['dependsOn'],
    }),
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
  url: z.optional(
    url.check(z.refine(isWithoutPassword, 'expected an address without a user name or password: secrets stand in ALERT_CHANNEL_SECRETS')),
  ),
  /** `email`: who is written to. */
  to: z.optional(
    z
      .array(z.string().check(z.regex(/^[^\s@<>()[\],;:"\\]+@[^\s@<>()[\],;:"\\]+\.[^\s@<>()[\],;:"\\]+$/, 'expected an e-mail address')))
      .check(
        z.minLength(1, 'expected at least one address'),
        z.maxLength(50, 'expected at most 50 addresses: use a list of the mail system'),
      ),
  ),
  /** `pagerduty`: of an account in the European Union. Default "us". */
  region: z.optional(z.enum(['us', 'eu'])),
  /** `webhook`, `opsgenie`: an address in a private network on purpose. Default false: such are refused. */
  allowPrivate: z.optional(z.boolean()),
})

export type AlertChannelPolicy = z.output<typeof channel>

const overrideFor = (length: typeof hold) =>
  z.union([
    z.literal(false),
    z.strictObject({ severity: z.optional(name), for: z.optional(length), notify: z.optional(channelNames), runbook: z.optional(runbook) }),
  ])
/** `for`: how long the check must fail. Default: one look, which a second one has confirmed. */
const checkOverride = overrideFor(hold)
/** `for`: how long the event lasts by itself. One that is over before the next look would be told to nobody. */
const eventOverride = overrideFor(durationBetween('5 minutes', '1 year'))

export type AlertOverride = z.output<typeof checkOverride>

/** What `caretaker.emit` takes for a type. */
const topic = z
  .string()
  .check(z.regex(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/, 'expected the type of an event, such as "job.missed" or "order.stuck"'))

export const alerts = z.strictObject({
  /** Where people are told, by name. Default: Slack, where SLACK_WEBHOOK_URL is set. */
  channels: z.optional(z.record(key, channel)),
  rules: z.optional(z.array(rule)),
  /** What a failing check does, by check; false for one that only shows in the report. `checks: false` for none at all. */
  checks: z.optional(z.union([z.literal(false), z.record(z.string(), checkOverride)])),
  /** What an event of Caretaker or of the app does, by its type ("job.missed"); false for one that is only recorded. */
  events: z.optional(z.record(topic, eventOverride)),
  /** What begins together is one incident. Default: at least 5 within "2 minutes". */
  storm: z.optional(alertStorm),
  /** How often an incident that nobody has acknowledged is told of again. Default "4 hours". */
  remindEvery: z.optional(remindEvery),
  /** How long a condition must be over before it is told as over. Default "5 minutes". */
  keepFiringFor: z.optional(hold),
})

export const alertRule = rule

interface Referring {
  alerts?: z.output<typeof alerts> | undefined
  health?: { checks?: Record<string, unknown> | undefined } | undefined
  metrics?: { gauges?: Record<string, { unit?: string | undefined }> | undefined } | undefined
}

/**
 * Channels of no kind or with another kind's settings, rules of one name, figures that there cannot be, and checks and components that
 * the policy does not have.
 */
export function referencesOfAlerts({
  alerts: policy,
  health,
  metrics,
}: Referring): { path: PropertyKey[]; message: string; input: unknown }[] {
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
  for (const [index, given] of (policy?.rules ?? []).entries())
    for (const { path, message } of issuesOfFigure(given, metrics?.gauges ?? {})) issue(['rules', index, ...path], message)
  // Without a list the checks follow from what is configured.
  const checks = health?.checks === undefined ? undefined : Object.keys(health.checks).map(canonicalName)
  if (checks !== undefined) for (const { path, message } of issuesOfComponents(policy, checks)) issue(path, message)
  for (const check of Object.keys(policy?.checks || {}))
    if (checks !== undefined && !checks.includes(canonicalName(check))) {
      const near = nearest(canonicalName(check), checks)
      issue(['checks', check], `expected a check of "health.checks"${near === undefined ? '' : `; did you mean "${near}"?`}`)
    }
  return issues
}

/** Components of Caretaker's own events, and of what it says of itself: they are there though no check and no rule is called so. */
const ownComponents = ['backup', 'drill', 'gdpr', 'webhooks', 'jobs', 'subscribers', 'retention', 'notifications', 'alerts']

/** Components that are written otherwise than the check they mean, and ones that there never will be. */
function* issuesOfComponents(policy: Referring['alerts'], checks: readonly string[]): Generator<{ path: PropertyKey[]; message: string }> {
  const rules = policy?.rules ?? []
  const events = Object.keys(policy?.events ?? {}).map((topic) => topic.toLowerCase().replaceAll(/[^a-z0-9_-]+/g, '-'))
  const known = new Set([...checks, ...rules.map(({ name: of, component }) => component ?? of), ...ownComponents, ...events])
  const misspelt = (given: string) => !checks.includes(given) && checks.includes(canonicalName(given))
  for (const [index, { component, dependsOn = [] }] of rules.entries()) {
    if (component !== undefined && misspelt(component))
      yield { path: ['rules', index, 'component'], message: `expected "${canonicalName(component)}", which the check goes by` }
    for (const [position, given] of dependsOn.entries()) {
      // Of a webhook's source, which may be in the policy of another deployment.
      if (known.has(given) || given.startsWith('webhooks-')) continue
      const near = misspelt(given) ? canonicalName(given) : nearest(given, known)
      yield {
        path: ['rules', index, 'dependsOn', position],
        message: `expected a check of "health.checks", or the component of a rule or an event${near === undefined ? '' : `; did you mean "${near}"?`}`,
      }
    }
  }
}

function isWithoutPassword(given: string): boolean {
  const url = URL.parse(given)
  return url === null || (url.username === '' && url.password === '')
}
