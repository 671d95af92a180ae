import { describe, expect, it } from 'vitest'
import type { Command, Output } from '../../cli/command.ts'
import { commands as logs } from '../../cli/commands/logs.ts'
import { commands as metrics } from '../../cli/commands/metrics.ts'
import { commands as reports } from '../../cli/commands/report.ts'
import { useTestDatabase } from '../support/database.ts'
import { at, type MetricsContext, metricsContext, request, tell } from './support.ts'

const test = useTestDatabase()

async function run(commands: readonly Command[], name: string, ctx: MetricsContext, flags: Record<string, string> = {}) {
  const results: { value: unknown; human: string }[] = []
  const out: Output = {
    json: false,
    result: (value, human) => void results.push({ value, human }),
    line: () => undefined,
    progress: () => undefined,
  }
  await commands.find((one) => one.name === name)?.run({ args: [], flags, out, context: () => Promise.resolve(ctx) })
  return results[0] ?? { value: undefined, human: '' }
}

describe('metrics performance', () => {
  it('shows each route, the most called first, and says when nothing was measured', async () => {
    const ctx = metricsContext(test.db)
    expect((await run(metrics, 'metrics performance', ctx)).human).toContain('Nothing was measured since 2026-11-20T12:00Z')
    const route = (service: string, path: string) => ({ service, method: 'GET', route: path })
    const duration = { name: 'http_request_duration_seconds', kind: 'histogram' as const }
    await tell(ctx, request(200, route('caretaker', '/health')), [1, 1, 1, 1], at('11:00:00'))
    await tell(ctx, { ...duration, labels: { ...route('caretaker', '/health'), status: '200' } }, [0.01, 0.02, 0.03, 0.04], at('11:00:00'))
    await tell(ctx, { ...request(500, { method: 'GET', route: '/plans' }), source: 'app' }, [1], at('11:10:00'))
    await tell(ctx, { ...request(200, { method: 'GET', route: '/plans' }), source: 'app' }, [1], at('11:10:00'))
    const { value, human } = await run(metrics, 'metrics performance', ctx, { since: '2h' })
    expect(value).toMatchObject({
      from: '2026-11-21T10:00:00.000Z',
      routes: [
        { service: 'caretaker', method: 'GET', route: '/health', requests: 4, errorRate: 0, max: 0.04 },
        { service: 'app', route: '/plans', requests: 2, errorRate: 0.5, p50: null },
      ],
      overall: { 'http.error_rate': 0.5 },
    })
    expect(human).toMatch(/caretaker +GET +\/health +4 +0\.0 % +\d+ ms/)
    expect(human).toMatch(/app +GET +\/plans +2 +50\.0 % +– +– +–/)
    await expect(run(metrics, 'metrics performance', ctx, { since: 'yesterday' })).rejects.toThrow(
      '--since: found "yesterday", expected a duration such as 24h',
    )
  })
})

describe('logs errors', () => {
  it('lists what went wrong, the newest first, with the app’s own where the policy says how', async () => {
    await test.db.execute('create table app_errors (at timestamptz, message text, route text)')
    await test.db.execute(`insert into app_errors values ($1, 'a model answered nothing', '/plans'), ($2, 'long ago', '/plans')`, [
      at('11:40:00'),
      '2026-11-01T00:00:00Z',
    ])
    const ctx = metricsContext(test.db, {
      policy: { metrics: { errors: { sql: 'select at, message, route as what from app_errors where at >= :since' } } },
    })
    await test.db.execute(
      `insert into caretaker.runs (job, slot, state, actor, error, finished_at)
       values ('backup', $1::timestamptz, 'failed', '{"type":"system"}', '{"code":"timeout","detail":"The deadline passed."}', $1::timestamptz)`,
      [at('11:50:00')],
    )
    await test.db.execute(
      `insert into caretaker.health_changes (environment, check_name, at, status, cause) values ($1, 'stripe', $2, 'down', 'timeout')`,
      [ctx.environment, at('11:45:00')],
    )
    await tell(ctx, request(503, { service: 'caretaker' }), [1, 1], at('11:10:00'))
    await tell(ctx, { name: 'log_lines_total', source: 'logs', labels: { service: 'vercel', level: 'error' } }, [5], at('11:10:00'))
    await tell(ctx, { name: 'log_lines_total', source: 'logs', labels: { service: 'vercel', level: 'info' } }, [50], at('11:10:00'))
    const { value, human } = await run(logs, 'logs errors', ctx)
    expect(value).toMatchObject({
      entries: [
        { source: 'job', what: 'backup', message: 'The deadline passed.' },
        { source: 'health', what: 'stripe', message: 'timeout' },
        { source: 'app', what: '/plans', message: 'a model answered nothing' },
      ],
      requests: [{ service: 'caretaker', route: '/health', status: '503', count: 2 }],
      logs: [{ service: 'vercel', level: 'error', count: 5 }],
    })
    expect(human).toContain('2026-11-21 11:50:00  job')
    expect((await run(logs, 'logs errors', ctx, { limit: '1' })).value).toMatchObject({ entries: [{ source: 'job' }] })
    await expect(run(logs, 'logs errors', ctx, { limit: '0' })).rejects.toThrow('--limit: found "0"')
    const broken = metricsContext(test.db, { policy: { metrics: { errors: { sql: 'select * from nowhere' } } } })
    const note = await run(logs, 'logs errors', broken, { since: '1m' })
    expect(note.human).toMatch(/^No errors since .*\n\n! metrics\.errors\.sql: .*does not exist/)
  })
})

describe('report usage', () => {
  it('sets a period beside the one before', async () => {
    const ctx = metricsContext(test.db)
    const counter = { name: 'suggestions_generated_total', source: 'app' as const, help: 'Suggestions made.' }
    const gauge = { name: 'storage_used_ratio', kind: 'gauge' as const, source: 'gauge' as const, unit: 'ratio' }
    await tell(ctx, counter, [5], at('08:30:00'))
    await tell(ctx, counter, [7, 1], at('11:30:00'))
    await tell(ctx, gauge, [0.5], at('08:59:00'))
    await tell(ctx, gauge, [0.625], at('11:59:00'))
    const { value, human } = await run(reports, 'report usage', ctx, { since: '3h' })
    expect(value).toMatchObject({
      metrics: [
        { metric: 'suggestions_generated_total', value: 8, before: 5 },
        { metric: 'storage_used_ratio', value: 0.625, before: 0.5 },
      ],
      activeUsers: { daily: null },
    })
    expect(human).toMatch(/storage_used_ratio +gauge +62\.5 % +50\.0 %/)
    expect(human).toContain('Active people   – in a day')
  })
})
