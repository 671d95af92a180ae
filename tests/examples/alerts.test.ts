import { expect, it } from 'vitest'
import { severityMatrix } from '../../lib/alerts/index.ts'
import { knownMetrics } from '../../lib/metrics/index.ts'
import { policies } from './policies.ts'

const matrixOf = (app: string) =>
  severityMatrix(policies[app] ?? {}).map(({ name, respondWithin, escalateAfter, impact }) => [name, respondWithin, escalateAfter, impact])

it("the runbooks' severities, which are also the default", () => {
  const asked = [
    ['P0', '15 minutes', 'immediately', 'critical'],
    ['P1', '30 minutes', '1 hour', 'major'],
    ['P2', '2 hours', '4 hours', 'minor'],
    ['P3', '24 hours', '48 hours', 'none'],
  ]
  expect(matrixOf('runbooks')).toEqual(asked)
  expect(matrixOf('canai')).toEqual(asked)
  expect(policies.runbooks?.incidents?.checklist).toHaveLength(8)
})

it("the productivity app's levels", () => {
  expect(matrixOf('productivity')).toEqual([
    ['P1_Critical', '15 minutes', 'immediately', 'critical'],
    ['P2_High', '1 hour', 'immediately', 'major'],
    ['P3_Medium', '4 hours', null, 'minor'],
    ['P4_Low', 'next business day', null, 'none'],
  ])
  expect(severityMatrix(policies.productivity ?? {}).map(({ notify, escalateTo }) => [notify, escalateTo])).toEqual([
    [['slack'], ['pagerduty']],
    [['slack'], ['team-lead']],
    [['slack'], []],
    [[], []],
  ])
})

const thresholdsOf = (app: string) =>
  (policies[app]?.alerts?.rules ?? []).map(({ metric, above, below, for: held, severity }) =>
    [metric, above === undefined ? `< ${below}` : `> ${above}`, held ?? 'at once', severity].join(', '),
  )

it.each(Object.keys(policies))('the rules of %s look at figures that somebody tells', (app) => {
  const policy = policies[app]
  if (policy === undefined) throw new Error(app)
  const known = knownMetrics(policy)
  const rules = policy.alerts?.rules ?? []
  expect(rules.length).toBeGreaterThan(0)
  expect(
    rules.flatMap(({ metric, per }) => [metric, ...(per === undefined ? [] : [per.metric])]).filter((name) => !known.includes(name)),
  ).toEqual([])
})

it('the thresholds are those of the documents', () => {
  expect(thresholdsOf('runbooks')).toEqual([
    'error_ratio, > 0.05, 5 minutes, P0',
    'response_p95_seconds, > 5, at once, P1',
    'token_usage_ratio, > 0.9, at once, P1',
    'failed_sign_ins, > 10, at once, P1',
    'database_connections, > 0.95, at once, P0',
    'error_ratio, > 0.01, 10 minutes, P2',
    'response_p95_seconds, > 2, at once, P3',
    'token_usage_ratio, > 0.7, at once, P3',
    'disk_used_ratio, > 0.8, at once, P2',
    'process_resident_memory_bytes, > 912680550.4, 5 minutes, P2',
  ])
  expect(thresholdsOf('productivity')).toEqual([
    'http.error_rate, > 0.01, at once, P1_Critical',
    'http.p95, > 2, at once, P2_High',
    'task_completion_ratio, < 0.5, 1 hour, P3_Medium',
    'storage_used_ratio, > 0.8, at once, P3_Medium',
    'sync_failures_last_hour, > 10, at once, P2_High',
    'ai_timeout_ratio, > 0.05, at once, P4_Low',
  ])
  expect(thresholdsOf('catchup')).toEqual([
    'http.error_rate, > 0.05, 5 minutes, P1',
    'database_pool_waiting_count, > 10, 2 minutes, P0',
    'process_resident_memory_bytes, > 2000000000, 5 minutes, P2',
  ])
})
