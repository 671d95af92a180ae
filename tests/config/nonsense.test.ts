import { expect, it } from 'vitest'
import { longestGapMs } from '../../lib/config/cron-fields.ts'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { knownMetrics as config, statsOfKind } from '../../lib/config/known-metrics.ts'
import { statFor } from '../../lib/metrics/evaluate.ts'
import { knownMetrics, metricStats } from '../../lib/metrics/index.ts'
import { ownMetrics } from '../../lib/metrics/own-metrics.ts'

/*
 * What an operator may write by mistake, and would find out about on the night when nobody is paged.
 */

const app = { name: 'Shop' }
const problems = (policy: unknown): string[] => {
  try {
    defineConfig({ app, ...(policy as object) })
    return []
  } catch (error) {
    return (error as { issues: { path: string; message: string }[] }).issues.map(({ path, message }) => `${path}: ${message}`)
  }
}

const rule = { name: 'errors', metric: 'http.error_rate', above: 0.05, severity: 'P1' }
const rules = (...changes: object[]) => ({ alerts: { rules: changes.map((change) => ({ ...rule, ...change })) } })
const health = { checks: { database: {}, 'object-store': {}, shop: { kind: 'url', url: 'https://shop.test' } } }
const gauges = { storage_used_ratio: { sql: 'select 1', unit: 'ratio' } }

it.each<[string, unknown, string]>([
  [
    'a reminder every second',
    { alerts: { remindEvery: '1 second' } },
    'alerts.remindEvery: found "1 second", expected at least "5 minutes"',
  ],
  ['a reminder a year', { alerts: { remindEvery: '400 days' } }, 'alerts.remindEvery: found "400 days", expected at most "30 days"'],
  ['a condition of 400 days', rules({ for: '400 days' }), 'alerts.rules.0.for: found "400 days", expected at most "30 days"'],
  ['figures of more than is kept', rules({ over: '3 years' }), 'alerts.rules.0.over: found "3 years", expected at most "400 days"'],
  [
    'an end that never comes',
    { alerts: { keepFiringFor: '2 years' } },
    'alerts.keepFiringFor: found "2 years", expected at most "30 days"',
  ],
  [
    'an event that is over before anybody looks',
    { alerts: { events: { 'order.stuck': { for: '10 seconds' } } } },
    'alerts.events.order.stuck.for: found "10 seconds", expected at least "5 minutes"',
  ],
  [
    'an event of no type',
    { alerts: { events: { 'order stuck': {} } } },
    'alerts.events.order stuck: not a usable name, expected the type of',
  ],
  [
    'a share in percent',
    rules({ above: 5 }),
    'alerts.rules.0.above: found 5, expected less than 1: "http.error_rate" is a share from 0 to 1',
  ],
  ['a share that is always over', rules({ above: -0.1 }), 'alerts.rules.0.above: found -0.1, expected 0 or more, or it would always fire'],
  [
    'a count below zero',
    rules({ metric: 'caretaker_jobs_waiting', above: undefined, below: 0 }),
    'alerts.rules.0.below: found 0, expected more than 0, or it would never fire',
  ],
  [
    'a recovery that never comes',
    rules({ metric: 'http.p95', above: 5, recover: -1 }),
    'alerts.rules.0.recover: found -1, expected 0 or more, or it would never clear',
  ],
  [
    'a ratio in percent',
    { metrics: { gauges }, ...rules({ metric: 'storage_used_ratio', above: 80 }) },
    'alerts.rules.0.above: found 80, expected a ratio: 80 % is 0.8',
  ],
  [
    'a metric that nobody has',
    rules({ metric: 'http.error_rte' }),
    'alerts.rules.0.metric: found "http.error_rte", expected one of http.requests, http.error_rate',
  ],
  ['a metric that can have no such name', rules({ metric: 'error rate' }), 'alerts.rules.0.metric: found "error rate", expected one of'],
  ['a divisor that nobody has', rules({ metric: 'a', per: { metric: 'b.c' } }), 'alerts.rules.0.per.metric: found "b.c", expected one of'],
  ['a figure of what is one', rules({ stat: 'max' }), 'alerts.rules.0.stat: found "max", expected nothing: "http.error_rate" says which'],
  [
    'a figure that a gauge does not have',
    { metrics: { gauges }, ...rules({ metric: 'storage_used_ratio', above: 0.8, stat: 'p95' }) },
    'alerts.rules.0.stat: found "p95", expected a figure that "storage_used_ratio" has (last, average, max, min, sum)',
  ],
  [
    'a share of a share',
    rules({ per: { metric: 'http.requests' } }),
    'alerts.rules.0.per: found {"metric":"http.requests"}, expected nothing',
  ],
  ['a split by nothing', rules({ by: [] }), 'alerts.rules.0.by: found [], expected at least one label'],
  [
    'a rule that depends on itself',
    rules({ component: 'shop', dependsOn: ['shop'] }),
    'alerts.rules.0.dependsOn: found ["shop"], expected',
  ],
  [
    'a rule that depends on a check that is not there',
    { health, ...rules({ dependsOn: ['databse'] }) },
    'alerts.rules.0.dependsOn.0: found "databse", expected a check of "health.checks", or the component of a rule or an event; did you mean "database"?',
  ],
  [
    "another spelling of a check, which would be another's incident",
    { health, ...rules({ component: 'object_store' }) },
    'alerts.rules.0.component: found "object_store", expected "object-store", which the check goes by',
  ],
  ['text with control characters', rules({ description: 'a\u001b[2Jb' }), 'alerts.rules.0.description: found '],
  ['text that turns its direction', { app: { name: 'Shop \u202efdp.exe' } }, 'app.name: found '],
  [
    'a password in an address',
    { alerts: { channels: { robot: { kind: 'webhook', url: 'https://me:secret@robot.test/' } } } },
    'alerts.channels.robot.url: found "https://…@robot.test/", expected an address without a user name or password',
  ],
  [
    'two addresses in one, which would be a header of its own',
    { alerts: { channels: { email: { to: ['a@shop.test,b@shop.test', 'c\r\nBcc: d@shop.test'] } } } },
    'alerts.channels.email.to.1: found "c\\r\\nBcc: d@shop.test", expected an e-mail address',
  ],
  [
    'the component of storms',
    rules({ component: 'several-dependencies' }),
    'alerts.rules.0.component: found "several-dependencies", expected another',
  ],
  [
    'the name of storms for a rule',
    rules({ name: 'several-dependencies' }),
    'alerts.rules.0.name: found "several-dependencies", expected another',
  ],
  [
    'the name of storms for a check',
    { health: { checks: { several_dependencies: {} } } },
    'health.checks.several_dependencies: not a usable name, expected another name',
  ],
  ['a zone that is none', { app: { name: 'Shop', timezone: 'Berlin' } }, 'app.timezone: found "Berlin", expected an IANA time zone'],
  [
    'a job in a zone that is none',
    { schedules: { backup: { cron: '0 2 * * *', timezone: 'Europe/Berln' } } },
    'schedules.backup.timezone: found "Europe/Berln", expected an IANA time zone',
  ],
  [
    'an escalation to nobody',
    { incidents: { severities: { P1: { escalateAfter: '1 hour', escalateTo: [] } } } },
    'incidents.severities.P1.escalateTo: found [], expected at least one channel',
  ],
  [
    'an escalation that never comes',
    { incidents: { severities: { P1: { escalateTo: ['slack'] } } } },
    'incidents.severities.P1.escalateTo: found ["slack"], expected "escalateAfter" or "respondWithin" beside it',
  ],
  [
    'an answer within a second',
    { incidents: { severities: { P1: { respondWithin: '1 second' } } } },
    'incidents.severities.P1.respondWithin: found "1 second", expected "1 minute" to "90 days"',
  ],
  [
    'two severities of one name',
    { incidents: { severities: { high: {}, High: {} } } },
    'incidents.severities: found {"high":{},"High":{}}, expected names that differ',
  ],
  [
    'a check in two spellings',
    { health: { checks: { object_store: {}, 'object-store': {} } } },
    'health.checks.object-store: found {}, expected another name: "object_store" before it is the same check',
  ],
  [
    'a check that no address can name',
    { health: { checks: { 'my shop/eu': {} } } },
    'health.checks.my shop/eu: not a usable name, expected letters',
  ],
  [
    'a status that no server answers',
    { health: { checks: { shop: { kind: 'url', expectStatus: 20 } } } },
    'health.checks.shop.expectStatus: found 20, expected at least 100',
  ],
  [
    'maintenance all day, every day',
    { health: { maintenance: [{ name: 'x', from: '02:00', to: '02:00' }] } },
    'health.maintenance.0.to: found "02:00", expected a window that ends before it comes again',
  ],
  [
    'maintenance that comes again before it ends',
    { health: { maintenance: [{ name: 'x', cron: '0 2 * * 0', duration: '1 week' }] } },
    'health.maintenance.0.duration: found "1 week", expected a window that ends before it comes again',
  ],
  [
    "a gauge by a name of Caretaker's own",
    { metrics: { gauges: { database_size_bytes: { sql: 'select 1' } } } },
    'metrics.gauges.database_size_bytes: found {"sql":"select 1"}, expected another name',
  ],
  [
    'a gauge once a year',
    { metrics: { gauges: { a: { sql: 'select 1', every: '1 year' } } } },
    'metrics.gauges.a.every: found "1 year", expected at most "31 days"',
  ],
  [
    'a figure of the dashboard that nobody has',
    { metrics: { dashboard: { performance: { error_rate: { metric: 'http.errors' } } } } },
    'metrics.dashboard.performance.error_rate.metric: found "http.errors", expected one of',
  ],
  [
    'a check in two groups',
    { health, status: { groups: { A: ['shop'], B: ['shop'] } } },
    'status.groups.B.0: found "shop", expected a check that is not in "A" already',
  ],
  ['a heading over nothing', { health, status: { groups: { A: [] } } }, 'status.groups.A: found [], expected at least one check'],
  [
    'a plot twice',
    { health, status: { plots: ['object-store', 'object_store'] } },
    'status.plots: found ["object-store","object_store"], expected each check once',
  ],
])('says of %s what is wrong with it', (_what, policy, line) => {
  expect(
    problems(policy).some((problem) => problem.startsWith(line)),
    problems(policy).join('\n') || 'it was taken',
  ).toBe(true)
})

it.each<[string, PolicyInput | Omit<PolicyInput, 'app'>]>([
  ['a share of a limit that may be exceeded', { metrics: { gauges }, ...rules({ metric: 'storage_used_ratio', above: 1.2 }) }],
  ['a metric that only the app tells', rules({ metric: 'orders_stuck_total', stat: 'per_second', below: 0.1, above: undefined })],
  ['a difference, which may be negative', rules({ metric: 'trust_delta_average', above: undefined, below: 0 })],
  ['a quotient of own metrics', rules({ metric: 'database_connections', per: { metric: 'database_connections_max' }, above: 0.95 })],
  ['components that no check and no rule has', { health, ...rules({ component: 'api', dependsOn: ['webhooks-stripe', 'backup'] }) }],
  ['a rule that depends on what another one speaks of', { health, ...rules({ component: 'api' }, { name: 'slow', dependsOn: ['api'] }) }],
  [
    "a rule that depends on an event of the app's",
    { health, alerts: { events: { 'order.stuck': {} }, ...rules({ dependsOn: ['order-stuck'] }).alerts } },
  ],
  ['a whole day of the week', { health: { maintenance: [{ name: 'x', days: ['sun'], from: '00:00', to: '00:00' }] } }],
  ['a long window once a year', { health: { maintenance: [{ name: 'x', cron: '0 0 24 12 *', duration: '10 days' }] } }],
  ['a severity that nobody is told of', { incidents: { severities: { P4: { respondWithin: 'next business day', notify: [] } } } }],
  ['names in any script', { app: { name: 'متجر 店 🛒\u200d' }, ...rules({ description: 'نسبة الخطأ' }) }],
  ['nobody to tell', { alerts: { channels: {}, checks: false } }],
])('takes %s', (_what, policy) => {
  expect(problems(policy)).toEqual([])
})

it('knows of each metric of its own what lib/metrics knows', () => {
  expect(Object.keys(config).sort()).toEqual(knownMetrics({ app }).sort())
  for (const [name, { kind }] of Object.entries(ownMetrics)) {
    const has = metricStats.filter((stat) => {
      try {
        return statFor(name, kind, stat) === stat
      } catch {
        return false
      }
    })
    expect([name, [...(config[name]?.stats ?? [])].sort()]).toEqual([name, has.sort()])
    expect([...statsOfKind[kind]].sort()).toEqual(has.sort())
  }
})

it.each([
  ['* * * * *', 60_000],
  ['*/15 * * * *', 15 * 60_000],
  ['50 * * * *', 3_600_000],
  ['0 2 * * *', 86_400_000],
  ['0 9-17 * * *', 16 * 3_600_000],
  ['0 2 * * mon-fri', 3 * 86_400_000],
  ['0 2 * * 7', 7 * 86_400_000],
  // The first and the fifteenth, and every Sunday.
  ['0 2 1,15 * 0', 7 * 86_400_000],
  ['0 0 24 12 *', 366 * 86_400_000],
  ['0 0 30 2 *', Number.POSITIVE_INFINITY],
])('finds the longest time in which "%s" does not come', (cron, ms) => {
  expect(longestGapMs(cron)).toBe(ms)
})
