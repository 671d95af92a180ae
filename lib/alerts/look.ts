import { type AlertRule, canonicalName, durationMs } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError, hasCode } from '../platform/errors.ts'
import { channelNames } from './channels/names.ts'
import { activeRules, type Condition, checkConditions, checkRule, defaultOver, ruleConditions } from './conditions.ts'
import { severityAt } from './default-severity.ts'
import type { FailingChannel } from './queries.ts'
import type { AlertSources, CheckObservation, FigureQuery, Maintenance } from './sources.ts'

/** Everything there is to see in one moment. */
export interface Seen {
  conditions: Condition[]
  /** Null where health could not be told. */
  observations: readonly CheckObservation[] | null
  maintenance: readonly Maintenance[]
  /** Whether the alert is still one of the policy's, though nothing was seen of it now. */
  known(alert: { rule: string; source: string }): boolean
}

/** A channel that has taken nothing for so long is one that people should hear of elsewhere, ms. */
const failingMs = 10 * 60_000
const failuresToTell = 3
/** Tells of a rule that cannot be looked at. */
export const blindRule = 'rule-failing'
/** A rule that could not be looked at for so long is one that people should hear of, ms. */
const blindMs = 15 * 60_000

/** Looks at every rule, check and channel. What cannot be told of one is unknown, and does not keep the others from being looked at. */
export async function look(ctx: Context, sources: AlertSources, now: Date, failing: readonly FailingChannel[]): Promise<Seen> {
  const apart = async <T>(what: string, work: () => Promise<T>): Promise<T | null> => {
    try {
      return await work()
    } catch (error) {
      if (hasCode(error, 'database_unavailable')) throw error
      ctx.log.error({ err: error, what }, 'alerts could not look at something')
      // What the policy asks for and cannot be is no defect.
      if (!(error instanceof CaretakerError)) ctx.sentry.capture(error, { requestId: 'alerts', tags: { what } })
      return null
    }
  }
  const rules = activeRules(ctx.config)
  const observations = await apart('health', () => sources.health(ctx))
  const maintenance = (await apart('maintenance windows', () => sources.maintenanceAt(ctx, now))) ?? []
  const causes = [...new Set((observations ?? []).flatMap(({ cause }) => cause ?? []))]
  const words = new Map(await Promise.all(causes.map(async (cause) => [cause, await sources.words(cause)] as const)))
  const conditions: Condition[] =
    observations === null ? [] : checkConditions(ctx.config, observations, (cause) => words.get(cause) ?? cause)
  // One after the other: a policy of fifty rules must not take every connection.
  for (const rule of rules) {
    const figures = await apart(`rule ${rule.name}`, () => sources.measure(ctx, figureQuery(rule), now))
    if (figures !== null) conditions.push(...ruleConditions(ctx.config, rule, figures))
    else conditions.push(blindCondition(ctx, rule))
  }
  conditions.push(...channelConditions(ctx, failing, now))
  const checks = ctx.config.alerts?.checks
  return {
    conditions,
    observations,
    maintenance,
    known: ({ rule, source }) => {
      if (source === 'rule') return rules.some(({ name }) => name === rule)
      // A check that the report no longer has is gone; without the report nobody knows.
      return source === 'check' && observations === null && checks !== false && !isOff(checks, rule)
    },
  }
}

function isOff(checks: Readonly<Record<string, unknown>> | undefined, rule: string): boolean {
  return Object.entries(checks ?? {}).some(([name, override]) => override === false && checkRule(canonicalName(name)) === rule)
}

/** What a rule asks of the metrics. */
export function figureQuery(rule: AlertRule): FigureQuery {
  const { metric, stat, where, per, by, over } = rule
  return {
    metric,
    overSeconds: durationMs(over ?? defaultOver) / 1_000,
    ...(stat === undefined ? {} : { stat }),
    ...(where === undefined ? {} : { where }),
    ...(per === undefined ? {} : { per: { metric: per.metric, ...(per.where === undefined ? {} : { where: per.where }) } }),
    ...(by === undefined ? {} : { by }),
  }
}

/** A rule that cannot be looked at would never fire, and nobody would know. */
function blindCondition(ctx: Context, { name, notify }: AlertRule): Condition {
  return {
    rule: blindRule,
    labels: { rule: name },
    source: 'channel',
    component: 'alerts',
    severity: severityAt(ctx.config, 2),
    thresholds: { forMs: blindMs, keepFiringForMs: 0 },
    sample: () => true,
    value: null,
    cause: null,
    summary: `The rule "${name}" cannot be evaluated`,
    runbook: null,
    notify: notify ?? null,
    dependsOn: [],
  }
}

/** Who cannot be told on one channel is told so on the others. */
function channelConditions(ctx: Context, failing: readonly FailingChannel[], now: Date): Condition[] {
  const names = channelNames(ctx)
  const bad = failing.filter(
    ({ name, failures, failingSince }) =>
      names.includes(name) && failures >= failuresToTell && now.getTime() - failingSince.getTime() >= failingMs,
  )
  return bad.map(({ name, failures }) => ({
    rule: 'channel-failing',
    labels: { channel: name },
    source: 'channel',
    component: 'notifications',
    severity: severityAt(ctx.config, 1),
    thresholds: { forMs: 0, keepFiringForMs: 0 },
    sample: () => true,
    value: failures,
    cause: null,
    summary: `The channel "${name}" takes no messages`,
    runbook: null,
    notify: names.filter((other) => !bad.some((one) => one.name === other)),
    dependsOn: [],
  }))
}
