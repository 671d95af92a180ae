import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import { postgresLimiter } from '../../lib/drivers/limiter/postgres.ts'
import { json, type Route, route, signInWithPassword } from '../../lib/http/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { type AuthAccount, anonKey, supabaseAuth, supabaseUrl } from '../doubles/supabase-auth.ts'
import { logLines, testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { testServer } from '../support/serve.ts'

const test = useTestDatabase()
const env = readEnv({ SUPABASE_URL: supabaseUrl, SUPABASE_ANON_KEY: anonKey })
const page: Route = route({
  methods: ['GET'],
  path: '/page',
  summary: '',
  auth: { session: ['admin', 'developer'] },
  limit: 'none',
  handle: async (ctx) => json(ctx.actor),
})

beforeAll(async () => {
  // As Supabase has it, as far as a session asks.
  await test.db.execute('create schema auth')
  await test.db.execute(
    'create table auth.users (id uuid primary key, raw_app_meta_data jsonb, banned_until timestamptz, deleted_at timestamptz)',
  )
})

async function account(role: string | null, more: Partial<AuthAccount> = {}): Promise<AuthAccount> {
  const id = randomUUID()
  await test.db.execute('insert into auth.users (id, raw_app_meta_data) values ($1::uuid, $2::jsonb)', [
    id,
    JSON.stringify(role === null ? {} : { caretaker_role: role }),
  ])
  return { id, email: 'ada@example.com', password: 'correct horse', ...more }
}

/** A sign-in as the account; `given` is what the form says. */
async function signIn(
  who: AuthAccount,
  given: { email?: string; password?: string; code?: string; network?: string } = {},
  overrides: Partial<Context> = {},
  cookie = '',
) {
  const ctx = testContext(test.db, { env, ...overrides })
  const double = supabaseAuth(who)
  doubles.use(...double.handlers)
  const signed = signInWithPassword(ctx, new Request('http://localhost/ops/sign-in', { headers: { cookie } }), {
    email: who.email,
    password: who.password,
    network: '203.0.113.7',
    ...given,
  })
  return { ctx, double, signed }
}

const visit = async (ctx: Context, [session]: readonly string[]) =>
  testServer([page], ctx).request('/page', { headers: { cookie: session?.split(';')[0] as string } })

describe('an account', () => {
  it("with a role opens a session of its own, and ends Supabase's", async () => {
    const who = await account('developer')
    const { ctx, double, signed } = await signIn(who, { email: ' Ada@Example.com ' })
    expect(await (await visit(ctx, await signed)).json()).toEqual({ type: 'operator', id: who.id, role: 'developer' })
    expect(double.calls).toEqual(['token?grant_type=password', 'logout?scope=local'])
  })

  it.each([
    ['its role is taken', `update auth.users set raw_app_meta_data = '{}' where id = $1::uuid`, 401],
    ['it is banned', `update auth.users set banned_until = now() + interval '1 day' where id = $1::uuid`, 401],
    ['it is deleted', 'delete from auth.users where id = $1::uuid', 401],
    ['its role is another', `update auth.users set raw_app_meta_data = '{"caretaker_role":"viewer"}' where id = $1::uuid`, 403],
    ['its role is none', `update auth.users set raw_app_meta_data = '{"caretaker_role":"root"}' where id = $1::uuid`, 403],
  ])('is out at once when %s', async (_what, sql, status) => {
    const who = await account('admin')
    const { ctx, signed } = await signIn(who)
    const cookie = await signed
    expect((await visit(ctx, cookie)).status).toBe(200)
    await test.db.execute(sql, [who.id])
    expect((await visit(ctx, cookie)).status).toBe(status)
  })

  it.each([
    ['a wrong password', { password: 'wrong' }],
    ['an unknown address', { email: 'eve@example.com' }],
    ['a guess at one that is banned', { password: 'wrong' }, 'user_banned'],
  ])('is not opened by %s, and all say the same', async (_what, given, refused?: string) => {
    const { ctx, signed } = await signIn(await account('admin', refused === undefined ? {} : { refused }), given)
    await expect(signed).rejects.toMatchObject({ code: 'unauthorized', detail: 'The e-mail address or the password is not right.' })
    expect(logLines(ctx).join('')).not.toMatch(/example\.com|wrong/)
  })

  it('without a role is told so, and no session of it is left anywhere', async () => {
    const { double, signed } = await signIn(await account(null))
    await expect(signed).rejects.toMatchObject({ code: 'forbidden', detail: expect.stringContaining('caretaker_role') })
    expect(double.calls).toContain('logout?scope=local')
  })

  it('that Supabase refuses is told why', async () => {
    const { signed } = await signIn(await account('admin', { refused: 'email_not_confirmed' }))
    await expect(signed).rejects.toMatchObject({ code: 'unauthorized', detail: expect.stringContaining('email_not_confirmed') })
  })

  it('that a stranger tries lets in who is on call, from their browser and from elsewhere; nobody guesses on', async () => {
    const who = await account('admin', { email: `${randomUUID()}@example.com` })
    const limiter = postgresLimiter(test.db, { now: () => new Date('2026-11-21T03:05:00Z') })
    const attempt = (network: string, password = who.password, cookie = '') => signIn(who, { network, password }, { limiter }, cookie)
    const refusal = async (given: ReturnType<typeof attempt>) =>
      (await given).signed.then(
        () => 'in',
        (error: { code: string }) => error.code,
      )
    const [, browser = ''] = await (await attempt('192.0.2.1')).signed
    expect(browser).toMatch(/^caretaker-browser=[\w-]{43}; Path=\/; Max-Age=15552000; HttpOnly; SameSite=Strict$/)
    const known = browser.split(';')[0] as string
    // One stranger: after ten attempts no more is even asked of Supabase, the right password included.
    for (let n = 0; n < 10; n++) expect(await refusal(attempt('198.51.100.1', `guess ${n}`))).toBe('unauthorized')
    const last = await attempt('198.51.100.1')
    await expect(last.signed).rejects.toMatchObject({ code: 'rate_limited', retryAfterSeconds: expect.any(Number) })
    expect(last.double.calls).toEqual([])
    // It was the stranger's own share.
    expect(await refusal(attempt('192.0.2.2'))).toBe('in')
    // Many strangers use up what the account has for browsers that nobody knows, and not a guess more.
    let guesses = 0
    for (let network = 2; network < 6; network++)
      for (let n = 0; n < 10; n++) if ((await refusal(attempt(`198.51.100.${network}`, 'guess'))) === 'unauthorized') guesses++
    expect(guesses).toBeLessThanOrEqual(20)
    expect(await refusal(attempt('192.0.2.3'))).toBe('rate_limited')
    // The browser in which the account has signed in before still lets it in, and is no way to guess, either.
    expect(await refusal(attempt('192.0.2.3', who.password, known))).toBe('in')
    const made = await refusal(attempt('192.0.2.3', who.password, `caretaker-browser=${'a'.repeat(43)}`))
    expect(made).toBe('rate_limited')
    for (let n = 0; n < 9; n++) await refusal(attempt('192.0.2.4', 'guess', known))
    expect(await refusal(attempt('192.0.2.4', who.password, known))).toBe('rate_limited')
  })

  it('is counted, from a browser that nobody knows, by its network, there and everywhere, its account and all together; else by the browser alone', async () => {
    const who = await account('admin', { email: `${randomUUID()}@example.com` })
    const hits: [string, number, number][] = []
    const limiter: Context['limiter'] = {
      hit: async (key, limit, seconds) => {
        hits.push([key, limit, seconds])
        return { allowed: true, limit, remaining: 1, resetSeconds: 1 }
      },
    }
    const [, browser = ''] = await (await signIn(who, {}, { limiter })).signed
    expect(hits).toEqual([
      [expect.stringMatching(/^sign-in\|[\w-]{43}\|network:203\.0\.113\.7$/), 10, 900],
      ['sign-in|network:203.0.113.7', 30, 900],
      [expect.stringMatching(/^sign-in\|[\w-]{43}$/), 30, 900],
      ['sign-in|others', 300, 900],
    ])
    hits.length = 0
    await (await signIn(who, {}, { limiter }, browser.split(';')[0])).signed
    expect(hits).toEqual([[expect.stringMatching(/^sign-in\|[\w-]{43}\|browser:[\w-]{43}$/), 10, 900]])
  })

  it('is let in where its browser cannot be remembered, such as before a migration', async () => {
    await test.db.execute('alter table caretaker.known_browsers rename to elsewhere')
    const { ctx, signed } = await signIn(await account('admin'), {}, {}, `caretaker-browser=${'a'.repeat(43)}`)
    const cookies = await signed.finally(() => test.db.execute('alter table caretaker.elsewhere rename to known_browsers'))
    expect([cookies.length, (await visit(ctx, cookies)).status]).toEqual([1, 200])
  })

  it('leaves nothing in the database by which its browsers or addresses could be known', async () => {
    const who = await account('admin', { email: 'grace@example.com' })
    const [, browser = ''] = await (await signIn(who)).signed
    const rows = JSON.stringify(await test.db.query('select b::text from caretaker.known_browsers b'))
    expect(rows).not.toMatch(/grace|example/)
    expect(rows).not.toContain(/=([\w-]+)/.exec(browser)?.[1])
  })
})

describe('a second factor', () => {
  const totp = { id: 'factor-1', factor_type: 'totp', status: 'verified' } as const
  const withFactor = () => account('admin', { factors: [{ ...totp, status: 'unverified', id: 'factor-0' }, totp], code: '123456' })

  it('is asked for where the account has one', async () => {
    const { signed, double } = await signIn(await withFactor())
    await expect(signed).rejects.toMatchObject({ code: 'unauthorized', detail: expect.stringContaining('authenticator app') })
    expect(double.calls).toEqual(['token?grant_type=password', 'logout?scope=local'])
  })

  it('lets in with its code, however it is typed', async () => {
    const { ctx, signed, double } = await signIn(await withFactor(), { code: '123 456' })
    expect((await visit(ctx, await signed)).status).toBe(200)
    expect(double.calls).toContain('factors/factor-1/verify')
  })

  it('keeps out with another code', async () => {
    const { signed } = await signIn(await withFactor(), { code: '000000' })
    await expect(signed).rejects.toMatchObject({ code: 'unauthorized', detail: 'The code of the authenticator app is not right.' })
  })

  it('of a kind that a form cannot ask for is said', async () => {
    const { signed } = await signIn(await account('admin', { factors: [{ ...totp, factor_type: 'phone' }] }))
    await expect(signed).rejects.toMatchObject({ code: 'forbidden', detail: expect.stringContaining('sign in with a key') })
  })

  it('that was begun and never finished is none', async () => {
    const { signed } = await signIn(await account('admin', { factors: [{ ...totp, status: 'unverified' }] }))
    expect((await signed)[0]).toContain('caretaker-session=')
  })
})

describe('Supabase Auth', () => {
  it.each([
    [500, 'upstream_failed'],
    [429, 'rate_limited'],
  ])('answering %d is said to be %s', async (status, code) => {
    const ctx = testContext(test.db, { env })
    doubles.use(...supabaseAuth(await account('admin'), { status }).handlers)
    await expect(
      signInWithPassword(ctx, new Request('http://localhost/'), { email: 'ada@example.com', password: 'correct horse', network: '::' }),
    ).rejects.toMatchObject({ code })
  })

  it('that cannot be reached is said, and so is one that is not there', async () => {
    const fetch = () => Promise.reject(new TypeError('fetch failed'))
    const given = { email: 'ada@example.com', password: 'correct horse', network: '::' }
    await expect(signInWithPassword(testContext(test.db, { env, fetch }), new Request('http://localhost/'), given)).rejects.toMatchObject({
      code: 'upstream_failed',
    })
    await expect(signInWithPassword(testContext(test.db), new Request('http://localhost/'), given)).rejects.toMatchObject({
      code: 'not_configured',
    })
  })
})
