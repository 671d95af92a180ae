import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import * as z from 'zod/mini'
import { json, keyHash, matchPath, type Route, route } from '../../lib/http/index.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { logLines, testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { bearer, testServer } from '../support/serve.ts'

const test = useTestDatabase()

const open: Route = route({
  methods: ['GET'],
  path: '/open',
  summary: '',
  auth: 'public',
  limit: 'none',
  handle: async () => json({ ok: true }),
})

function withRoute(definition: Partial<Route>, overrides: Parameters<typeof testContext>[1] = {}) {
  const ctx = testContext(test.db, overrides)
  const { request } = testServer([{ ...open, ...definition } as Route], ctx)
  return { ctx, request }
}

describe('an answer', () => {
  it('carries a request id and the security headers', async () => {
    const response = await withRoute({}).request('/open')
    expect(response.status).toBe(200)
    expect(response.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    expect(response.headers.get('x-frame-options')).toBe('DENY')
    expect(response.headers.get('strict-transport-security')).toContain('max-age=31536000')
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
  })

  it('to HEAD is that to GET without its body', async () => {
    const response = await withRoute({}).request('/open', { method: 'HEAD' })
    expect(response.status).toBe(200)
    expect(await response.text()).toBe('')
  })

  it('to an unknown path is a problem document', async () => {
    const response = await withRoute({}).request('/nothing')
    expect(response.status).toBe(404)
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    expect(await response.json()).toMatchObject({ code: 'not_found', status: 404, type: 'urn:caretaker:error:not_found' })
  })

  it('to another method names those that are answered', async () => {
    const response = await withRoute({}).request('/open', { method: 'POST' })
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe('GET')
  })

  it('to a defect tells nothing, and the log everything under the same id', async () => {
    const { ctx, request } = withRoute({
      handle: async () => {
        throw new Error('the socket to db.internal:5432 fell over')
      },
    })
    const response = await request('/open')
    expect(response.status).toBe(500)
    const text = await response.text()
    expect(text).not.toContain('db.internal')
    expect(JSON.parse(text)).toMatchObject({ code: 'internal' })
    expect(logLines(ctx).join('')).toContain('db.internal')
  })
})

describe('text that PostgreSQL cannot keep', () => {
  const anything: Partial<Route> = {
    path: '/open/:name',
    body: z.record(z.string(), z.unknown()),
    handle: async () => json({ ok: true }),
  }
  const post = (body: unknown) =>
    withRoute({ ...anything, methods: ['POST'] }).request('/open/x', {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    })

  it.each([{ reason: 'a\0b' }, { reason: 'half \ud83d' }, { list: [{ reason: '\0' }] }, { '\0': 1 }])(
    'is refused in a body: %j',
    async (body) => {
      const response = await post(body)
      expect(response.status).toBe(422)
      const { detail } = (await response.json()) as { detail: string }
      expect(detail).toContain('found a character that cannot be stored')
      if ('reason' in body) expect(detail).toContain('reason: ')
    },
  )

  it('lets all other text through', async () => {
    expect((await post({ reason: 'whole \u{1f4a9}, tab\tand bell\u0007' })).status).toBe(200)
  })

  it('is refused in a query, and found under no name', async () => {
    const get = withRoute({ path: '/open/:name' }).request
    expect((await get('/open/x?job=a%00')).status).toBe(422)
    expect((await get('/open/x%00')).status).toBe(404)
    expect((await get('/open/x?job=a')).status).toBe(200)
  })

  it('that is too long hears how long it may be', async () => {
    const response = await withRoute({ methods: ['POST'], body: z.object({ reason: z.string().check(z.maxLength(500)) }) }).request(
      '/open',
      {
        method: 'POST',
        body: JSON.stringify({ reason: 'x'.repeat(501) }),
        headers: { 'content-type': 'application/json' },
      },
    )
    expect(((await response.json()) as { detail: string }).detail).toContain(
      'reason: found a string of 501 characters, expected at most 500 characters',
    )
  })
})

describe('a body', () => {
  const echo = {
    methods: ['POST'],
    body: z.strictObject({ subject: z.string(), count: z.int() }),
    handle: async (_ctx, input) => json({ got: input.body }),
  } as Partial<Route>
  const post = (body: string | Uint8Array<ArrayBuffer>, type = 'application/json') =>
    withRoute(echo).request('/open', { method: 'POST', body, headers: { 'content-type': type } })

  it('is parsed', async () => {
    expect(await (await post('{"subject":"a","count":1}')).json()).toEqual({ got: { subject: 'a', count: 1 } })
  })

  it('is refused field by field', async () => {
    const response = await post('{"subject":7,"count":1,"x":1}')
    expect(response.status).toBe(422)
    const { issues } = (await response.json()) as { issues: { path: string; message: string }[] }
    expect(issues).toContainEqual({ path: 'subject', message: 'found 7, expected string' })
    expect(issues.map((issue) => issue.message).join()).toContain('these keys are not known: x')
  })

  it.each([
    ['not JSON', '{"subject":', 'application/json', 400],
    ['not UTF-8', new Uint8Array([0x22, 0xff, 0x22]), 'application/json', 400],
    ['of another type', 'subject=a', 'application/x-www-form-urlencoded', 415],
    ['too long', `{"subject":"${'x'.repeat(1024 * 1024)}"}`, 'application/json', 413],
  ])('that is %s is refused', async (_what, body, type, status) => {
    expect((await post(body, type)).status).toBe(status)
  })

  it('that claims no length and is too long is refused while it is read', async () => {
    const stream = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(256 * 1024)) })
    const response = await withRoute(echo).request('/open', {
      method: 'POST',
      body: stream,
      headers: { 'content-type': 'application/json' },
      duplex: 'half',
    } as RequestInit)
    expect(response.status).toBe(413)
  })
})

describe('the cron secret', () => {
  const cron = { auth: 'cron' } as const

  it('lets its holder in', async () => {
    const { ctx, request } = withRoute(cron)
    expect((await request('/open', bearer(ctx.env.CRON_SECRET as string))).status).toBe(200)
  })

  it.each([
    ['nothing', {}],
    ['another secret', bearer('x'.repeat(32))],
    ['an empty one', { headers: { authorization: 'Bearer ' } }],
    ['another scheme', { headers: { authorization: 'Basic Zm9vOmJhcg==' } }],
  ])('refuses %s', async (_what, init) => {
    const response = await withRoute(cron).request('/open', init)
    expect(response.status).toBe(401)
    expect(response.headers.get('www-authenticate')).toBe('Bearer')
  })

  it('that is not set closes the route', async () => {
    const response = await withRoute(cron, { env: readEnv({}) }).request('/open', bearer(''))
    expect(response.status).toBe(503)
    expect(await response.json()).toMatchObject({ code: 'not_configured', detail: expect.stringContaining('CRON_SECRET') })
  })
})

describe('an operator', () => {
  const adminOnly = { auth: { operator: ['admin'] } } as Partial<Route>

  async function makeKey(role: string, more = ''): Promise<string> {
    const key = `ck_${randomBytes(32).toString('base64url')}`
    await test.db.execute(
      `insert into caretaker.api_keys (name, role, hash${more === '' ? '' : `, ${more}`}) values ('t', $1, $2${more === '' ? '' : `, now() - interval '1 minute'`})`,
      [role, keyHash(key)],
    )
    return key
  }

  it('comes in with a key of a role that may', async () => {
    expect((await withRoute(adminOnly).request('/open', bearer(await makeKey('admin')))).status).toBe(200)
  })

  it('of another role is told which it takes', async () => {
    const response = await withRoute(adminOnly).request('/open', bearer(await makeKey('viewer')))
    expect(response.status).toBe(403)
    expect(((await response.json()) as { detail: string }).detail).toContain('admin')
  })

  it.each(['revoked_at', 'expires_at'])('with a key whose %s has passed stays out', async (column) => {
    expect((await withRoute(adminOnly).request('/open', bearer(await makeKey('admin', column)))).status).toBe(401)
  })

  it.each([
    ['no key', {}],
    ['an unknown key', bearer(`ck_${'A'.repeat(43)}`)],
    ['SQL for a key', bearer("ck_'or'1'='1")],
  ])('with %s stays out', async (_what, init) => {
    expect((await withRoute(adminOnly).request('/open', init)).status).toBe(401)
  })

  it('who guesses keys is slowed down', async () => {
    const hits = new Map<string, number>()
    const limiter = {
      hit: async (key: string, limit: number) => {
        const count = (hits.get(key) ?? 0) + 1
        hits.set(key, count)
        return { allowed: count <= limit, limit, remaining: Math.max(0, limit - count), resetSeconds: 30 }
      },
    }
    const { request } = withRoute(adminOnly, { limiter })
    const statuses = []
    for (let attempt = 0; attempt < 22; attempt++) statuses.push((await request('/open', bearer(`ck_${attempt}`))).status)
    expect(statuses.slice(0, 20).every((status) => status === 401)).toBe(true)
    expect(statuses.slice(20)).toEqual([429, 429])
  })
})

describe('a rate limit', () => {
  const refusing = { hit: async (_key: string, limit: number) => ({ allowed: false, limit, remaining: 0, resetSeconds: 12 }) }
  const failing = {
    hit: async () => {
      throw new CaretakerError('upstream_failed', 'Redis is away')
    },
  }

  it('answers 429 in both shapes', async () => {
    const response = await withRoute({ limit: 'standard' }, { limiter: refusing }).request('/open')
    expect(response.status).toBe(429)
    expect(response.headers.get('retry-after')).toBe('12')
    expect(await response.json()).toMatchObject({
      code: 'rate_limited',
      error: { code: 429, message: expect.any(String), retry_after: 12 },
    })
  })

  it('counts an IPv6 network as one caller, whichever of its addresses it uses', async () => {
    const keys: string[] = []
    const limiter = {
      hit: async (key: string, limit: number) => {
        keys.push(key)
        return { allowed: true, limit, remaining: limit, resetSeconds: 60 }
      },
    }
    const { request } = withRoute({ limit: 'standard' }, { limiter })
    for (const address of [
      '2001:db8:0:1::7',
      '2001:0DB8::1:1:2:3:4',
      '2001:db8:0:1:ffff:ffff:ffff:ffff',
      '2001:db8:0:2::7',
      '::1',
      '203.0.113.7',
    ])
      await request('/open', { address })
    expect(keys.map((key) => key.replace('/open|address:', ''))).toEqual([
      '2001:db8:0:1::/64',
      '2001:db8:0:1::/64',
      '2001:db8:0:1::/64',
      '2001:db8:0:2::/64',
      '0:0:0:0::/64',
      '203.0.113.7',
    ])
  })

  it('tells how much is left', async () => {
    const response = await withRoute({ limit: 'standard' }).request('/open')
    expect(response.headers.get('ratelimit')).toMatch(/r=\d+;t=\d+/)
  })

  it('that cannot be counted lets a standard route answer and closes a sensitive one', async () => {
    expect((await withRoute({ limit: 'standard' }, { limiter: failing }).request('/open')).status).toBe(200)
    expect((await withRoute({ limit: 'sensitive' }, { limiter: failing }).request('/open')).status).toBe(502)
  })

  it('in a database that is not prepared says what to do, and not to try again', async () => {
    const limiter = { hit: () => Promise.reject(Object.assign(new Error('no such relation'), { code: '42P01' })) }
    const response = await withRoute({ limit: 'sensitive' }, { limiter }).request('/open')
    expect([response.status, await response.json()]).toEqual([
      503,
      expect.objectContaining({ code: 'not_configured', detail: expect.stringContaining('caretaker db migrate') }),
    ])
  })
})

describe('matchPath', () => {
  it.each([
    ['/health', '/health', {}],
    ['/health', '/health/', {}],
    ['/health/:check', '/health/database', { check: 'database' }],
    ['/health/:check', '/health', null],
    ['/health/:check', '/health//', null],
    ['/health/:check', '/health/a/b', null],
    ['/health/:check', '/health/%zz', null],
    ['/a/:x', '/a/b%2Fc', { x: 'b/c' }],
    ['/', '/', {}],
  ])('%s against %s', (pattern, path, expected) => {
    expect(matchPath(pattern, path)).toEqual(expected)
  })
})
