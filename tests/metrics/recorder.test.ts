import { describe, expect, it } from 'vitest'
import { json, type Route, route, serveRoutes } from '../../lib/http/index.ts'
import { measure } from '../../lib/metrics/index.ts'
import { createRecorder } from '../../lib/metrics/recorder.ts'
import type { Database } from '../../lib/platform/db.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { useTestDatabase } from '../support/database.ts'
import { at, type MetricsContext, metricsContext } from './support.ts'

const test = useTestDatabase()

const routes: Route[] = [
  route({
    methods: ['GET'],
    path: '/things/:id',
    summary: 'A thing',
    auth: 'public',
    limit: 'none',
    handle(_ctx, { params }) {
      if (params.id === 'broken') throw new CaretakerError('upstream_failed', 'It broke.')
      return Promise.resolve(json({ id: params.id }))
    },
  }),
  route({
    methods: ['GET'],
    path: '/health/live',
    summary: 'Lives',
    auth: 'public',
    limit: 'none',
    handle: () => Promise.resolve(json({})),
  }),
  route({ methods: ['POST'], path: '/api/worker', summary: 'Works', auth: 'cron', limit: 'none', handle: () => Promise.resolve(json({})) }),
  route({
    methods: ['GET'],
    path: '/private',
    summary: 'Closed',
    auth: { operator: ['admin'] },
    limit: 'none',
    handle: () => Promise.resolve(json({})),
  }),
]

/** The routes over a recorder, as a function has them. */
function instance(ctx: MetricsContext) {
  const recorder = createRecorder(() => ctx)
  const waiting: Promise<unknown>[] = []
  const handle = serveRoutes(
    routes,
    () => ctx,
    (answered, invocation) => recorder.record(answered, (work) => invocation.waitUntil(work)),
  )
  return {
    recorder,
    waiting,
    ask: (path: string, method = 'GET') =>
      handle(new Request(`https://caretaker.example${path}`, { method }), {
        clientAddress: '203.0.113.9',
        deadline: new Date(Date.now() + 10_000),
        waitUntil: (work) => void waiting.push(work),
      }),
    settle: async () => {
      await Promise.all(waiting)
      await recorder.flush()
    },
  }
}

async function counted(ctx: MetricsContext): Promise<Record<string, number | null>> {
  const found = await measure(ctx, { metric: 'http_requests_total', by: ['method', 'route', 'status'], overSeconds: 600 }, at('12:05:00'))
  return Object.fromEntries(found.map(({ labels, value }) => [Object.values(labels).join(' '), value]))
}

describe('recording', () => {
  it('counts answers, refusals and failures by pattern, never by URL', async () => {
    const ctx = metricsContext(test.db)
    const one = instance(ctx)
    await one.ask('/things/1')
    await one.ask('/things/2')
    await one.ask('/things/broken')
    await one.ask('/private')
    await one.ask('/nowhere/else')
    await one.ask('/things/3', 'POST')
    await one.ask('/things/3', 'BREW')
    await one.settle()
    expect(await counted(ctx)).toEqual({
      'GET /things/:id 200': 2,
      'GET /things/:id 502': 1,
      'GET /private 401': 1,
      'GET unmatched 404': 1,
      'POST unmatched 405': 1,
      'other unmatched 405': 1,
    })
    const [p95] = await measure(ctx, { metric: 'http.p95', overSeconds: 600 }, at('12:05:00'))
    expect(p95?.samples).toBe(7)
    const [memory] = await measure(ctx, { metric: 'process_resident_memory_bytes', overSeconds: 600 }, at('12:05:00'))
    expect(memory?.value).toBeGreaterThan(1_000_000)
    const [failed] = await measure(ctx, { metric: 'auth.failed', overSeconds: 600 }, at('12:05:00'))
    expect(failed?.value).toBe(1)
  })

  it('flushes at most once in two seconds, and adds what several instances counted', async () => {
    const ctx = metricsContext(test.db)
    let statements = 0
    const db: Database = Object.assign(Object.create(test.db) as Database, {
      execute: (sql: string, params?: readonly unknown[]) => {
        statements++
        return test.db.execute(sql, params)
      },
    })
    const one = instance(Object.assign(ctx, { db }))
    for (let n = 0; n < 20; n++) await one.ask('/things/1')
    expect(one.waiting).toHaveLength(1)
    await Promise.all(one.waiting)
    ctx.clock.advance(2_000)
    await one.ask('/things/1')
    expect(one.waiting).toHaveLength(2)
    await Promise.all(one.waiting)
    expect(statements).toBe(2)
    const two = instance(ctx)
    await Promise.all([...Array.from({ length: 5 }, () => two.ask('/things/1')), one.ask('/things/1')])
    await Promise.all([one.settle(), two.settle()])
    expect(await counted(ctx)).toEqual({ 'GET /things/:id 200': 27 })
  })

  it('keeps what could not be stored, and fails no request over it', async () => {
    const ctx = metricsContext(test.db)
    let gone = true
    const refuse = () => Promise.reject(new CaretakerError('database_unavailable', 'Gone.'))
    const db: Database = Object.assign(Object.create(test.db) as Database, {
      query: (sql: string, params?: readonly unknown[]) => (gone ? refuse() : test.db.query(sql, params)),
      execute: (sql: string, params?: readonly unknown[]) => (gone ? refuse() : test.db.execute(sql, params)),
    })
    const one = instance(Object.assign(ctx, { db }))
    expect((await one.ask('/things/1')).status).toBe(200)
    await one.settle()
    await one.ask('/things/1')
    gone = false
    await one.settle()
    expect(await counted(ctx)).toEqual({ 'GET /things/:id 200': 2 })
  })

  it('tells what nobody waits for apart: a worker that takes minutes is no slow answer', async () => {
    const ctx = metricsContext(test.db)
    const one = instance(ctx)
    await one.ask('/things/1')
    await one.ask('/api/worker', 'POST')
    await one.settle()
    const samples = async (where?: Record<string, string>) =>
      (await measure(ctx, { metric: 'http.p95', overSeconds: 600, ...(where === undefined ? {} : { where }) }, at('12:05:00')))[0]?.samples
    expect([await samples(), await samples({ service: 'caretaker-clock' })]).toEqual([1, 1])
  })

  it('leaves the database alone for a probe of liveness, and tells of it with the next request', async () => {
    const ctx = metricsContext(test.db)
    const one = instance(ctx)
    await one.ask('/health/live')
    expect(one.waiting).toHaveLength(0)
    await one.ask('/things/1')
    expect(one.waiting).toHaveLength(1)
    await one.settle()
    expect(await counted(ctx)).toEqual({ 'GET /health/live 200': 1, 'GET /things/:id 200': 1 })
  })
})
