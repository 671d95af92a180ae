import { createClient } from '@supabase/supabase-js'
import { describe, expect, it } from 'vitest'
import { json, type Route, route } from '../../lib/http/index.ts'
import { systemClock } from '../../lib/platform/clock.ts'
import { createSigningKey, createTokens } from '../../local/supabase/keys.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { bearer, testServer } from '../support/serve.ts'

const test = useTestDatabase()
const key = createSigningKey()
const tokens = createTokens(key, systemClock)
const person = { sub: '6f2b1c1e-0000-4000-8000-000000000001', role: 'authenticated', aud: 'authenticated' }

/** Auth of a project: it publishes its keys, and tells of a token that it did not sign that it is none of its own. */
const auth: typeof fetch = async (input) => {
  const { pathname } = new URL(String(input))
  if (pathname === '/auth/v1/.well-known/jwks.json') return Response.json(tokens.jwks)
  return Response.json({ code: 403, error_code: 'bad_jwt', msg: 'invalid JWT' }, { status: 403 })
}

const whoAmI = (auth_: Route['auth']): Route =>
  route({
    methods: ['GET'],
    path: '/me',
    summary: '',
    auth: auth_,
    limit: 'none',
    handle: async (ctx) => json(ctx.actor),
  })

let projects = 0

function ask(token: string, options: { auth?: Route['auth']; fetch?: typeof fetch } = {}) {
  const ctx = testContext(test.db, {
    supabase: async () =>
      // Its client keeps the keys of a project for ten minutes, by the project's name.
      createClient(`http://project-${++projects}.test`, 'sb_secret_of_the_project', {
        auth: { persistSession: false, autoRefreshToken: false },
        global: { fetch: options.fetch ?? auth },
      }),
  })
  return testServer([whoAmI(options.auth ?? { subject: true, operator: ['admin'] })], ctx).request('/me', bearer(token))
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

describe('an access token', () => {
  it('of the project names the person', async () => {
    const response = await ask(tokens.sign(person, 60))
    expect(await response.json()).toEqual({ type: 'subject', id: person.sub })
  })

  it.each<[string, () => string]>([
    [
      'another project that calls its key the same',
      () => createTokens({ ...createSigningKey(), kid: key.kid }, systemClock).sign(person, 60),
    ],
    ['another project', () => createTokens(createSigningKey(), systemClock).sign(person, 60)],
    ['a minute ago', () => tokens.sign(person, -60)],
    ['nobody', () => tokens.sign({ role: 'anon' }, 60)],
    ['anybody (alg none)', () => `${encode({ alg: 'none', typ: 'JWT', kid: key.kid })}.${encode({ ...person, exp: 4e9 })}.`],
    ['anybody (no alg)', () => `${encode({ typ: 'JWT' })}.${encode({ ...person, exp: 4e9 })}.AAAA`],
    ['the public key taken for a secret', () => `${encode({ alg: 'HS256', kid: key.kid })}.${encode({ ...person, exp: 4e9 })}.AAAA`],
    ['other words than were signed', () => tokens.sign(person, 60).replace(/\.[^.]+\./, `.${encode({ ...person, sub: 'x', exp: 4e9 })}.`)],
    ['no token at all', () => 'not.a.token'],
  ])('of %s is refused', async (_what, token) => {
    const response = await ask(token())
    expect(response.status).toBe(401)
    expect(await response.json()).toMatchObject({ code: 'unauthorized' })
  })

  it('makes an operator only by what the person cannot write', async () => {
    const operators = { auth: { operator: ['admin'] } } as const
    const claim = (more: Record<string, unknown>) => ask(tokens.sign({ ...person, ...more }, 60), operators)
    expect((await claim({ app_metadata: { caretaker_role: 'admin' } })).status).toBe(200)
    expect((await claim({ user_metadata: { caretaker_role: 'admin' } })).status).toBe(403)
    expect((await claim({ caretaker_role: 'admin' })).status).toBe(403)
    expect((await claim({ app_metadata: { caretaker_role: 'viewer' } })).status).toBe(403)
    expect((await claim({ app_metadata: { caretaker_role: 'Admin' } })).status).toBe(403)
    expect((await claim({ app_metadata: { caretaker_role: ['admin'] } })).status).toBe(403)
    expect((await claim({ app_metadata: [] })).status).toBe(403)
  })

  it.each<[string, typeof fetch]>([
    ['cannot be reached', () => Promise.reject(new TypeError('fetch failed'))],
    ['is overloaded', async () => new Response('<html>', { status: 503 })],
    ['is broken', async () => Response.json({ code: 500, msg: 'unexpected' }, { status: 500 })],
  ])('is not called false when Supabase %s', async (_what, fetch) => {
    const response = await ask(tokens.sign(person, 60), { fetch })
    expect(response.status).toBe(502)
    expect(response.headers.get('retry-after')).not.toBeNull()
    expect(await response.json()).toMatchObject({ code: 'upstream_failed' })
  })
})
