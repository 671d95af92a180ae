import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import * as z from 'zod/mini'
import { endSession, form, json, keyHash, type Route, route, signInWithKey } from '../../lib/http/index.ts'
import type { Role } from '../../lib/platform/actor.ts'
import type { Context } from '../../lib/platform/context.ts'
import { logLines, testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'

const test = useTestDatabase()

const routes: Route[] = [
  route({
    methods: ['GET'],
    path: '/page',
    summary: '',
    auth: { session: ['admin', 'viewer'] },
    limit: 'none',
    handle: async (ctx, { session }) => json({ actor: ctx.actor, csrf: session?.csrfToken }),
  }),
  route({
    methods: ['POST'],
    path: '/act',
    summary: '',
    auth: { session: ['admin'] },
    limit: 'none',
    body: form(z.strictObject({ what: z.string() })),
    handle: async (_ctx, { body }) => json({ did: body.what }),
  }),
]

async function makeKey(role: Role, more: { expires?: string } = {}): Promise<{ key: string; id: string }> {
  const key = `ck_${randomBytes(32).toString('base64url')}`
  const [row] = await test.db.query<{ id: string }>(
    'insert into caretaker.api_keys (name, role, hash, expires_at) values ($1, $2, $3::bytea, $4::timestamptz) returning id::text',
    ['a key', role, keyHash(key), more.expires ?? null],
  )
  return { key, id: row?.id ?? '' }
}

/** A browser that has signed in: its cookie, and requests that carry it. */
async function browser(role: Role, ctx: Context = testContext(test.db), url = 'http://localhost/ops/sign-in') {
  const { key, id } = await makeKey(role)
  const setCookie = await signInWithKey(ctx, new Request(url), key)
  const cookie = setCookie.split(';')[0] as string
  const { request } = testServer(routes, ctx)
  const get = (path: string, headers: Record<string, string> = {}) => request(path, { headers: { cookie, ...headers } })
  const post = (fields: Record<string, string>, headers: Record<string, string> = {}) =>
    request('/act', {
      method: 'POST',
      body: new URLSearchParams(fields),
      headers: { cookie, origin: 'http://localhost', 'sec-fetch-site': 'same-origin', ...headers },
    })
  const csrf = async () => ((await (await get('/page')).json()) as { csrf: string }).csrf
  return { ctx, id, setCookie, cookie, get, post, csrf, request }
}

describe('a session', () => {
  it('lets its operator in, with the role of the key', async () => {
    const { get, id } = await browser('viewer')
    expect(await (await get('/page')).json()).toMatchObject({ actor: { type: 'operator', id, role: 'viewer' } })
  })

  it('keeps its cookie from scripts, other sites and plain http', async () => {
    const { setCookie } = await browser('viewer', testContext(test.db), 'https://ops.example/ops/sign-in')
    expect(setCookie).toMatch(/^__Host-caretaker-session=[\w-]{43}; Path=\/; Max-Age=28800; HttpOnly; SameSite=Strict; Secure$/)
    expect((await browser('viewer')).setCookie).toMatch(/^caretaker-session=[\w-]{43}; Path=\/; Max-Age=28800; HttpOnly; SameSite=Strict$/)
  })

  it('has a cookie of its own for each port of this machine, which a browser does not tell apart', async () => {
    const { setCookie } = await browser('viewer', testContext(test.db), 'http://localhost:8888/ops/sign-in')
    expect(setCookie).toMatch(/^caretaker-session-8888=/)
    expect((await browser('viewer', testContext(test.db), 'https://ops.example:8888/')).setCookie).toMatch(/^__Host-caretaker-session=/)
  })

  it('is kept as a hash, and audited without its secret', async () => {
    const { cookie, ctx } = await browser('viewer')
    const token = cookie.split('=')[1] as string
    const rows = await test.db.query(`select s::text from caretaker.sessions s union all select a::text from caretaker.audit a`)
    expect(JSON.stringify(rows)).not.toContain(token)
    expect(logLines(ctx).join('')).not.toContain(token)
    const [opened] = await test.db.query(`select action from caretaker.audit order by seq desc limit 1`)
    expect(opened).toEqual({ action: 'session.opened' })
  })

  it.each([
    ['the key is revoked', 'update caretaker.api_keys set revoked_at = now() where id = $1::uuid'],
    ['the key is over', `update caretaker.api_keys set expires_at = now() - interval '1 second' where id = $1::uuid`],
    ['the key is deleted', 'delete from caretaker.api_keys where id = $1::uuid'],
    ['its time is over', `update caretaker.sessions set expires_at = now() - interval '1 second' where key_id = $1::uuid`],
  ])('ends when %s', async (_what, sql) => {
    const { get, id } = await browser('admin')
    expect((await get('/page')).status).toBe(200)
    await test.db.execute(sql, [id])
    expect((await get('/page')).status).toBe(401)
  })

  it('has the role that the key has now', async () => {
    const { get, id } = await browser('admin')
    await test.db.execute(`update caretaker.api_keys set role = 'support' where id = $1::uuid`, [id])
    expect((await get('/page')).status).toBe(403)
  })

  it('is over everywhere once it was signed out of', async () => {
    const { ctx, get, cookie } = await browser('admin')
    const forget = await endSession(ctx, new Request('http://localhost/', { headers: { cookie } }))
    expect(forget).toContain('caretaker-session=; Path=/; Max-Age=0')
    expect((await get('/page')).status).toBe(401)
  })

  it.each([
    ['no cookie', ''],
    ['an empty cookie', 'caretaker-session='],
    ['a made-up cookie', `caretaker-session=${'a'.repeat(43)}`],
    ['the cookie of another name', `__Host-caretaker-session=${'a'.repeat(43)}`],
    ['rubbish', 'caretaker-session=%00;=;;'],
  ])('is not there with %s', async (_what, cookie) => {
    const { request } = testServer(routes, testContext(test.db))
    expect((await request('/page', { headers: { cookie } })).status).toBe(401)
  })

  it('is not there for the bearer of a key: pages take browsers', async () => {
    const { key } = await makeKey('admin')
    const { request } = testServer(routes, testContext(test.db))
    expect((await request('/page', { headers: { authorization: `Bearer ${key}` } })).status).toBe(401)
  })

  it.each([
    ['unknown', `ck_${'x'.repeat(43)}`],
    ['empty', ''],
  ])('is not opened by an %s key', async (_what, key) => {
    await expect(signInWithKey(testContext(test.db), new Request('http://localhost/'), key)).rejects.toMatchObject({ code: 'unauthorized' })
  })
})

describe('a database that nobody has prepared', () => {
  const bare = useTestDatabase({ template: 'template0' })

  it('is told of in words', async () => {
    await expect(signInWithKey(testContext(bare.db), new Request('http://localhost/'), 'ck_any')).rejects.toMatchObject({
      code: 'not_configured',
      detail: expect.stringContaining('caretaker db migrate'),
    })
    // A browser may bring a cookie from the database that was there before.
    const { request } = testServer(routes, testContext(bare.db))
    const response = await request('/page', { headers: { cookie: `caretaker-session=${'a'.repeat(43)}` } })
    expect([response.status, await response.json()]).toEqual([503, expect.objectContaining({ code: 'not_configured' })])
  })
})

describe('a form', () => {
  it('counts with the token of its session', async () => {
    const { post, csrf } = await browser('admin')
    expect(await (await post({ what: 'this', csrf: await csrf() })).json()).toEqual({ did: 'this' })
  })

  it.each([
    ['no token', {}, {}],
    ['an empty token', { csrf: '' }, {}],
    ['a made-up token', { csrf: 'x'.repeat(43) }, {}],
  ])('with %s is refused', async (_what, fields, headers) => {
    const { post } = await browser('admin')
    expect((await post({ what: 'this', ...fields }, headers)).status).toBe(403)
  })

  it("with another session's token is refused", async () => {
    const other = await browser('admin')
    const { post } = await browser('admin')
    expect((await post({ what: 'this', csrf: await other.csrf() })).status).toBe(403)
  })

  it.each([
    ['another site', { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }],
    ['another site that a browser only tells by its origin', { 'sec-fetch-site': 'same-origin', origin: 'https://evil.example' }],
    ['a sister site', { 'sec-fetch-site': 'same-site', origin: 'http://localhost' }],
    ['nowhere', { 'sec-fetch-site': 'none', origin: 'null' }],
  ])('from %s is refused, whatever it holds', async (_what, headers) => {
    const { post, csrf } = await browser('admin')
    const response = await post({ what: 'this', csrf: await csrf() }, headers)
    expect(response.status).toBe(403)
    expect(await response.json()).toMatchObject({ code: 'forbidden' })
  })

  it('from a program that says nothing of itself is refused', async () => {
    const { request, cookie, csrf } = await browser('admin')
    const body = new URLSearchParams({ what: 'this', csrf: await csrf() })
    expect((await request('/act', { method: 'POST', body, headers: { cookie } })).status).toBe(403)
  })

  it('takes the role that its route says', async () => {
    const { post, csrf } = await browser('viewer')
    expect((await post({ what: 'this', csrf: await csrf() })).status).toBe(403)
  })

  it('is refused field by field', async () => {
    const { post, csrf } = await browser('admin')
    const response = await post({ what: 'this', more: '1', csrf: await csrf() })
    expect(response.status).toBe(422)
    expect(((await response.json()) as { detail: string }).detail).toContain('more')
  })

  it('is a form, not JSON', async () => {
    const { request, cookie } = await browser('admin')
    const headers = { cookie, origin: 'http://localhost', 'content-type': 'application/json' }
    expect((await request('/act', { method: 'POST', body: '{"what":"this"}', headers })).status).toBe(415)
  })
})
