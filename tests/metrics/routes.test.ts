import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { keyHash } from '../../lib/http/index.ts'
import { measure } from '../../lib/metrics/index.ts'
import { metrics } from '../../lib/routes/metrics.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'
import { parsePrometheus } from './prometheus-text.ts'
import { at, type MetricsContext, metricsContext, request, tell } from './support.ts'

const test = useTestDatabase()
const secret = randomBytes(20).toString('hex')

const context = (given: Parameters<typeof metricsContext>[1] = {}) =>
  metricsContext(test.db, { ...given, env: { METRICS_KEY: secret, ...given.env } })
const ask = (ctx: MetricsContext, path: string, init: RequestInit & { key?: string | null } = {}) => {
  const { key = secret, ...rest } = init
  const headers = new Headers(rest.headers)
  if (key !== null) headers.set('authorization', `Bearer ${key}`)
  return testServer(metrics(), ctx).request(path, { ...rest, headers })
}
const ingest = async (ctx: MetricsContext, body: unknown) => {
  const response = await ask(ctx, '/metrics/ingest', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  return {
    status: response.status,
    body: (await response.json()) as Record<string, unknown> & { issues?: { path: string; message: string }[] },
  }
}
const sum = async (ctx: MetricsContext, metric: string, more = {}) =>
  (await measure(ctx, { metric, overSeconds: 600, ...more }, new Date(ctx.clock.now().getTime() + 1)))[0]?.value

async function operatorKey(role: string): Promise<string> {
  const key = `ck_${randomBytes(32).toString('base64url')}`
  await test.db.execute('insert into caretaker.api_keys (name, role, hash) values ($1, $1, $2)', [role, keyHash(key)])
  return key
}

describe('access', () => {
  it.each(['/metrics', '/metrics/dashboard', '/metrics/ingest'])('%s takes its own key or an operator, and nobody else', async (path) => {
    const ctx = context()
    const init = path.endsWith('ingest') ? { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' } : {}
    const status = async (key: string | null, to = ctx) => (await ask(to, path, { ...init, key })).status
    expect(await status(null)).toBe(401)
    expect(await status(`${secret}x`)).toBe(503)
    expect(await status('ck_unknown')).toBe(401)
    expect(await status(secret)).toBe(path.endsWith('ingest') ? 422 : 200)
    expect(await status(await operatorKey('developer'))).toBe(path.endsWith('ingest') ? 422 : 200)
    expect(await status(await operatorKey('viewer'))).toBe(path.endsWith('ingest') ? 403 : 200)
    // Not set, it opens nothing.
    expect(await status(secret, metricsContext(test.db))).toBe(503)
  })
})

describe('a database without the tables', () => {
  const bare = useTestDatabase({ template: 'template0' })

  it.each([
    ['GET', '/metrics', undefined],
    ['POST', '/metrics/ingest', JSON.stringify({ metrics: [{ name: 'a_total', type: 'counter', value: 1 }] })],
  ])('answers %s %s with what to do', async (method, path, body) => {
    const ctx = metricsContext(bare.db, { env: { METRICS_KEY: secret } })
    const response = await ask(ctx, path, {
      method,
      ...(body === undefined ? {} : { body, headers: { 'content-type': 'application/json' } }),
    })
    expect([response.status, ((await response.json()) as { detail: string }).detail]).toEqual([
      503,
      'This database has no tables for metrics yet. Run `caretaker db migrate` on it.',
    ])
  })
})

const wide = (value: string, count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`l${n}`, value]))

describe('ingest', () => {
  it('counts counters, gauges and observations of the app', async () => {
    const ctx = context()
    expect(
      await ingest(ctx, {
        metrics: [
          { name: 'suggestions_generated_total', type: 'counter', value: 3, labels: { trigger_type: 'voice' }, help: 'Suggestions made.' },
          { name: 'suggestions_generated_total', type: 'counter', value: 2, labels: { trigger_type: 'schedule' } },
          { name: 'token_usage_ratio', type: 'gauge', value: 0.72 },
          { name: 'ai_inference_seconds', type: 'histogram', values: [0.4, 0.5, 2.5], unit: 'seconds' },
          { ...request(500), type: 'counter', value: 1, at: '2026-11-21T11:58:00Z' },
          { ...request(200), type: 'counter', value: 9, at: '2026-11-21T13:58:00+02:00' },
        ],
      }),
    ).toEqual({ status: 202, body: { accepted: 6, duplicate: false } })
    expect(await sum(ctx, 'suggestions_generated_total')).toBe(5)
    expect(await sum(ctx, 'suggestions_generated_total', { where: { trigger_type: 'voice' } })).toBe(3)
    expect(await sum(ctx, 'token_usage_ratio')).toBe(0.72)
    expect(await sum(ctx, 'ai_inference_seconds', { stat: 'max' })).toBe(2.5)
    expect(await sum(ctx, 'http.error_rate')).toBe(0.1)
  })

  it('counts a batch once, however often and by however many it is sent', async () => {
    const ctx = context()
    const batch = { id: 'b-1', metrics: [{ name: 'sync_failures_total', type: 'counter', value: 1 }] }
    const answers = await Promise.all(Array.from({ length: 4 }, () => ingest(ctx, batch)))
    expect(answers.map(({ body }) => body.duplicate).sort()).toEqual([false, true, true, true])
    expect(await sum(ctx, 'sync_failures_total')).toBe(1)
  })

  it('takes all of a request or nothing, and names each item that is wrong', async () => {
    const ctx = context({ policy: { metrics: { gauges: { storage_bytes: { sql: 'select 1' } } } } })
    const { status, body } = await ingest(ctx, {
      metrics: [
        { name: 'good_total', type: 'counter', value: 1 },
        { name: 'caretaker_jobs_waiting', type: 'gauge', value: 1 },
        { name: 'http_requests_total', type: 'gauge', value: 1 },
        { name: 'bad_total', type: 'counter', value: -1 },
        { name: 'who_total', type: 'counter', value: 1, labels: { user: 'ada@example.org' } },
        { name: 'none_seconds', type: 'histogram' },
        { name: 'old_total', type: 'counter', value: 1, at: '2026-11-20T12:00:00Z' },
        { name: 'mine_total', type: 'counter', value: 1, labels: { service: 'caretaker' } },
        { name: 'storage_bytes', type: 'gauge', value: 1 },
        { name: 'le_total', type: 'counter', value: 1, labels: { le: '5' } },
      ],
    })
    expect(status).toBe(422)
    expect(body.issues?.map(({ path }) => path)).toEqual([
      'metrics.1.name',
      'metrics.2.type',
      'metrics.3.value',
      'metrics.4.labels.user',
      'metrics.5.values',
      'metrics.6.at',
      'metrics.7.labels.service',
      'metrics.8.name',
      'metrics.9.labels.le',
    ])
    expect(JSON.stringify(body)).not.toContain('ada@')
    expect(await sum(ctx, 'good_total')).toBeNull()
    for (const [wrong, path] of [
      [{ metrics: [] }, 'metrics'],
      [{ metrics: [{ name: 'a-b', type: 'counter', value: 1 }] }, 'metrics.0.name'],
      [{ metrics: [{ name: 'ab', type: 'summary', value: 1 }] }, 'metrics.0.type'],
      [{ metrics: [{ name: 'ab', type: 'counter', value: '1' }] }, 'metrics.0.value'],
      [{ metrics: [{ name: 'ab', type: 'counter', value: 1, tags: {} }] }, 'metrics.0'],
      [{ metrics: [{ name: 'ab', type: 'gauge', value: 1, labels: { a: 'x'.repeat(101) } }] }, 'metrics.0.labels.a'],
      [{ metrics: [{ name: 'ab', type: 'gauge', value: 1, labels: wide('\u4e00'.repeat(100), 7) }] }, 'metrics.0.labels'],
    ] as const)
      expect((await ingest(ctx, wrong)).body.issues?.map((issue) => issue.path)).toEqual([path])
  })

  it('keeps a name of one kind', async () => {
    const ctx = context()
    await ingest(ctx, { metrics: [{ name: 'queue_depth', type: 'gauge', value: 1 }] })
    const { status, body } = await ingest(ctx, { metrics: [{ name: 'queue_depth', type: 'counter', value: 1, labels: { a: 'b' } }] })
    expect([status, body.detail]).toEqual([409, 'The metric "queue_depth" is a gauge; found a counter. Use another name.'])
    // Of the same labels, too, and within one request.
    expect((await ingest(ctx, { metrics: [{ name: 'queue_depth', type: 'counter', value: 1 }] })).status).toBe(409)
    const both = { name: 'depth', value: 1, labels: { a: 'b' } }
    const twice = await ingest(ctx, {
      metrics: [
        { ...both, type: 'gauge' },
        { ...both, type: 'counter' },
      ],
    })
    expect(twice.body.issues).toMatchObject([
      { path: 'metrics.1.type', message: 'found "counter", expected "gauge", as "depth" is before it' },
    ])
    expect((await ingest(ctx, { metrics: [{ name: '__proto__', type: 'gauge', value: 1 }] })).status).toBe(202)
  })

  it('holds a gauge for as long as it is told now', async () => {
    const ctx = context()
    await ingest(ctx, { metrics: [{ name: 'seldom', type: 'gauge', value: 1, at: '2026-11-21T11:02:00Z' }] })
    expect(await sum(ctx, 'seldom')).toBeNull()
    await ingest(ctx, { metrics: [{ name: 'seldom', type: 'gauge', value: 2, everySeconds: 3_600, at: '2026-11-21T11:03:00Z' }] })
    expect(await sum(ctx, 'seldom')).toBe(2)
  })

  it('takes so many names and no more: one with an id in it would make a new one with every request', async () => {
    const ctx = context()
    const metrics = (from: number, to: number) =>
      Array.from({ length: to - from }, (_, n) => ({ name: `by_id_${from + n}`, type: 'counter', value: 1 }))
    expect((await ingest(ctx, { metrics: metrics(0, 499) })).status).toBe(202)
    const refused = await ingest(ctx, { metrics: [...metrics(499, 501), ...metrics(0, 1)] })
    expect(refused.status).toBe(409)
    expect(refused.body.detail).toMatch(/"by_id_499" is new, and the app tells 499 names already; 500 is the most/)
    expect(await sum(ctx, 'by_id_0')).toBe(1)
    expect((await ingest(ctx, { metrics: metrics(498, 500) })).status).toBe(202)
    expect(await sum(ctx, 'by_id_499')).toBe(1)
  })

  it('tells further label sets as other, says so, and keeps shares of errors right', async () => {
    const ctx = context({ policy: { metrics: { mostSeries: 3 } } })
    const metricsOf = (n: number) => ({ ...request(n % 2 === 0 ? 200 : 500, { route: `/users/${n}` }), type: 'counter', value: 1 })
    const { body } = await ingest(ctx, { metrics: Array.from({ length: 20 }, (_, n) => metricsOf(n)) })
    expect(body.other).toEqual({ http_requests_total: 17 })
    expect(await sum(ctx, 'http.error_rate')).toBe(0.5)
    expect(await sum(ctx, 'http_requests_total')).toBe(20)
    const routes = await measure(ctx, { metric: 'http_requests_total', by: ['route'], overSeconds: 600 }, at('12:00:01'))
    expect(routes.map(({ labels, value }) => [labels.route, value])).toEqual([
      ['/users/0', 1],
      ['/users/1', 1],
      ['/users/2', 1],
      ['other', 17],
    ])
  })
})

describe('GET /metrics', () => {
  it('is Prometheus text: escaped, typed once, histograms cumulative, totals only ever growing', async () => {
    const ctx = context()
    const odd = 'a "quoted" \\ back\nslash'
    await tell(ctx, request(200, { service: 'caretaker' }), [1, 1], at('11:59:00'))
    await tell(
      ctx,
      { name: 'suggestions_generated_total', source: 'app', labels: { trigger_type: odd }, help: 'Made.\nAll of them.' },
      [4],
      at('11:59:00'),
    )
    await tell(
      ctx,
      { name: 'http_request_duration_seconds', kind: 'histogram', unit: 'seconds', labels: { route: '/a' } },
      [0.02, 0.2, 0.2, 70],
      at('11:59:00'),
    )
    await tell(ctx, { name: 'database_pool_waiting_count', kind: 'gauge' }, [12], at('11:59:00'))
    await tell(ctx, { name: 'stale', kind: 'gauge' }, [1], at('11:00:00'))
    const response = await ask(ctx, '/metrics')
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(response.headers.get('cache-control')).toBe('no-store')
    const families = parsePrometheus(await response.text())
    expect([...families.keys()]).toEqual([
      'caretaker_build_info',
      'database_pool_waiting_count',
      'http_request_duration_seconds',
      'http_requests_total',
      'suggestions_generated_total',
    ])
    expect(families.get('suggestions_generated_total')).toMatchObject({
      type: 'counter',
      help: 'Made.\nAll of them.',
      samples: [{ labels: { trigger_type: odd }, value: 4 }],
    })
    expect(families.get('database_pool_waiting_count')?.samples).toEqual([{ name: 'database_pool_waiting_count', labels: {}, value: 12 }])
    const histogram = families.get('http_request_duration_seconds')?.samples ?? []
    const upTo = (le: string) => histogram.find(({ labels }) => labels.le === le)?.value
    expect([upTo('0.01'), upTo('0.025'), upTo('0.25'), upTo('60'), upTo('+Inf')]).toEqual([0, 1, 3, 3, 4])
    // Over the turn of an hour, and when minutes are gone, what ever was stays.
    const { rollUp } = await import('../../lib/metrics/roll-up.ts')
    await rollUp(ctx)
    await tell(ctx, request(200, { service: 'caretaker' }), [1], at('12:00:00'))
    const later = parsePrometheus(await (await ask(ctx, '/metrics')).text())
    expect(later.get('http_requests_total')?.samples.map(({ value }) => value)).toEqual([3])
    expect(later.get('http_request_duration_seconds')?.samples.find(({ name }) => name.endsWith('_count'))?.value).toBe(4)
  })
})

describe('GET /metrics/dashboard', () => {
  const fields = {
    activeUsers: ['daily', 'weekly', 'monthly'],
    performance: ['p50_response_time', 'p95_response_time', 'p99_response_time', 'error_rate'],
    usage: ['tasks_created', 'tasks_completed', 'completion_rate', 'avg_session_duration'],
    health: ['uptime', 'cpu_usage', 'memory_usage', 'database_connections'],
    ai: ['inference_time', 'parse_accuracy', 'cache_hit_rate', 'fallback_rate'],
  }

  it('has exactly its fields, and null for what is not measured', async () => {
    const response = await ask(context(), '/metrics/dashboard')
    const body = (await response.json()) as Record<string, Record<string, number | null>>
    expect(Object.fromEntries(Object.entries(body).map(([part, values]) => [part, Object.keys(values)]))).toEqual(fields)
    expect(
      Object.values(body)
        .flatMap((values) => Object.values(values))
        .filter((value) => value !== null),
    ).toEqual([])
  })

  it('takes the policy’s word for what is measured how, and leaves out what fails', async () => {
    const ctx = context({
      policy: {
        metrics: {
          dashboard: {
            activeUsers: { daily: { sql: 'select 7' }, weekly: { sql: 'select count(*) from no_such_table' } },
            usage: { completion_rate: { metric: 'done_total', per: { metric: 'made_total' } } },
            ai: { inference_time: { metric: 'ai_inference_seconds', stat: 'p50', over: '1 hour' } },
          },
        },
      },
    })
    await tell(ctx, { name: 'done_total' }, [3], at('11:30:00'))
    await tell(ctx, { name: 'made_total' }, [4], at('11:30:00'))
    await tell(ctx, { name: 'ai_inference_seconds', kind: 'histogram' }, [2, 2, 2], at('11:30:00'))
    await tell(ctx, { name: 'http_request_duration_seconds', kind: 'histogram' }, [0.2], at('11:30:00'))
    await tell(ctx, request(200), [1], at('11:30:00'))
    await tell(ctx, { name: 'database_connections', kind: 'gauge' }, [9], at('11:59:00'))
    expect(await (await ask(ctx, '/metrics/dashboard')).json()).toMatchObject({
      activeUsers: { daily: 7, weekly: null, monthly: null },
      performance: { p50_response_time: 200, error_rate: 0 },
      usage: { completion_rate: 0.75, tasks_created: null },
      health: { database_connections: 9 },
      ai: { inference_time: 2, parse_accuracy: null },
    })
  })
})
