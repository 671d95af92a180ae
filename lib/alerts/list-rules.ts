import type { Context } from '../platform/context.ts'
import { checkConditions, defaultOver } from './conditions.ts'
import { eventRules, meaningOf } from './events.ts'
import type { AlertSources } from './sources.ts'

/** One thing that is watched, as people see it. */
export interface RuleInfo {
  name: string
  source: 'rule' | 'check' | 'event'
  /** "http.error_rate above 0.05 over 5 minutes, for 5 minutes". */
  condition: string
  component: string
  severity: string
  /** Null: those of the severity. */
  notify: readonly string[] | null
  enabled: boolean
}

/** Everything that is watched: the policy's rules, every check, and the events that mean something. */
export async function listRules(ctx: Context, sources: AlertSources): Promise<RuleInfo[]> {
  const { config } = ctx
  const rules = (config.alerts?.rules ?? []).map((rule): RuleInfo => {
    const limit = rule.above === undefined ? `below ${rule.below}` : `above ${rule.above}`
    const stat = rule.stat === undefined ? '' : ` (${rule.stat})`
    const per = rule.per === undefined ? '' : ` per ${rule.per.metric}`
    return {
      name: rule.name,
      source: 'rule',
      condition: `${rule.metric}${stat}${per} ${limit} over ${rule.over ?? defaultOver}${rule.for === undefined ? '' : `, for ${rule.for}`}`,
      component: rule.component ?? rule.name,
      severity: rule.severity,
      notify: rule.notify ?? null,
      enabled: rule.enabled !== false,
    }
  })
  const words = (cause: string) => cause
  const checks = checkConditions(config, await sources.health(ctx), words).map(
    ({ rule, component, severity, notify, thresholds }): RuleInfo => {
      const wait = thresholds.forMs === 0 ? '' : `, for ${thresholds.forMs / 60_000} minutes`
      return {
        name: rule,
        source: 'check',
        condition: `the check fails, and again when looked at twice${wait}`,
        component,
        severity,
        notify,
        enabled: true,
      }
    },
  )
  const topics = [...new Set([...Object.keys(eventRules), ...Object.keys(config.alerts?.events ?? {})])]
  const events = topics.flatMap((topic): RuleInfo[] => {
    const meaning = meaningOf(config, { topic, payload: { source: 'SOURCE' }, at: ctx.clock.now() })
    if (meaning === null || !('fires' in meaning)) return []
    const { component, severity, notify } = meaning.fires
    return [{ name: topic, source: 'event', condition: 'it happens', component, severity, notify, enabled: true }]
  })
  return [...rules, ...checks, ...events]
}
