import { type AlertRule, canonicalName, durationMs, type Policy } from '../config/index.ts'
import { severityAt } from './default-severity.ts'
import { judge } from './judge.ts'
import type { CheckObservation, Figure } from './sources.ts'
import type { Sample, Thresholds } from './step.ts'

/** Something that may be wrong, as it is looked at now. */
export interface Condition {
  /** Also the name that silences and overrides go by. */
  rule: string
  labels: Record<string, string>
  source: 'rule' | 'check' | 'channel'
  component: string
  severity: string
  thresholds: Thresholds
  /** Whether it is wrong now, given whether its alert fires already. */
  sample(firing: boolean): Sample
  value: number | null
  cause: string | null
  summary: string
  runbook: string | null
  notify: readonly string[] | null
  /** Components whose failure explains it, beside those its component stands on. */
  dependsOn: readonly string[]
}

export const defaultKeepFiringFor = '5 minutes'
export const defaultOver = '5 minutes'

/** The rules of the policy that are evaluated. */
export function activeRules(policy: Policy): AlertRule[] {
  return (policy.alerts?.rules ?? []).filter((rule) => rule.enabled !== false)
}

export function keepFiringForMs(policy: Policy, rule?: Pick<AlertRule, 'keepFiringFor'>): number {
  return durationMs(rule?.keepFiringFor ?? policy.alerts?.keepFiringFor ?? defaultKeepFiringFor)
}

export function thresholdsOf(policy: Policy, rule: AlertRule): Thresholds {
  return { forMs: rule.for === undefined ? 0 : durationMs(rule.for), keepFiringForMs: keepFiringForMs(policy, rule) }
}

/** A rule over the figures that were measured for it: one condition a label set. */
export function ruleConditions(policy: Policy, rule: AlertRule, figures: readonly Figure[]): Condition[] {
  return figures.map((figure) => ({
    rule: rule.name,
    labels: figure.labels,
    source: 'rule',
    component: rule.component ?? rule.name,
    severity: rule.severity,
    thresholds: thresholdsOf(policy, rule),
    sample: (firing) => judge(rule, figure, firing),
    value: figure.value,
    cause: null,
    summary: ruleSummary(rule, figure),
    runbook: rule.runbook ?? null,
    notify: rule.notify ?? null,
    dependsOn: rule.dependsOn ?? [],
  }))
}

/** "Errors of the API (region=eu): 0.072, above 0.05 over 5 minutes". */
export function ruleSummary(rule: AlertRule, { labels, value }: Pick<Figure, 'labels' | 'value'>): string {
  const which = Object.entries(labels).map(([name, of]) => `${name}=${of}`)
  const subject = (rule.description ?? rule.name).replace(/[.\s]+$/, '')
  const limit = rule.above === undefined ? `below ${rule.below}` : `above ${rule.above}`
  const over = rule.stat === 'last' ? '' : ` over ${rule.over ?? defaultOver}`
  return `${subject}${which.length === 0 ? '' : ` (${which.join(', ')})`}: ${value === null ? 'no figure' : shown(value)}, ${limit}${over}`
}

function shown(value: number): string {
  return String(Number(value.toPrecision(4)))
}

/** What a check is called among rules. */
export const checkRule = (check: string) => `check-${check}`

/** Every check of the report is a rule that nobody has to write: it is wrong when it is down. */
export function checkConditions(policy: Policy, observations: readonly CheckObservation[], words: (cause: string) => string): Condition[] {
  if (policy.alerts?.checks === false) return []
  const overrides = new Map(Object.entries(policy.alerts?.checks ?? {}).map(([name, override]) => [canonicalName(name), override]))
  return observations.flatMap((observed): Condition[] => {
    const override = overrides.get(observed.check)
    if (override === false) return []
    const cause = observed.status === 'down' ? (observed.cause ?? 'internal') : null
    return [
      {
        rule: checkRule(observed.check),
        labels: {},
        source: 'check',
        component: observed.component,
        severity: override?.severity ?? severityAt(policy, checkRank(observed.critical, cause)),
        thresholds: { forMs: override?.for === undefined ? 0 : durationMs(override.for), keepFiringForMs: keepFiringForMs(policy) },
        // Under maintenance it is expected to be down: neither news nor a recovery.
        sample: () => (observed.status === 'down' ? true : observed.status === 'up' ? false : null),
        value: null,
        cause,
        summary: cause === null ? observed.check : `${observed.check}: ${words(cause)}`,
        runbook: override?.runbook ?? null,
        notify: override?.notify ?? null,
        dependsOn: [],
      },
    ]
  })
}

/** 0 is the most severe. By what is wrong, where that says more than which check it is. */
const rankOfCause: Readonly<Record<string, number>> = {
  certificate_urgent: 1,
  certificate_expiring: 2,
  backup_overdue: 1,
  backup_failed: 1,
  drill_failed: 1,
  drill_overdue: 2,
  gdpr_overdue: 1,
  gdpr_undescribed: 3,
  rls_off: 1,
  queue_stuck: 1,
  job_failed: 2,
  dead_letters: 2,
  rate_limited: 3,
  misconfigured: 3,
}

function checkRank(critical: boolean, cause: string | null): number {
  if (critical) return 0
  return (cause === null ? undefined : rankOfCause[cause]) ?? 2
}
