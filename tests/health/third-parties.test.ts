import { createServer, getCACertificates, type Server, setDefaultCACertificates } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { resolveCheck } from '../../lib/health/check.ts'
import { runCheck } from '../../lib/health/run-check.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { type HealthApisState, healthApis, healthKeys } from '../doubles/health-apis.ts'
import { logLines } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { certificate, key } from '../support/localhost-certificate.ts'
import { healthContext } from './support.ts'

const test = useTestDatabase()
const state = (over: Partial<HealthApisState> = {}): HealthApisState => ({
  twilioAccount: 'active',
  sendgridScopes: ['mail.send'],
  pong: 'PONG',
  ...over,
})
const check = (ctx: Context, name: string, policy: { url?: string } = {}) => runCheck(ctx, resolveCheck(name, policy))
const names = [
  'openai',
  'hume',
  'memberstack',
  'posthog',
  'twilio',
  'sendgrid',
  'google',
  'redis',
  'make',
  'n8n',
  'stack-auth',
  'webflow',
  'sentry',
  'supabase-realtime',
]
/** Nothing is presented to them that could be wrong. */
const keyless = ['google', 'n8n']

function rotatedValue(variable: string, value: string): string {
  if (variable === 'SENTRY_DSN') return value.replace('publickey', 'rotatedkey')
  return /URL|SID|CLIENT_ID|PROJECT_ID/.test(variable) ? value : `${value}-rotated`
}

describe.each(names)('%s', (name) => {
  it('answers, is refused, breaks, and is not configured', async () => {
    doubles.use(...healthApis(state()))
    const ctx = healthContext(test.db, { env: healthKeys })
    expect(await check(ctx, name)).toMatchObject({ status: 'healthy' })
    const rotated = Object.fromEntries(Object.entries(healthKeys).map(([variable, value]) => [variable, rotatedValue(variable, value)]))
    if (!keyless.includes(name))
      expect(await check(healthContext(test.db, { env: rotated }), name)).toMatchObject({ status: 'unhealthy', cause: 'unauthorized' })
    doubles.use(...healthApis(state({ failWith: 503 })))
    expect(await check(ctx, name)).toMatchObject({ status: 'unhealthy', cause: 'http_5xx' })
    expect(await check(healthContext(test.db), name)).toMatchObject({ status: 'not_configured' })
    expect(logLines(ctx).join('')).not.toMatch(/of-the-test|of_the_test/)
  })
})

it.each([
  ['twilio', { twilioAccount: 'suspended' }, 'forbidden'],
  ['sendgrid', { sendgridScopes: ['stats.read'] }, 'forbidden'],
  ['redis', { pong: 'NO' }, 'bad_answer'],
])('%s that answers, and yet cannot be used (%j), is unhealthy', async (name, over, cause) => {
  doubles.use(...healthApis(state(over)))
  expect(await check(healthContext(test.db, { env: healthKeys }), name)).toMatchObject({ status: 'unhealthy', cause })
})

it('Make and n8n are asked where the policy says', async () => {
  doubles.use(...healthApis(state()))
  const { MAKE_COM_WEBHOOK_URL: _make, N8N_WEBHOOK_URL: _n8n, ...env } = healthKeys
  const ctx = healthContext(test.db, { env })
  expect(await check(ctx, 'make')).toMatchObject({ status: 'not_configured' })
  expect(await check(ctx, 'make', { url: 'https://eu9.make.com' })).toMatchObject({ status: 'healthy' })
  expect(await check(ctx, 'n8n', { url: 'https://n8n.test' })).toMatchObject({ status: 'healthy' })
})

describe('a certificate', () => {
  let server: Server | undefined
  // The doubles stand between a program and every socket, and make none of TLS.
  beforeAll(() => doubles.close())
  afterAll(() => doubles.listen())
  afterEach(() => void server?.close())
  async function listening(): Promise<string> {
    const opened = createServer({ key, cert: certificate }, (socket) => socket.end())
    server = opened
    await new Promise<void>((resolve) => opened.listen(0, 'localhost', resolve))
    return `https://localhost:${(opened.address() as { port: number }).port}/`
  }

  // First: what was trusted once stays so in this process.
  it('that nobody vouches for fails as tls; no server as refused; no https as misconfigured', async () => {
    const ctx = healthContext(test.db)
    const url = await listening()
    expect(await check(ctx, 'certificate', { url })).toMatchObject({ status: 'unhealthy', cause: 'tls' })
    server?.close()
    server = undefined
    expect(await check(ctx, 'certificate', { url: 'https://localhost:1/' })).toMatchObject({ status: 'unhealthy', cause: 'refused' })
    expect(await check(ctx, 'certificate', { url: 'http://localhost/' })).toMatchObject({ status: 'unhealthy', cause: 'misconfigured' })
  })

  it.each([
    ['2126-10-13T00:00:00Z', 'healthy', undefined],
    ['2126-10-16T00:00:00Z', 'unhealthy', 'certificate_expiring'],
    ['2126-10-22T00:00:00Z', 'unhealthy', 'certificate_urgent'],
  ])('that ends on 28 October is judged on %s as %s', async (at, status, cause) => {
    setDefaultCACertificates([...getCACertificates('default'), certificate])
    const ctx = { ...healthContext(test.db), clock: fixedClock(at) }
    expect(await check(ctx, 'certificate', { url: await listening() })).toMatchObject({ status, ...(cause === undefined ? {} : { cause }) })
  })
})

it('a host has an address, or fails as dns', async () => {
  const ctx = healthContext(test.db)
  expect(await check(ctx, 'dns', { url: 'https://localhost/' })).toMatchObject({ status: 'healthy' })
  expect(await check(ctx, 'dns', { url: 'https://no-such-host.invalid/' })).toMatchObject({ status: 'unhealthy', cause: 'dns' })
})
