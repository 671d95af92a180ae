import { expect, it } from 'vitest'
import { listAlerts, listIncidents } from '../../lib/alerts/index.ts'
import { findJob, jobs } from '../../lib/catalog.ts'
import { ingestMetrics } from '../../lib/metrics/index.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { useTestDatabase } from '../support/database.ts'
import { metricsContext } from './support.ts'

const test = useTestDatabase()

it('what the app tells fires a rule over the named metrics, and its end clears it', async () => {
  const ctx = metricsContext(test.db, {
    policy: {
      health: { checks: {} },
      alerts: {
        channels: { slack: {} },
        rules: [
          { name: 'errors', metric: 'http.error_rate', above: 0.05, for: '5 minutes', minimum: 20, severity: 'P1', component: 'api' },
          { name: 'slow', metric: 'http.p95', above: 5, severity: 'P2', component: 'api' },
          { name: 'guessing', metric: 'auth.failed', above: 10, severity: 'P1', component: 'auth' },
        ],
      },
    },
    env: { SLACK_WEBHOOK_URL: 'https://hooks.slack.example/services/T0/B0/x' },
  })
  const run: JobRun = {
    id: 'run',
    job: 'alerts',
    slot: ctx.clock.now(),
    attempt: 1,
    params: {},
    checkpoint: null,
    save: () => Promise.resolve(),
    shouldHandOver: () => false,
    callForHelp: () => Promise.resolve(),
  }
  const job = findJob(jobs(ctx.config), 'alerts')
  /** A minute of the app, and then the tick. */
  const minute = async (answers: Record<string, number>) => {
    await ingestMetrics(ctx, {
      metrics: Object.entries(answers).map(([status, value]) => ({
        name: 'http_requests_total',
        type: 'counter' as const,
        value,
        labels: { method: 'GET', route: '/plans', status },
      })),
    })
    ctx.clock.advance(60_000)
    await job.run(ctx, run)
    return (await listAlerts(ctx)).filter(({ source }) => source === 'rule').map(({ rule, state }) => `${rule} ${state}`)
  }
  expect(await minute({ 200: 100 })).toEqual([])
  expect(await minute({ 200: 50, 500: 50, 401: 4 })).toEqual(['errors pending'])
  for (let n = 0; n < 3; n++) await minute({ 200: 50, 500: 50 })
  expect(await minute({ 200: 50, 500: 50, 403: 9 })).toEqual(expect.arrayContaining(['errors pending', 'guessing firing']))
  expect(await minute({ 200: 50, 500: 50 })).toEqual(expect.arrayContaining(['errors firing', 'guessing firing']))
  expect((await listIncidents(ctx)).map(({ component, severity }) => [component, severity]).sort()).toEqual([
    ['api', 'P1'],
    ['auth', 'P1'],
  ])
  let left: string[] = []
  for (let n = 0; n < 14; n++) left = await minute({ 200: 100 })
  expect(left).toEqual([])
})
