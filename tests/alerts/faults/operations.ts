import { alertSources } from '../../../lib/alert-sources.ts'
import { evaluateAlerts, listIncidents, sendNotifications } from '../../../lib/alerts/index.ts'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { healthJob } from '../../../lib/health/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import type { Database } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import type { JobRun } from '../../../lib/platform/job.ts'
import { type PagerDutyState, pagerDutyApi, pagerDutyState } from '../../doubles/pagerduty.ts'
import { type SlackState, slackApi, slackState } from '../../doubles/slack.ts'
import { testContext } from '../../support/context.ts'

/*
 * What happens every minute, as the jobs do it: look at everything, judge it, tell people. The clock is the test's.
 */

const run = { params: {}, checkpoint: null, save: () => Promise.resolve(), shouldHandOver: () => false } as unknown as JobRun

/** Nothing waits between two messages: the clock is the test's. */
const noPause = { pause: () => Promise.resolve() }

/** The three jobs of a minute, each of which may be repeated. */
export const steps = {
  look: async (ctx: Context) => void (await healthJob(ctx, run)),
  judge: async (ctx: Context) => void (await evaluateAlerts(ctx, alertSources)),
  tell: async (ctx: Context) => void (await sendNotifications(ctx, noPause)),
}

export interface Operations {
  ctx: Context
  clock: ReturnType<typeof fixedClock>
  slack: SlackState
  pagerDuty: PagerDutyState
  /** The handlers of both doubles. */
  handlers: ReturnType<typeof slackApi>
  /** `count` minutes pass, and what each brings is done. */
  minutes(count?: number): Promise<void>
  /** "opened app", "resolved app": what was said on Slack, with the component. */
  said(): Promise<string[]>
}

/** The context of an operation; its clock and what it reaches are the caller's. */
export function operationsContext(
  db: Database,
  environment: string,
  routingKey: string,
  policy: Omit<PolicyInput, 'app'>,
  overrides: Partial<Context> = {},
): Context {
  return testContext(db, {
    config: defineConfig({
      app: { name: 'Shop' },
      alerts: { channels: { slack: {}, pagerduty: {} } },
      ...policy,
      health: { confirmAfterMs: 0, ...policy.health },
    }),
    env: readEnv({
      ENCRYPTION_KEY: 'ab'.repeat(32),
      CARETAKER_ENVIRONMENT: environment,
      PUBLIC_URL: 'https://ops.shop.test',
      SLACK_WEBHOOK_URL: `https://hooks.slack.com${slackState().path}`,
      PAGERDUTY_ROUTING_KEY: routingKey,
    }),
    deadline: new Date('2028-01-01T00:00:00Z'),
    ...overrides,
  })
}

let made = 0

/** An operation of its own: environment, clock and channels; over a database that may be shared. */
export function operations(db: Database, policy: Omit<PolicyInput, 'app'>, overrides: Partial<Context> = {}): Operations {
  const clock = fixedClock('2026-11-23T10:00:00Z')
  const slack = slackState()
  const pagerDuty = pagerDutyState()
  const ctx = operationsContext(db, `faults-${++made}`, pagerDuty.routingKey, policy, { clock, ...overrides })
  return {
    ctx,
    clock,
    slack,
    pagerDuty,
    handlers: [...slackApi(slack), ...pagerDutyApi(pagerDuty)],
    async minutes(count = 1) {
      for (let minute = 0; minute < count; minute++) {
        clock.advance(60_000)
        for (const step of Object.values(steps)) await step(ctx)
      }
    },
    async said() {
      const components = (await listIncidents(ctx, { limit: 1_000 })).map(({ title, component }) => [title, component ?? ''] as const)
      return slack.sent.map(({ text }) => {
        const word = /: (Still|Escalated|Again|Worse|Acknowledged|Resolved|Update): /.exec(text)?.[1]?.toLowerCase() ?? 'opened'
        return `${word} ${components.find(([title]) => text.endsWith(title))?.[1] ?? text}`
      })
    },
  }
}
