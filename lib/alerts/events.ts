import { type AlertOverride, durationMs, type Policy } from '../config/index.ts'
import { severityAt } from './default-severity.ts'

/*
 * Events that somebody has to know of. An event is a moment, an alert lasts: until the opposite event, until the job has ended well,
 * until the check that looks at the same thing finds it well, or for a time.
 */

type Payload = Readonly<Record<string, unknown>>

interface EventRule {
  /** 0 is the most severe. */
  rank: number
  component: string | ((payload: Payload) => string)
  /** The field of the payload that tells its alerts apart. */
  key?: string
  summary(payload: Payload): string
  /** How long it lasts by itself. */
  lastsMs: number
  /** Ends when the job of the payload has ended well since. */
  untilJobDone?: true
  /** The check of its component, where there is one, looks at the same thing: it says when it is over. */
  checked?: true
  cause?(payload: Payload): string | undefined
}

const hour = 3_600_000
const day = 24 * hour

/** Which component a job keeps well: the check that looks at it, so that both are one incident. */
function componentOfJob({ job }: Payload): string {
  const name = String(job)
  if (name === 'backup-verify') return 'drill'
  if (name.startsWith('backup')) return 'backup'
  if (name.startsWith('gdpr')) return 'gdpr'
  if (name.startsWith('webhooks')) return 'webhooks'
  return 'jobs'
}

const jobRule = (rank: number, words: string): EventRule => ({
  rank,
  component: componentOfJob,
  key: 'job',
  summary: ({ job }) => `Job ${named(job)} ${words}`,
  lastsMs: 2 * day,
  untilJobDone: true,
})

const codeOf = ({ error, code, reason }: Payload): string | undefined => {
  const found = typeof error === 'object' && error !== null && 'code' in error ? error.code : (code ?? reason)
  return typeof found === 'string' && /^[a-z0-9_]{1,60}$/.test(found) ? found : undefined
}

export const eventRules: Readonly<Record<string, EventRule>> = {
  'job.failed': { ...jobRule(2, 'failed'), cause: codeOf, checked: true },
  'job.missed': jobRule(2, 'was missed'),
  'job.overdue': jobRule(2, 'waits for a worker'),
  'job.overran': jobRule(3, 'takes longer than it may'),
  'job.abandoned': jobRule(3, 'was left by its worker'),
  'gdpr.overdue': {
    rank: 1,
    component: 'gdpr',
    key: 'request',
    summary: () => 'A request of a person is overdue',
    lastsMs: 7 * day,
    checked: true,
  },
  'gdpr.due_soon': { rank: 3, component: 'gdpr', key: 'request', summary: () => 'A request of a person is due soon', lastsMs: 2 * day },
  'gdpr.residue': { rank: 1, component: 'gdpr', key: 'request', summary: () => 'Something was left of an erased person', lastsMs: day },
  'gdpr.kept_held': { rank: 3, component: 'gdpr', summary: () => 'Rows whose time is over could not be erased', lastsMs: day },
  'gdpr.lint_failed': {
    rank: 3,
    component: 'gdpr',
    summary: () => 'Personal data may be in tables that the policy does not describe',
    lastsMs: day,
    checked: true,
  },
  'webhooks.silent': {
    rank: 2,
    component: ({ source }) => `webhooks-${slug(source)}`,
    key: 'source',
    summary: ({ source }) => `Nothing comes from ${named(source)} that usually would`,
    lastsMs: 3 * day,
  },
  'webhooks.dead': {
    rank: 2,
    component: 'webhooks',
    summary: () => 'Webhook events could not be applied and were set aside',
    lastsMs: day,
    cause: codeOf,
    checked: true,
  },
  'webhooks.signatures_refused': {
    rank: 3,
    component: ({ source }) => `webhooks-${slug(source)}`,
    key: 'source',
    summary: ({ source }) => `Many webhooks of ${named(source)} are refused: their signatures do not match`,
    lastsMs: hour,
  },
  'webhooks.subscriber_gone': {
    rank: 3,
    component: 'subscribers',
    key: 'subscriber',
    summary: ({ subscriber }) => `The subscriber ${named(subscriber)} wants nothing any more`,
    lastsMs: day,
  },
  'webhooks.delivery_dead': {
    rank: 3,
    component: 'subscribers',
    key: 'subscriber',
    summary: ({ subscriber }) => `Messages to the subscriber ${named(subscriber)} were given up`,
    lastsMs: day,
    cause: codeOf,
  },
  'backup.untrusted': { rank: 1, component: 'backup', summary: () => 'There are backups that nobody vouches for', lastsMs: day },
  'backup.signer_added': {
    rank: 2,
    component: 'backup',
    summary: () => 'Backups are signed with a key that was not known before',
    lastsMs: day,
  },
  'backup.increments_stopped': {
    rank: 1,
    component: 'backup',
    summary: () => 'Increments have stopped: what was written since the last backup could be lost',
    lastsMs: day,
    cause: codeOf,
  },
  'backup.increments_lost': {
    rank: 2,
    component: 'backup',
    summary: () => 'A stretch of increments is lost: moments in it cannot be restored',
    lastsMs: day,
    cause: codeOf,
  },
  'backup.snapshot_lost': { rank: 3, component: 'backup', summary: () => 'A backup lost its snapshot and began again', lastsMs: 6 * hour },
  'retention.deferred': {
    rank: 3,
    component: 'retention',
    key: 'rule',
    summary: ({ rule }) => `The retention rule ${named(rule)} was put off`,
    lastsMs: day,
    cause: codeOf,
  },
  'alerts.notification_dead': {
    rank: 1,
    component: 'notifications',
    key: 'channel',
    summary: ({ channel }) => `A message to the channel ${named(channel)} was given up`,
    lastsMs: day,
    cause: codeOf,
  },
}

/** Events that end another one's alert, with the same key. */
const opposites: Readonly<Record<string, string>> = { 'webhooks.heard': 'webhooks.silent' }

/** An event of the outbox, as far as alerts go. */
export interface OutboxEvent {
  topic: string
  payload: Payload
  at: Date
}

export interface EventAlert {
  rule: string
  labels: Record<string, string>
  component: string
  severity: string
  summary: string
  cause: string | null
  runbook: string | null
  notify: readonly string[] | null
  at: Date
  expiresAt: Date
}

export type EventMeaning = { fires: EventAlert } | { ends: { rule: string; labels: Record<string, string> } } | null

/** What an event means; null for one that nobody has to know of. An event of the app's own means something if the policy says so. */
export function meaningOf(policy: Policy, { topic, payload, at }: OutboxEvent): EventMeaning {
  const opposite = Object.hasOwn(opposites, topic) ? opposites[topic] : undefined
  if (opposite !== undefined) return { ends: { rule: opposite, labels: labelsOf(eventRules[opposite], payload) } }
  const overrides = policy.alerts?.events ?? {}
  const override: AlertOverride | undefined = Object.hasOwn(overrides, topic) ? overrides[topic] : undefined
  if (override === false || isBriefGap(topic, payload)) return null
  const rule = Object.hasOwn(eventRules, topic) ? eventRules[topic] : override === undefined ? undefined : ofTheApp(topic)
  if (rule === undefined) return null
  const rank = topic === 'job.failed' && componentOfJob(payload) === 'backup' ? 1 : rule.rank
  return {
    fires: {
      rule: topic,
      labels: labelsOf(rule, payload),
      component: typeof rule.component === 'string' ? rule.component : rule.component(payload),
      severity: override?.severity ?? severityAt(policy, rank),
      summary: rule.summary(payload),
      cause: rule.cause?.(payload) ?? null,
      runbook: override?.runbook ?? null,
      notify: override?.notify ?? null,
      at,
      expiresAt: new Date(at.getTime() + (override?.for === undefined ? rule.lastsMs : durationMs(override.for))),
    },
  }
}

/** What looks every minute misses a minute whenever its host pauses: it has looked again since, and who watches tells of longer gaps. */
function isBriefGap(topic: string, { job, slots }: Payload): boolean {
  return topic === 'job.missed' && (job === 'health' || job === 'metrics') && typeof slots === 'number' && slots < briefSlots
}

const briefSlots = 15

/** Whether the alert of an event is over before its time. */
export function isOver(
  alert: { rule: string; labels: Readonly<Record<string, string>>; since: Date },
  seen: { jobDone: (job: string) => Date | undefined; check: { status: string; at: Date } | undefined },
): boolean {
  const rule = Object.hasOwn(eventRules, alert.rule) ? eventRules[alert.rule] : undefined
  if (rule === undefined) return false
  const done = rule.untilJobDone === true ? seen.jobDone(alert.labels.job ?? '') : undefined
  if (done !== undefined && done > alert.since) return true
  // A check that was made a moment before the event does not know of it.
  return rule.checked === true && seen.check?.status === 'up' && seen.check.at.getTime() > alert.since.getTime()
}

/** The names of events that mean something unless the policy says otherwise. */
export const knownEvents: readonly string[] = [...Object.keys(eventRules), ...Object.keys(opposites)]

/** The names of all events that may mean something. */
export function meaningfulEvents(policy: Policy): string[] {
  return [...new Set([...knownEvents, ...Object.keys(policy.alerts?.events ?? {})])]
}

function ofTheApp(topic: string): EventRule {
  return { rank: 2, component: slug(topic), summary: () => `Event ${topic}`, lastsMs: hour }
}

function labelsOf(rule: EventRule | undefined, payload: Payload): Record<string, string> {
  if (rule?.key === undefined) return {}
  const value = payload[rule.key]
  return typeof value === 'string' && value !== '' ? { [rule.key]: shortened(value) } : {}
}

function named(value: unknown): string {
  return typeof value === 'string' && value !== '' ? `"${shortened(value)}"` : 'without a name'
}

/** Half a character at the end is none: PostgreSQL would not take it. */
function shortened(value: string): string {
  return value.slice(0, 100).toWellFormed()
}

function slug(value: unknown): string {
  return String(value)
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]+/g, '-')
    .slice(0, 63)
}
