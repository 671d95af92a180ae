import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import { processRequestsJob } from '../../lib/gdpr/index.ts'
import { keyHash } from '../../lib/http/credentials.ts'
import { fixedClock, systemClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { gdpr } from '../../lib/routes/gdpr.ts'
import { installExample } from '../../local/example.ts'
import { type LocalServer, serve } from '../../local/server.ts'
import { createSigningKey, createTokens, type Tokens } from '../../local/supabase/keys.ts'
import { createSupabase } from '../../local/supabase/server.ts'
import { type MailState, sendgridMail } from '../doubles/sendgrid-mail.ts'
import { unzip } from '../gdpr/export/unzip.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { bearer, testServer } from '../support/serve.ts'

const test = useTestDatabase({ template: 'template0' })
const day = 86_400_000
const run = { shouldHandOver: () => false } as Parameters<typeof processRequestsJob>[1]
let server: LocalServer
let files: string
let tokens: Tokens
let service: SupabaseClient
let mail: MailState

beforeAll(async () => {
  await installExample(test.db, 'canai', { rows: 300 })
  await applyMigrations(test.db)
  files = await mkdtemp(join(tmpdir(), 'gdpr-routes-'))
  tokens = createTokens(createSigningKey(), systemClock)
  let answer: (request: Request) => Promise<Response> = () => Promise.reject(new Error('not ready'))
  server = await serve({ port: 0, handle: (request) => answer(request) })
  answer = createSupabase({ db: test.db, tokens, clock: systemClock, url: server.url, filesDirectory: files })
  service = createClient(server.url, tokens.sign({ role: 'service_role' }, 600), {
    auth: { persistSession: false, autoRefreshToken: false },
  })
  for (const [key, role] of [
    ['ck_support', 'support'],
    ['ck_viewer', 'viewer'],
  ] as const)
    await test.db.execute('insert into caretaker.api_keys (name, hash, role) values ($1, $2::bytea, $1)', [role, keyHash(key)])
})
afterAll(async () => {
  await server.stop()
  await rm(files, { recursive: true })
})
beforeEach(async () => {
  mail = { key: 'SG.key-of-the-test', sender: 'privacy@canai.example', sent: [] }
  doubles.use(...sendgridMail(mail))
  await test.db.execute('truncate caretaker.gdpr_requests, caretaker.outbox, caretaker.runs, caretaker.rate_limits cascade')
})

type Requests = NonNullable<NonNullable<Parameters<typeof defineConfig>[0]['gdpr']>['requests']>

function context(requests: Requests = {}, overrides: Partial<Context> = {}): Context {
  return testContext(test.db, {
    config: defineConfig({ app: { name: 'CanAI' }, gdpr: { subject: { table: 'auth.users', id: 'id', email: 'email' }, requests } }),
    env: readEnv({
      ENCRYPTION_KEY: 'ab'.repeat(32),
      SENDGRID_API_KEY: mail.key,
      SENDGRID_FROM_EMAIL: mail.sender,
      PUBLIC_URL: 'https://ops.canai.example/',
    }),
    supabase: () => Promise.resolve(service),
    ...overrides,
  })
}

let people = 0
/** A new person who has just signed in. */
async function person(): Promise<{ id: string; email: string; token: string }> {
  const email = `person-${++people}@people.example`
  const client = createClient(server.url, tokens.sign({ role: 'anon' }, 600), { auth: { persistSession: false, autoRefreshToken: false } })
  await client.auth.signUp({ email, password: 'correct horse' })
  const { data } = await client.auth.signInWithPassword({ email, password: 'correct horse' })
  if (data.session === null) throw new Error('not signed in')
  return { id: data.session.user.id, email, token: data.session.access_token }
}

async function call(ctx: Context, path: string, token?: string, body?: unknown, method = 'POST') {
  const response = await testServer(gdpr({ wake: () => Promise.resolve() }), ctx).request(path, {
    method,
    headers: {
      ...(token === undefined ? {} : bearer(token).headers),
      ...(method === 'POST' ? { 'content-type': 'application/json' } : {}),
    },
    ...(method === 'POST' ? { body: JSON.stringify(body ?? {}) } : {}),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> & { id: string } }
}

const stored = (id: string) =>
  test.db.query('select state, reason, verified_by, review, subject from caretaker.gdpr_requests where id = $1::uuid', [id])
const topics = async () =>
  (await test.db.query<{ topic: string }>('select topic from caretaker.outbox order by id')).map((row) => row.topic)

describe('who asks', () => {
  it('by their own token is verified, and neither ledger nor audit trail names them', async () => {
    const ada = await person()
    const { status, body } = await call(context(), '/api/gdpr/export', ada.token)
    expect(status).toBe(202)
    expect(body).toMatchObject({ kind: 'export', state: 'verified', verifiedBy: 'token', joined: false })
    const [written] = await test.db.query<{ text: string }>(
      `select (select coalesce(string_agg(r::text, ''), '') from caretaker.runs r) || (select string_agg(a::text, '') from caretaker.audit a)
         || (select string_agg(o::text, '') from caretaker.outbox o) as text`,
    )
    expect(written?.text).toContain(body.id)
    expect(written?.text).not.toContain(ada.id)
    expect(written?.text).not.toContain(ada.email)
  })

  it('to be erased must have signed in within minutes: refreshing the token does not help', async () => {
    const ada = await person()
    const later = context({}, { clock: fixedClock(new Date(Date.now() + 11 * 60_000)) })
    expect(await call(later, '/api/gdpr/delete', ada.token)).toMatchObject({ status: 401, body: { code: 'reauthentication_required' } })
    expect(await call(later, '/api/gdpr/export', ada.token)).toMatchObject({ status: 202 })
    const patient = context({ freshSignIn: '1 hour' }, { clock: later.clock })
    expect(await call(patient, '/api/gdpr/delete', ada.token)).toMatchObject({ status: 202 })
  })

  it.each(['export', 'delete'])('with the token of a user who was deleted, is refused (%s)', async (verb) => {
    const ada = await person()
    await service.auth.admin.deleteUser(ada.id)
    expect(await call(context(), `/api/gdpr/${verb}`, ada.token)).toMatchObject({ status: 401, body: { code: 'unauthorized' } })
  })

  it('to be erased with the token of a session that was signed out, is refused', async () => {
    const ada = await person()
    await service.auth.admin.signOut(ada.token)
    expect(await call(context(), '/api/gdpr/delete', ada.token)).toMatchObject({ status: 401, body: { code: 'unauthorized' } })
  })

  it.each([
    ['a viewer', 'ck_viewer', 403],
    ['nobody', undefined, 401],
    ['a key that is none', 'ck_other', 401],
  ])('as %s is refused', async (_who, key, status) => {
    const ada = await person()
    expect((await call(context(), '/api/gdpr/delete', key, { subject: ada.id })).status).toBe(status)
    expect((await call(context(), '/api/gdpr/export', key, { subject: ada.id })).status).toBe(status)
  })

  it('with the token of a session that was signed out gets neither a copy nor its file', async () => {
    const ada = await person()
    const ctx = context()
    const { body } = await call(ctx, '/api/gdpr/export', ada.token)
    await test.db.execute(
      `update caretaker.gdpr_requests set state = 'done', subject = null, receipt = '{"object":"k"}', file_expires_at = now() + interval '1 day'`,
    )
    await test.db.execute('delete from auth.sessions where user_id = $1::uuid', [ada.id])
    expect((await call(ctx, `/api/gdpr/requests/${body.id}/file`, ada.token, undefined, 'GET')).status).toBe(401)
    expect((await call(ctx, '/api/gdpr/export', ada.token)).status).toBe(401)
  })

  it('for somebody else is refused, and another person cannot see, take back or decide the request', async () => {
    const [ada, bob] = [await person(), await person()]
    expect((await call(context(), '/api/gdpr/delete', ada.token, { subject: bob.id })).status).toBe(403)
    const { body } = await call(context(), '/api/gdpr/export', bob.token)
    expect((await call(context(), `/api/gdpr/requests/${body.id}`, ada.token, undefined, 'GET')).status).toBe(404)
    expect((await call(context(), `/api/gdpr/requests/${body.id}/withdraw`, ada.token)).status).toBe(404)
    expect((await call(context(), `/api/gdpr/requests/${body.id}/approve`, bob.token)).status).toBe(403)
    expect((await call(context(), `/api/gdpr/requests/${body.id}`, bob.token, undefined, 'GET')).body).toMatchObject({ state: 'verified' })
  })

  it.each(["'; drop table caretaker.gdpr_requests; --", '\u0000', '%', '{"$ne":null}'])(
    'SQL and the like in every field is just a wrong value: %j',
    async (nasty) => {
      const ctx = context()
      expect((await call(ctx, '/api/gdpr/delete', 'ck_support', { subject: nasty })).status).toBeOneOf([404, 422])
      expect((await call(ctx, `/api/gdpr/requests/${encodeURIComponent(nasty)}`, 'ck_support', undefined, 'GET')).status).toBe(404)
      expect((await call(ctx, '/api/gdpr/confirm', undefined, { code: nasty })).status).toBe(422)
      expect((await call(ctx, '/api/gdpr/code', undefined, { kind: 'erase', email: nasty })).status).toBe(422)
      expect((await call(ctx, '/api/gdpr/export', 'ck_support', { subject: 'x', [nasty]: nasty })).status).toBe(422)
    },
  )
})

describe('a request that is held', () => {
  it('for its grace period is not carried out, can be taken back, and begins after it', async () => {
    const ada = await person()
    const clock = fixedClock(new Date())
    const ctx = context({ grace: '7 days' }, { clock })
    const { body } = await call(ctx, '/api/gdpr/delete', ada.token)
    expect(new Date(body.notBefore as string).getTime()).toBe(clock.now().getTime() + 7 * day)
    expect(await processRequestsJob(ctx, run)).toMatchObject({ result: { done: 0 } })
    expect(await call(ctx, `/api/gdpr/requests/${body.id}/withdraw`, ada.token)).toMatchObject({
      status: 200,
      body: { state: 'refused', reason: 'withdrawn' },
    })
    expect((await call(ctx, `/api/gdpr/requests/${body.id}/withdraw`, ada.token)).status).toBe(409)
    expect(await stored(body.id)).toMatchObject([{ subject: null }])
    const again = await call(ctx, '/api/gdpr/delete', ada.token)
    clock.advance(7 * day)
    expect(await processRequestsJob(ctx, run)).toMatchObject({ result: { done: 1 } })
    expect(await stored(again.body.id)).toMatchObject([{ state: 'done', subject: null }])
    expect(await test.db.query('select from auth.users where id = $1::uuid', [ada.id])).toHaveLength(0)
  })

  it('for a review waits for an operator, who approves or refuses with the reason', async () => {
    const [ada, bob] = [await person(), await person()]
    const ctx = context({ review: true })
    const [one, two] = [await call(ctx, '/api/gdpr/delete', ada.token), await call(ctx, '/api/gdpr/delete', bob.token)]
    expect(one.body).toMatchObject({ review: 'needed' })
    expect(await processRequestsJob(ctx, run)).toMatchObject({ result: { done: 0 } })
    expect((await call(ctx, `/api/gdpr/requests/${two.body.id}/refuse`, 'ck_support', {})).status).toBe(422)
    expect(
      await call(ctx, `/api/gdpr/requests/${two.body.id}/refuse`, 'ck_support', { reason: 'An open dispute (Art. 17(3)(e)).' }),
    ).toMatchObject({
      body: { state: 'refused', reason: 'An open dispute (Art. 17(3)(e)).' },
    })
    expect(await call(ctx, `/api/gdpr/requests/${one.body.id}/approve`, 'ck_support')).toMatchObject({ body: { review: 'approved' } })
    expect((await call(ctx, `/api/gdpr/requests/${one.body.id}/approve`, 'ck_support')).status).toBe(409)
    expect(await processRequestsJob(ctx, run)).toMatchObject({ result: { done: 1 } })
    expect(await stored(one.body.id)).toMatchObject([{ state: 'done' }])
    expect(await test.db.query('select from auth.users where id = $1::uuid', [bob.id])).toHaveLength(1)
    expect((await topics()).filter((topic) => /approved|refused/.test(topic))).toEqual(['gdpr.refused', 'gdpr.approved'])
  })
})

describe('a deadline', () => {
  it('is reminded of at 7 and 2 days and when it has passed, once each', async () => {
    const ada = await person()
    const clock = fixedClock('2026-11-21T10:00:00Z')
    const ctx = context({ review: true }, { clock })
    // The token is of today; what is about the deadline is not.
    await test.db.execute(
      `insert into caretaker.gdpr_requests (kind, state, subject, subject_hash, requested_by, received_at, due_at, review)
       values ('export', 'verified', $1, 'hash', '{}', '2026-11-21T10:00:00Z', '2026-12-21T10:00:00Z', 'needed')`,
      [ada.id],
    )
    const said: string[][] = []
    for (const days of [22.9, 0.2, 1, 3.8, 0.2, 1, 1, 1]) {
      clock.advance(days * day)
      await test.db.execute('truncate caretaker.outbox')
      await processRequestsJob(ctx, run)
      said.push(await topics())
    }
    expect(said).toEqual([[], ['gdpr.due_soon'], [], [], ['gdpr.due_soon'], [], ['gdpr.overdue'], []])
  })

  it('is extended once, by two months, within the first', async () => {
    const clock = fixedClock('2026-11-30T10:00:00Z')
    const ctx = context({}, { clock })
    const ada = await person()
    const { body } = await call(ctx, '/api/gdpr/export', 'ck_support', { subject: ada.id })
    expect(body.dueAt).toBe('2026-12-30T10:00:00.000Z')
    const path = `/api/gdpr/requests/${body.id}/extend`
    expect(await call(ctx, path, 'ck_support', { reason: 'Many systems are involved.' })).toMatchObject({
      body: { dueAt: '2027-02-28T10:00:00.000Z', extensionReason: 'Many systems are involved.' },
    })
    expect((await call(ctx, path, 'ck_support', { reason: 'Still many.' })).status).toBe(409)
    const [event] = await test.db.query<{ payload: Record<string, unknown> }>(
      `select payload from caretaker.outbox where topic = 'gdpr.extended'`,
    )
    expect(event?.payload).toMatchObject({ tellPersonBy: '2026-12-30T10:00:00.000Z' })
    const late = await call(ctx, '/api/gdpr/delete', 'ck_support', { subject: ada.id })
    clock.advance(31 * day)
    expect((await call(ctx, `/api/gdpr/requests/${late.body.id}/extend`, 'ck_support', { reason: 'Too late now.' })).status).toBe(409)
  })
})

describe('a mailed code', () => {
  const codeIn = (text: string) => /confirm#([\w-]{32})\n/.exec(text)?.[1] ?? 'none'

  it('verifies who cannot sign in, once; nothing tells whether an address is known', async () => {
    const ada = await person()
    const ctx = context()
    const known = await call(ctx, '/api/gdpr/code', undefined, { kind: 'erase', email: ada.email.toUpperCase() })
    const unknown = await call(ctx, '/api/gdpr/code', undefined, { kind: 'erase', email: 'nobody@people.example' })
    expect(known).toEqual(unknown)
    expect(await test.db.query('select state, subject from caretaker.gdpr_requests')).toEqual([
      { state: 'received', subject: null },
      { state: 'received', subject: null },
    ])
    await processRequestsJob(ctx, run)
    expect(mail.sent.map(({ to }) => to)).toEqual([ada.email])
    expect(await test.db.query('select from caretaker.gdpr_requests')).toHaveLength(1)
    const code = codeIn(mail.sent[0]?.text ?? '')
    expect(
      (await call(ctx, '/api/gdpr/confirm', undefined, { code: `${code.slice(0, -1)}${code.endsWith('A') ? 'B' : 'A'}` })).status,
    ).toBe(403)
    const confirmed = await call(ctx, '/api/gdpr/confirm', undefined, { code })
    expect(confirmed).toMatchObject({ status: 202, body: { kind: 'erase', state: 'verified', verifiedBy: 'link' } })
    expect((await call(ctx, '/api/gdpr/confirm', undefined, { code })).status).toBe(403)
    expect(await processRequestsJob(ctx, run)).toMatchObject({ result: { done: 1 } })
    expect(await stored(confirmed.body.id)).toMatchObject([{ state: 'done', subject: null }])
  })

  it('is mailed again at the earliest after a quarter of an hour, and after SendGrid refused', async () => {
    const ada = await person()
    const clock = fixedClock(new Date())
    const ctx = context({}, { clock })
    const ask = async () => {
      await call(ctx, '/api/gdpr/code', undefined, { kind: 'export', email: ada.email })
      await processRequestsJob(ctx, run)
    }
    mail.failWith = 500
    await ask()
    expect(mail.sent).toHaveLength(0)
    delete mail.failWith
    await ask()
    await ask()
    expect(mail.sent).toHaveLength(1)
    clock.advance(16 * 60_000)
    await ask()
    expect(mail.sent).toHaveLength(2)
    expect((await call(ctx, '/api/gdpr/confirm', undefined, { code: codeIn(mail.sent[0]?.text ?? '') })).status).toBe(403)
    expect((await call(ctx, '/api/gdpr/confirm', undefined, { code: codeIn(mail.sent[1]?.text ?? '') })).status).toBe(202)
  })

  it('for an address that no database can hold, or that cannot be read any more, holds nobody up', async () => {
    const ada = await person()
    const ctx = context()
    expect((await call(ctx, '/api/gdpr/code', undefined, { kind: 'export', email: 'a\u0000b@people.example' })).status).toBe(422)
    await test.db.execute(
      `insert into caretaker.gdpr_requests (kind, state, subject_hash, requested_by, received_at, due_at, named)
       values ('export', 'received', 'h', '{}', now(), now() + interval '1 month', '\\x0102')`,
    )
    await call(ctx, '/api/gdpr/delete', ada.token)
    await test.db.execute(
      `insert into caretaker.gdpr_requests (kind, state, subject_hash, requested_by, received_at, due_at, named, file_expires_at)
       values ('export', 'done', 'i', '{}', now(), now() + interval '1 month', '\\x0102', now() + interval '1 day')`,
    )
    expect(await processRequestsJob(ctx, run)).toMatchObject({ status: 'done', result: { done: 1, failed: [], announced: 0 } })
    expect(await test.db.query(`select from caretaker.gdpr_requests where state = 'received' or named is not null`)).toEqual([])
  })

  it('that SendGrid never takes is forgotten after a day of attempts', async () => {
    const ada = await person()
    const clock = fixedClock(new Date())
    const ctx = context({}, { clock })
    mail.failWith = 400
    await call(ctx, '/api/gdpr/code', undefined, { kind: 'export', email: ada.email })
    for (const hours of [0, 12, 11]) {
      clock.advance((hours * day) / 24)
      await processRequestsJob(ctx, run)
      expect(await test.db.query('select from caretaker.gdpr_requests')).toHaveLength(1)
    }
    clock.advance((2 * day) / 24)
    await processRequestsJob(ctx, run)
    expect(await test.db.query('select from caretaker.gdpr_requests')).toEqual([])
  })

  it('confirmed at the same moment as another is one request', async () => {
    const ada = await person()
    const ctx = context()
    const codes = Array.from({ length: 4 }, (_, n) => String(n).repeat(32))
    for (const code of codes)
      await test.db.execute(
        `insert into caretaker.gdpr_requests (kind, state, subject, subject_hash, requested_by, received_at, due_at, code_hash, code_expires_at)
         values ('export', 'received', $1, $2, '{}', now(), now() + interval '1 month', $3::bytea, now() + interval '1 hour')`,
        [ada.id, code, createHash('sha256').update('caretaker:gdpr-code:v1\0').update(code).digest()],
      )
    const confirmed = await Promise.all([
      ...codes.map((code) => call(ctx, '/api/gdpr/confirm', undefined, { code })),
      call(ctx, '/api/gdpr/export', ada.token),
    ])
    expect(confirmed.map(({ status }) => status).filter((status) => status > 202)).toEqual([])
    expect(new Set(confirmed.map(({ body }) => body.id)).size).toBe(1)
    expect(await test.db.query('select from caretaker.gdpr_requests')).toHaveLength(1)
  })

  it('is worth nothing after a day, and the request is forgotten', async () => {
    const ada = await person()
    const clock = fixedClock(new Date())
    const ctx = context({}, { clock })
    await call(ctx, '/api/gdpr/code', undefined, { kind: 'erase', email: ada.email })
    await processRequestsJob(ctx, run)
    clock.advance(day + 1_000)
    expect((await call(ctx, '/api/gdpr/confirm', undefined, { code: codeIn(mail.sent[0]?.text ?? '') })).status).toBe(403)
    await processRequestsJob(ctx, run)
    expect(await test.db.query('select from caretaker.gdpr_requests')).toEqual([])
  })

  it('joins the request that is open already', async () => {
    const ada = await person()
    const ctx = context({ review: true })
    const { body } = await call(ctx, '/api/gdpr/export', ada.token)
    await call(ctx, '/api/gdpr/code', undefined, { kind: 'export', email: ada.email })
    await processRequestsJob(ctx, run)
    const confirmed = await call(ctx, '/api/gdpr/confirm', undefined, { code: codeIn(mail.sent[0]?.text ?? '') })
    expect(confirmed.body.id).toBe(body.id)
    expect(await test.db.query('select from caretaker.gdpr_requests')).toHaveLength(1)
  })

  it('is not offered where no mail can be sent', async () => {
    const ctx = context({}, { env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32) }) })
    expect(await call(ctx, '/api/gdpr/code', undefined, { kind: 'erase', email: 'a@b.example' })).toMatchObject({
      status: 503,
      body: { code: 'not_configured' },
    })
  })

  it('is entered on a page that does nothing by being opened', async () => {
    const ctx = context()
    const response = await testServer(gdpr(), ctx).request('/api/gdpr/confirm')
    expect(response.headers.get('content-security-policy')).toMatch(/script-src 'sha256-[\w+/=]{44}'/)
    expect(await response.text()).toContain('<h1>Confirm your request</h1>')
  })
})

describe('corrections and consents', () => {
  it('are the person’s own, by their token', async () => {
    const [ada, bob] = [await person(), await person()]
    await test.db.execute(`create table if not exists public.profiles (id uuid primary key references auth.users, nickname text)`)
    for (const { id } of [ada, bob]) await test.db.execute(`insert into public.profiles values ($1::uuid, 'wrong')`, [id])
    const ctx = context()
    const described = {
      ...ctx,
      config: defineConfig({
        app: { name: 'CanAI' },
        gdpr: {
          subject: { table: 'auth.users', id: 'id', email: 'email' },
          tables: { profiles: { rectify: ['nickname'] } },
          consent: { news: { version: '1', text: 'News now and then.' } },
        },
      }),
    }
    const correction = { corrections: [{ column: 'profiles.nickname', value: 'Ada' }] }
    expect((await call(described, '/api/gdpr/rectify', bob.token, { ...correction, subject: ada.id })).status).toBe(403)
    expect((await call(described, '/api/gdpr/rectify', 'ck_viewer', { ...correction, subject: ada.id })).status).toBe(403)
    expect(await call(described, '/api/gdpr/rectify', ada.token, correction)).toMatchObject({
      status: 200,
      body: { kind: 'rectify', changed: [{ column: 'public.profiles.nickname', rows: 1 }] },
    })
    expect(
      await test.db.query('select nickname from public.profiles where id = any($1::uuid[]) order by nickname', [[ada.id, bob.id]]),
    ).toEqual([{ nickname: 'Ada' }, { nickname: 'wrong' }])
    const news = { purpose: 'news', version: '1', given: true, source: 'sign-up form' }
    expect((await call(described, '/api/gdpr/consent', ada.token, news)).body).toMatchObject({ given: true })
    expect((await call(described, '/api/gdpr/consent', ada.token, undefined, 'GET')).body).toMatchObject({
      consents: [{ purpose: 'news', given: true }],
    })
    expect((await call(described, '/api/gdpr/consent', bob.token, undefined, 'GET')).body).toMatchObject({
      consents: [{ purpose: 'news', given: null }],
    })
    expect((await call(described, `/api/gdpr/consent?subject=${ada.id}`, bob.token, undefined, 'GET')).status).toBe(403)
  })
})

describe('the file of an export', () => {
  async function withStore(requests: Requests = {}, overrides: Partial<Context> = {}) {
    const objects = await openObjectStore(`file://${await mkdtemp(join(files, 'store-'))}`, readEnv({}))
    return { ctx: context(requests, { objects: () => Promise.resolve(objects), ...overrides }), objects }
  }
  const fetchFile = (ctx: Context, id: string, token: string) =>
    testServer(gdpr(), ctx).request(`/api/gdpr/requests/${id}/file`, bearer(token))

  it('is fetched by its person until its time is over, by nobody else, and each fetch is written down', async () => {
    const clock = fixedClock(new Date())
    const { ctx } = await withStore({ exportFile: '1 day' }, { clock })
    const [ada, bob] = [await person(), await person()]
    const { body } = await call(ctx, '/api/gdpr/export', ada.token)
    expect((await fetchFile(ctx, body.id, ada.token)).status).toBe(404)
    await processRequestsJob(ctx, run)
    const fetched = await fetchFile(ctx, body.id, ada.token)
    expect(fetched.headers.get('content-disposition')).toContain('attachment')
    const archive = await unzip(Buffer.from(await fetched.arrayBuffer()))
    expect(archive.get('data/auth.users.json')?.toString()).toContain(ada.email)
    expect((await fetchFile(ctx, body.id, bob.token)).status).toBe(404)
    expect((await fetchFile(ctx, body.id, 'ck_viewer')).status).toBe(403)
    expect(
      await test.db.query(`select from caretaker.audit where action = 'gdpr.export_fetched' and detail ->> 'request' = $1`, [body.id]),
    ).toHaveLength(1)
    clock.advance(day)
    expect((await fetchFile(ctx, body.id, 'ck_support')).status).toBe(404)
  })

  it('is gone when the person is erased', async () => {
    const { ctx, objects } = await withStore()
    const ada = await person()
    const { body } = await call(ctx, '/api/gdpr/export', ada.token)
    await processRequestsJob(ctx, run)
    await call(ctx, '/api/gdpr/delete', 'ck_support', { subject: ada.id })
    await processRequestsJob(ctx, run)
    expect(await objects.head(`gdpr/exports/${body.id}.zip`)).toBeNull()
    expect((await fetchFile(ctx, body.id, 'ck_support')).status).toBe(404)
  })

  it('is redirected to where the store has an address', async () => {
    const { ctx, objects } = await withStore()
    const ada = await person()
    const { body } = await call(ctx, '/api/gdpr/export', ada.token)
    await processRequestsJob(ctx, run)
    const elsewhere = {
      ...objects,
      head: (key: string) => objects.head(key),
      downloadUrl: () => Promise.resolve('https://store.example/signed'),
    }
    const response = await fetchFile({ ...ctx, objects: () => Promise.resolve(elsewhere) }, body.id, ada.token)
    expect([response.status, response.headers.get('location')]).toEqual([303, 'https://store.example/signed'])
  })

  it('that was asked for by mail is announced by mail, once, and fetched with the code', async () => {
    const { ctx } = await withStore()
    const ada = await person()
    await call(ctx, '/api/gdpr/code', undefined, { kind: 'export', email: ada.email })
    await processRequestsJob(ctx, run)
    await call(ctx, '/api/gdpr/confirm', undefined, { code: /confirm#([\w-]{32})\n/.exec(mail.sent[0]?.text ?? '')?.[1] })
    await processRequestsJob(ctx, run)
    await processRequestsJob(ctx, run)
    expect(mail.sent.map(({ to }) => to)).toEqual([ada.email, ada.email])
    const code = /download#([\w-]{32})\n/.exec(mail.sent[1]?.text ?? '')?.[1]
    const response = await testServer(gdpr(), ctx).request('/api/gdpr/download', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ code }),
    })
    expect(response.headers.get('content-type')).toBe('application/zip')
    expect((await unzip(Buffer.from(await response.arrayBuffer()))).has('index.html')).toBe(true)
    expect((await call(ctx, '/api/gdpr/download', undefined, { code: 'x'.repeat(32) })).status).toBe(403)
    expect(await test.db.query('select named, subject from caretaker.gdpr_requests')).toEqual([{ named: null, subject: null }])
  })
})
