import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { resolveCheck } from '../../lib/health/check.ts'
import {
  checkAnswer,
  checkOne,
  healthAnswer,
  healthJob,
  live,
  planHealth,
  ready,
  reportHealth,
  toHealthJson,
} from '../../lib/health/index.ts'
import { overall } from '../../lib/health/report.ts'
import { systemClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { type Database, openDatabase } from '../../lib/platform/db.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { freePort } from '../../local/postgres.ts'
import { stripeApi, stripeState } from '../doubles/stripe.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { anotherInstance, healthContext } from './support.ts'

const stripeEnv = { STRIPE_SECRET_KEY: stripeState().key }

describe('the report', () => {
  const test = useTestDatabase()

  it('has the shape that is promised', async () => {
    const { report } = await reportHealth(healthContext(test.db, { env: { CARETAKER_ENVIRONMENT: 'staging' } }))
    expect(report).toEqual({
      status: 'healthy',
      timestamp: '2026-11-21T12:00:00.000Z',
      version: '3.2.1',
      uptime: expect.any(Number),
      environment: 'staging',
      services: {
        database: { status: 'healthy', response_time: expect.any(Number), critical: true },
        rls: { status: 'healthy', response_time: expect.any(Number), critical: false },
      },
      performance: {
        memory: expect.objectContaining({ rss: expect.any(Number) }),
        cpu: { user: expect.any(Number), system: expect.any(Number) },
        activeConnections: expect.any(Number),
      },
    })
  })

  it('checks what the policy and the environment have where no checks are listed', async () => {
    const ctx = healthContext(test.db, {
      env: { SUPABASE_URL: 'https://project.supabase.test' },
      policy: { backup: { store: 'file:///tmp/x' } },
    })
    const { report } = await reportHealth(ctx)
    expect(Object.keys(report.services)).toEqual(['database', 'supabase', 'object_store', 'rls'])
    // A service key and a store that are missing are no failure.
    expect(report.services.supabase?.status).toBe('not_configured')
    expect(report.status).toBe('healthy')
  })

  it.each([
    [['healthy', true], ['healthy', false], 'healthy'],
    [['healthy', true], ['not_configured', false], 'healthy'],
    [['not_configured', true], ['healthy', false], 'healthy'],
    [['healthy', true], ['unhealthy', false], 'degraded'],
    [['unhealthy', true], ['healthy', false], 'unhealthy'],
    [['unhealthy', true], ['unhealthy', false], 'unhealthy'],
  ] as const)('critical %j and another %j is %s', (first, second, expected) => {
    expect(overall([first, second].map(([status, critical]) => ({ status, critical })))).toBe(expected)
  })

  it('answers 503 for the whole only where a critical check fails, and 503 for a single check that does not pass', () => {
    expect(healthAnswer('healthy')).toEqual({ status: 200, headers: { 'cache-control': 'public, max-age=5, s-maxage=15' } })
    expect(healthAnswer('degraded').status).toBe(200)
    expect(healthAnswer('unhealthy')).toEqual({ status: 503, headers: { 'cache-control': 'no-store', 'retry-after': '10' } })
    expect(checkAnswer({ status: 'unhealthy' }).status).toBe(503)
    expect(checkAnswer({ status: 'not_configured' }).status).toBe(503)
  })

  it("leaks neither hosts nor names nor a driver's words", async () => {
    doubles.use(...stripeApi({ ...stripeState(), failWith: 500 }))
    await test.db.execute('create table public.secret_project (n int); grant select on public.secret_project to public')
    const ctx = healthContext(test.db, {
      health: { checks: { database: {}, stripe: {}, rls: {}, page: { kind: 'url', url: 'http://127.0.0.1:1/internal' } } },
      env: stripeEnv,
    })
    const { report, results } = await reportHealth(ctx)
    await test.db.execute('drop table public.secret_project')
    expect(report.status).toBe('degraded')
    expect(JSON.stringify([report, toHealthJson(report)])).not.toMatch(/127\.0\.0\.1|secret_project|ECONNREFUSED|STRIPE|sk_test|internal/)
    expect(results.find((result) => result.name === 'rls')?.measures).toMatchObject({ names: ['public.secret_project'] })
  })

  it('becomes application/health+json', async () => {
    doubles.use(...stripeApi({ ...stripeState(), failWith: 500 }))
    const ctx = healthContext(test.db, { health: { checks: { database: {}, stripe: {}, supabase: {} } }, env: stripeEnv })
    const time = '2026-11-21T12:00:00.000Z'
    expect(toHealthJson((await reportHealth(ctx)).report)).toEqual({
      status: 'warn',
      version: '3',
      releaseId: '3.2.1',
      checks: {
        'database:responseTime': [
          { componentType: 'datastore', observedValue: expect.any(Number), observedUnit: 'ms', status: 'pass', time },
        ],
        'stripe:responseTime': [
          { componentType: 'component', observedValue: expect.any(Number), observedUnit: 'ms', status: 'warn', time, output: 'http_5xx' },
        ],
        'supabase:responseTime': [{ componentType: 'component', status: 'warn', time, output: 'not_configured' }],
        uptime: [{ componentType: 'system', observedValue: expect.any(Number), observedUnit: 's', status: 'pass', time }],
        'memory:utilization': [{ componentType: 'system', observedValue: expect.any(Number), observedUnit: 'bytes', status: 'pass', time }],
      },
    })
  })

  it('takes as long as the slowest check, not as all of them', async () => {
    const waiting: (() => void)[] = []
    // Nobody is answered before all have asked: one check after another would wait for ever.
    const together: typeof fetch = () =>
      new Promise((resolve) => {
        waiting.push(() => resolve(new Response('ok')))
        if (waiting.length === 6) for (const answer of waiting) answer()
      })
    const checks = Object.fromEntries(['a', 'b', 'c', 'd', 'e', 'f'].map((name) => [name, { kind: 'url', url: `https://${name}.test/` }]))
    const ctx = healthContext(test.db, { health: { checks }, overrides: { clock: systemClock, fetch: together } })
    expect((await reportHealth(ctx, { fresh: true })).report.status).toBe('healthy')
  })

  it('answers for one check, listed or not, and names the nearest for one that does not exist', async () => {
    doubles.use(...stripeApi(stripeState()))
    const ctx = healthContext(test.db, {
      env: stripeEnv,
      health: { checks: { database: {}, main_page: { kind: 'url', url: `http://127.0.0.1:${await freePort()}/` } } },
    })
    expect(await checkOne(ctx, 'database')).toMatchObject({ name: 'database', status: 'healthy' })
    expect(await checkOne(ctx, 'main-page')).toMatchObject({ name: 'main_page', cause: 'refused' })
    expect(await checkOne(ctx, 'stripe')).toMatchObject({ name: 'stripe', status: 'healthy' })
    expect(await checkOne(ctx, 'object_store')).toMatchObject({ status: 'not_configured' })
    await expect(checkOne(ctx, 'strip')).rejects.toMatchObject({ code: 'not_found', detail: expect.stringContaining('"stripe"') })
    await expect(checkOne(ctx, 'constructor')).rejects.toMatchObject({ code: 'not_found' })
    await expect(reportHealth(ctx, { only: ['nothing-like-it'] })).rejects.toMatchObject({ code: 'not_found' })
  })

  it('is ready when what is critical passes, and touches nothing else', async () => {
    const ctx = healthContext(test.db, {
      health: { checks: { database: {}, page: { kind: 'url', url: 'https://never.test/' } } },
      overrides: { fetch: () => expect.fail('a third party was asked') },
    })
    expect((await ready(ctx)).report).toMatchObject({ status: 'healthy', services: { database: { status: 'healthy' } } })
  })

  it('is alive without touching anything', () => {
    const touched = new Proxy({}, { get: () => expect.fail('something was touched') })
    const { clock, env } = healthContext(test.db)
    expect(live({ ...(touched as Context), clock, env })).toMatchObject({ status: 'healthy', version: '3.2.1' })
  })

  it('plans without asking anybody, and names what is wrong with the policy', async () => {
    const ctx = healthContext(test.db, {
      health: { checks: { databse: {}, page: { kind: 'url' }, live: { kind: 'url', url: 'https://a.test' }, stripe: {} } },
      overrides: { fetch: () => expect.fail('somebody was asked') },
    })
    const lines = await planHealth(ctx)
    expect(lines.map((line) => line.warnings?.join())).toEqual([
      expect.stringContaining('did you mean "database"?'),
      expect.stringContaining('needs a url'),
      expect.stringContaining('/health/live'),
      undefined,
    ])
  })

  it('is a job that ends well whatever it finds', async () => {
    doubles.use(...stripeApi({ ...stripeState(), failWith: 500 }))
    const ctx = healthContext(test.db, {
      health: { checks: { database: {}, stripe: {}, supabase: {} }, confirmAfterMs: 0 },
      env: stripeEnv,
    })
    await test.db.execute(
      `insert into caretaker.health_snapshots (scope, report, taken_at) values ('check:gone', '{}', now() - interval '8 days')`,
    )
    expect(await healthJob(ctx, {} as JobRun)).toEqual({
      status: 'done',
      result: {
        status: 'degraded',
        healthy: 1,
        unhealthy: 1,
        notConfigured: 1,
        failing: ['stripe: http_5xx'],
        changed: ['database: up', 'stripe: down', 'supabase: unknown'],
      },
    })
    expect(await test.db.query(`select from caretaker.health_snapshots where scope = 'check:gone'`)).toEqual([])
  })
})

describe('the snapshot', () => {
  const test = useTestDatabase()
  const age = (seconds: number) =>
    test.db.execute(`update caretaker.health_snapshots set taken_at = taken_at - make_interval(secs => $1)`, [seconds])
  let sequence = 0

  /** Counts how often the address is asked for; every test has an address, and so a snapshot, of its own. */
  function counted(overrides: Partial<Context> = {}) {
    const state = { asked: 0, status: 200 }
    const fetch = async () => {
      state.asked++
      await new Promise((resolve) => setTimeout(resolve, 30))
      return new Response('x', { status: state.status })
    }
    const ctx = healthContext(test.db, {
      health: { checks: { page: { kind: 'url', url: `https://page-${++sequence}.test/` } } },
      overrides: { fetch, ...overrides },
    })
    return { ctx, state }
  }

  it('lets 500 callers in five instances touch a dependency once', async () => {
    const { ctx, state } = counted()
    const instances = Array.from({ length: 5 }, () => anotherInstance(ctx))
    const reports = await Promise.all(Array.from({ length: 500 }, (_, n) => reportHealth(instances[n % 5] as Context)))
    expect(state.asked).toBe(1)
    expect(reports.every(({ report }) => report.status === 'healthy')).toBe(true)
  })

  it('is looked at anew once it is too old, by one of the instances', async () => {
    const { ctx, state } = counted()
    await reportHealth(ctx)
    await age(9)
    ctx.clock.advance(9_000)
    await reportHealth(ctx)
    await reportHealth(anotherInstance(ctx))
    expect(state.asked).toBe(1)
    await age(1)
    ctx.clock.advance(1_000)
    await Promise.all([reportHealth(ctx), reportHealth(anotherInstance(ctx)), reportHealth(anotherInstance(ctx))])
    expect(state.asked).toBe(2)
  })

  it('is waited for while another instance renews it, where there is nothing recent', async () => {
    const { ctx, state } = counted()
    await reportHealth(ctx)
    await age(3_600)
    state.status = 500
    const answers = await Promise.all(
      [anotherInstance(ctx), anotherInstance(ctx), anotherInstance(ctx)].map((instance) => reportHealth(instance)),
    )
    expect(answers.map(({ report }) => report.status)).toEqual(['degraded', 'degraded', 'degraded'])
    expect(state.asked).toBe(2)
  })

  it('is taken over from an instance that died while renewing it', async () => {
    const { ctx, state } = counted()
    await reportHealth(ctx)
    await age(60)
    await test.db.execute(`update caretaker.health_snapshots set lease_until = now() - interval '1 second'`)
    await reportHealth(anotherInstance(ctx))
    expect(state.asked).toBe(2)
  })

  it('is renewed although it says it is from the future', async () => {
    const { ctx, state } = counted()
    await reportHealth(ctx)
    await age(-3_600)
    await reportHealth(anotherInstance(ctx))
    expect(state.asked).toBe(2)
  })

  it('is passed over, and renewed for the others, when a fresh look is asked for', async () => {
    const { ctx, state } = counted()
    await reportHealth(ctx)
    state.status = 500
    expect((await reportHealth(ctx, { fresh: true })).report.status).toBe('degraded')
    expect((await reportHealth(anotherInstance(ctx))).report.status).toBe('degraded')
    expect(state.asked).toBe(2)
  })

  it("is not another environment's, nor another policy's", async () => {
    const { ctx, state } = counted()
    await reportHealth(ctx)
    await reportHealth({ ...anotherInstance(ctx), env: { ...ctx.env, CARETAKER_ENVIRONMENT: 'preview' } })
    expect(state.asked).toBe(2)
    const checks = { page: { ...ctx.config.health?.checks?.page, expectStatus: 201 } }
    await reportHealth({ ...anotherInstance(ctx), config: { ...ctx.config, health: { checks } } })
    expect(state.asked).toBe(3)
  })

  it('does not keep as a failure that the caller went away', async () => {
    const { ctx } = counted({ signal: AbortSignal.abort() })
    expect((await reportHealth(ctx)).report.status).toBe('healthy')
  })

  it('is done without where the database takes no writes', async () => {
    const readOnly = openDatabase({ sessionUrl: `${test.url}?options=-c%20default_transaction_read_only%3Don` })
    const { ctx, state } = counted({ db: readOnly })
    expect((await reportHealth(ctx)).report.status).toBe('healthy')
    await reportHealth(ctx)
    expect(state.asked).toBe(1)
    await readOnly.close()
  })

  it('is done without where the database has never seen Caretaker', async () => {
    const bare = openDatabase({ sessionUrl: test.url.replace(test.name, 'template1') })
    const { ctx, state } = counted({ db: bare })
    expect((await reportHealth(ctx)).report.status).toBe('healthy')
    await reportHealth(ctx)
    expect(state.asked).toBe(1)
    await bare.close()
  })
})

describe('without a database', () => {
  const opened: { db?: Database; server?: Server; sockets: Socket[] } = { sockets: [] }
  afterEach(async () => {
    // First the server: a pool that is still connecting to a silent one takes its whole time limit to close.
    for (const socket of opened.sockets.splice(0)) socket.destroy()
    opened.server?.close()
    await opened.db?.close()
    delete opened.db
    delete opened.server
  })

  async function silentServer(): Promise<number> {
    const server = createServer((socket) => opened.sockets.push(socket))
    opened.server = server
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return (server.address() as { port: number }).port
  }

  it.each([
    ['refuses', () => Promise.resolve(1), 'refused'],
    ['hangs', silentServer, 'timeout'],
  ])('that %s, the others are checked, and once for all callers of the instance', async (_how, port, cause) => {
    const db = openDatabase({ sessionUrl: `postgres://someone:hunter2hunter2@127.0.0.1:${await port()}/none` })
    opened.db = db
    let asked = 0
    const fetch = async () => {
      asked++
      return new Response('x')
    }
    // What is refused is refused at once, which on a busy machine may be a while.
    const timeoutMs = cause === 'timeout' ? 300 : 20_000
    const checks = { database: { timeoutMs }, rls: { timeoutMs }, page: { kind: 'url', url: 'https://page.test/' } }
    const ctx = healthContext(db, { health: { checks }, overrides: { fetch } })
    const reports = await Promise.all(Array.from({ length: 100 }, () => reportHealth(ctx)))
    expect(reports[0]?.report).toMatchObject({
      status: 'unhealthy',
      services: { database: { status: 'unhealthy', cause }, rls: { status: 'unhealthy', cause }, page: { status: 'healthy' } },
      performance: { activeConnections: null },
    })
    await reportHealth(ctx)
    expect(asked).toBe(1)
    expect(JSON.stringify(reports[0]?.report)).not.toMatch(/hunter2|127\.0\.0\.1|someone/)
  })

  it('is not configured, and that is critical', async () => {
    const { CaretakerError } = await import('../../lib/platform/errors.ts')
    const off = () => Promise.reject(new CaretakerError('not_configured', 'Caretaker needs DATABASE_URL, which is not set.'))
    const db: Database = {
      query: off,
      execute: off,
      transaction: off,
      session: off,
      probe: off,
      sessionUrl: '',
      close: () => Promise.resolve(),
    }
    expect((await reportHealth(healthContext(db))).report).toMatchObject({
      status: 'unhealthy',
      services: { database: { status: 'unhealthy', cause: 'not_configured' } },
    })
  })
})

it('knows the default of every kind by either spelling', () => {
  expect(resolveCheck('object_store', {}).timeoutMs).toBe(5_000)
  expect(resolveCheck('Object-Store', { timeoutMs: 70, critical: true })).toMatchObject({ timeoutMs: 70, critical: true })
})
