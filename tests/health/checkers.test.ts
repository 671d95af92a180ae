import { createServer } from 'node:http'
import { HttpResponse, http } from 'msw'
import { describe, expect, it } from 'vitest'
import type { HealthCheckPolicy } from '../../lib/config/index.ts'
import { resolveCheck } from '../../lib/health/check.ts'
import { runCheck } from '../../lib/health/run-check.ts'
import { systemClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { stripeApi, stripeState } from '../doubles/stripe.ts'
import { supabaseApi, supabaseState } from '../doubles/supabase-health.ts'
import { logLines } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { healthContext, memoryStore } from './support.ts'

const test = useTestDatabase()
const check = (ctx: Context, name: string, policy: HealthCheckPolicy = {}) => runCheck(ctx, resolveCheck(name, policy))

describe('database', () => {
  it('answers with its version and connections', async () => {
    expect(await check(healthContext(test.db), 'database')).toMatchObject({
      status: 'healthy',
      critical: true,
      measures: { version: expect.stringMatching(/^17/), connections: expect.any(Number), maxConnections: 200 },
    })
  })

  it.each([
    ['refused', 'postgres://user:hunter2hunter2@127.0.0.1:1/none'],
    ['dns', 'postgres://user:hunter2hunter2@no-such-host.invalid:5432/none?sslmode=disable'],
  ])('fails as %s, and names neither host nor user in the log', async (cause, url) => {
    const db = openDatabase({ sessionUrl: url })
    const ctx = healthContext(db)
    expect(await check(ctx, 'database')).toMatchObject({ status: 'unhealthy', cause })
    expect(logLines(ctx).join('')).not.toContain('hunter2')
    await db.close()
  })

  it('fails as no_database where there is none of that name', async () => {
    const db = openDatabase({ sessionUrl: test.url.replace(test.name, 'no_such_database') })
    expect(await check(healthContext(db), 'database')).toMatchObject({ status: 'unhealthy', cause: 'no_database' })
    await db.close()
  })
})

describe('supabase', () => {
  const env = { SUPABASE_URL: supabaseState().url, SUPABASE_SERVICE_ROLE_KEY: supabaseState().key }

  it('asks auth, storage and rest with the service key', async () => {
    const state = supabaseState()
    doubles.use(...supabaseApi(state))
    expect(await check(healthContext(test.db, { env }), 'supabase')).toMatchObject({
      status: 'healthy',
      critical: false,
      measures: { auth: 'healthy', storage: 'healthy', rest: 'healthy' },
    })
    expect(state.reads).toEqual({ auth: 1, storage: 1, rest: 1 })
  })

  it.each(['auth', 'storage', 'rest'] as const)('fails with the cause of %s', async (part) => {
    const state = supabaseState()
    state.failWith[part] = 503
    doubles.use(...supabaseApi(state))
    expect(await check(healthContext(test.db, { env }), 'supabase')).toMatchObject({
      status: 'unhealthy',
      cause: 'http_5xx',
      measures: { [part]: 'http_5xx' },
    })
    expect(await check(healthContext(test.db, { env }), `supabase-${part}`)).toMatchObject({ status: 'unhealthy', cause: 'http_5xx' })
  })

  it('says unauthorized for a key that is not accepted', async () => {
    doubles.use(...supabaseApi(supabaseState()))
    const ctx = healthContext(test.db, { env: { ...env, SUPABASE_SERVICE_ROLE_KEY: 'a-key-that-was-rotated' } })
    expect(await check(ctx, 'supabase_rest')).toMatchObject({ status: 'unhealthy', cause: 'unauthorized' })
  })

  it('is not configured without a URL or a key', async () => {
    expect(await check(healthContext(test.db), 'supabase')).toMatchObject({ status: 'not_configured' })
    expect(await check(healthContext(test.db, { env: { SUPABASE_URL: env.SUPABASE_URL } }), 'supabase-auth')).toMatchObject({
      status: 'not_configured',
    })
  })
})

describe('stripe', () => {
  it.each([
    [{}, { status: 'healthy' }],
    [{ failWith: 500 }, { status: 'unhealthy', cause: 'http_5xx' }],
    [{ failWith: 403 }, { status: 'unhealthy', cause: 'forbidden' }],
    [{ failWith: 429 }, { status: 'unhealthy', cause: 'rate_limited' }],
    [{ key: 'sk_test_another' }, { status: 'unhealthy', cause: 'unauthorized' }],
  ])('%j gives %j', async (double, expected) => {
    doubles.use(...stripeApi({ ...stripeState(), ...double }))
    expect(await check(healthContext(test.db, { env: { STRIPE_SECRET_KEY: stripeState().key } }), 'stripe')).toMatchObject(expected)
  })

  it('ends in time where there is no answer', async () => {
    doubles.use(...stripeApi({ ...stripeState(), hangs: true }))
    const ctx = healthContext(test.db, { env: { STRIPE_SECRET_KEY: stripeState().key }, overrides: { clock: systemClock } })
    expect(await check(ctx, 'stripe', { timeoutMs: 80 })).toMatchObject({ status: 'unhealthy', cause: 'timeout' })
  })

  it('is not configured without a key', async () => {
    expect(await check(healthContext(test.db), 'stripe')).toMatchObject({ status: 'not_configured', cause: 'not_configured' })
  })
})

describe('url', () => {
  const site = 'https://app.test'
  const at = (policy: HealthCheckPolicy) => check(healthContext(test.db), 'homepage', { kind: 'url', url: `${site}/`, ...policy })
  const redirect = (to: string) => http.get(`${site}/`, () => new HttpResponse(null, { status: 302, headers: { location: to } }))

  it.each([
    [200, {}, 'healthy'],
    [204, {}, 'healthy'],
    [404, {}, 'http_4xx'],
    [500, {}, 'http_5xx'],
    [404, { expectStatus: 404 }, 'healthy'],
    [200, { expectStatus: 204 }, 'bad_answer'],
  ])('status %i with %j is %s', async (status, policy, verdict) => {
    doubles.use(http.get(`${site}/`, () => new HttpResponse(null, { status })))
    const result = await at(policy)
    expect(result.cause ?? result.status).toBe(verdict)
  })

  it('follows a redirect on the same host', async () => {
    doubles.use(
      redirect('/home'),
      http.get(`${site}/home`, () => HttpResponse.text('here')),
    )
    expect(await at({})).toMatchObject({ status: 'healthy' })
  })

  it.each(['https://evil.test/', '//evil.test/', 'http://app.test/', 'https://app.test:8443/', 'http://169.254.169.254/latest/meta-data'])(
    'does not follow to %s',
    async (to) => {
      doubles.use(
        redirect(to),
        http.get(to.startsWith('//') ? `https:${to}` : to, () => expect.fail('it was followed')),
      )
      expect(await at({})).toMatchObject({ status: 'unhealthy', cause: 'redirected' })
    },
  )

  it('gives up in a circle, and takes the redirect itself where that is expected', async () => {
    doubles.use(redirect('/'))
    expect(await at({})).toMatchObject({ status: 'unhealthy', cause: 'bad_answer' })
    expect(await at({ expectStatus: 302 })).toMatchObject({ status: 'healthy' })
  })

  it('says refused, connection_lost and dns apart', async () => {
    const server = createServer((request) => request.socket.destroy())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    expect(await at({ url: `http://127.0.0.1:${port}/` })).toMatchObject({ cause: 'connection_lost' })
    await new Promise((resolve) => server.close(resolve))
    expect(await at({ url: `http://127.0.0.1:${port}/` })).toMatchObject({ cause: 'refused' })
  })

  it('is misconfigured without a url', async () => {
    expect(await check(healthContext(test.db), 'homepage', { kind: 'url' })).toMatchObject({ status: 'unhealthy', cause: 'misconfigured' })
  })
})

describe('object-store', () => {
  const withStore = (objects: Context['objects']) => healthContext(test.db, { overrides: { objects } })

  it('writes, reads back and leaves nothing', async () => {
    const store = memoryStore()
    expect(
      await check(
        withStore(() => Promise.resolve(store)),
        'object_store',
      ),
    ).toMatchObject({ status: 'healthy' })
    expect(store.objects.size).toBe(0)
  })

  it('fails, and cleans up, where other bytes come back', async () => {
    const store = Object.assign(memoryStore(), { lies: true })
    expect(
      await check(
        withStore(() => Promise.resolve(store)),
        'object-store',
      ),
    ).toMatchObject({ status: 'unhealthy', cause: 'write_failed' })
    expect(store.objects.size).toBe(0)
  })

  it('fails where a delete does nothing', async () => {
    const store = Object.assign(memoryStore(), { delete: () => Promise.resolve() })
    expect(
      await check(
        withStore(() => Promise.resolve(store)),
        'object-store',
      ),
    ).toMatchObject({ status: 'unhealthy', cause: 'write_failed' })
  })

  it('is not configured where there is none', async () => {
    expect(await check(healthContext(test.db), 'object-store')).toMatchObject({ status: 'not_configured' })
  })
})

describe('rls', () => {
  const scratch = useTestDatabase()

  it('finds tables without row level security in exposed schemas', async () => {
    const ctx = healthContext(scratch.db)
    expect(await check(ctx, 'rls')).toMatchObject({ status: 'healthy' })
    await scratch.db.execute(`
      create table public.open_table (n int); grant select on public.open_table to public;
      create table public.closed_table (n int); grant select on public.closed_table to public; alter table public.closed_table enable row level security;
      create schema hidden; create table hidden.unexposed (n int); grant select on hidden.unexposed to public;
      create materialized view public.totals as select 1 as n`)
    expect(await check(ctx, 'rls')).toMatchObject({
      status: 'unhealthy',
      cause: 'rls_off',
      critical: false,
      measures: { tables: 1, names: ['public.open_table'] },
    })
    await scratch.db.execute('alter table public.open_table enable row level security')
    expect(await check(ctx, 'rls')).toMatchObject({ status: 'healthy' })
  })

  it('passes over what neither anon nor authenticated may touch, and looks into every schema that PostgREST exposes', async () => {
    // Roles belong to the server, not to the database: another test may have made them.
    for (const role of ['anon', 'authenticated', 'authenticator'])
      await scratch.db.execute(`do $$ begin create role ${role}; exception when duplicate_object or unique_violation then null; end $$`)
    await scratch.db.execute(
      'create table public.internal_table (n int); create schema api; create table api.orders (n int); grant insert on api.orders to anon',
    )
    const ctx = healthContext(scratch.db)
    expect(await check(ctx, 'rls')).toMatchObject({ status: 'healthy' })
    await scratch.db.execute(`alter role authenticator in database ${scratch.name} set pgrst.db_schemas = 'public, api'`)
    expect(await check(ctx, 'rls')).toMatchObject({ cause: 'rls_off', measures: { names: ['api.orders'] } })
  })
})

it('reports a kind that does not exist as misconfigured', async () => {
  expect(await check(healthContext(test.db), 'databse')).toMatchObject({ status: 'unhealthy', cause: 'misconfigured', critical: false })
})
