import { createHmac, randomBytes } from 'node:crypto'
import { Webhook } from 'standardwebhooks'
import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput, type WebhookEvent } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { namedSecrets } from '../../lib/platform/named-secrets.ts'
import { parseWebhookSecrets, signWebhook } from '../../lib/platform/standard-webhooks.ts'
import { webhooks } from '../../lib/routes/webhooks.ts'
import { listInbox, processInbox } from '../../lib/webhooks/index.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'

const test = useTestDatabase()
const clock = fixedClock(new Date())
const now = Math.floor(clock.now().getTime() / 1000)
const secrets = Object.fromEntries(
  ['clerk', 'memberstack', 'supabase', 'old'].map((name) => [name, `whsec_${randomBytes(24).toString('base64')}`]),
)
const githubSecret = "It's a Secret, to Everybody"
const ed25519 = `whsk_${randomBytes(32).toString('base64')}`

let seen: WebhookEvent[]
const note = async (event: WebhookEvent) => void seen.push(event)

const sources = {
  clerk: { on: { 'user.created': note, 'user.updated': note } },
  memberstack: { on: { 'member.created': note } },
  supabase: { kind: 'supabase', on: { send_email: note, send_sms: note } },
  github: { kind: 'github', on: { 'pull_request.opened': note, push: note } },
  edward: { on: { 'a.b': note } },
} satisfies NonNullable<NonNullable<PolicyInput['webhooks']>['sources']>

const ctx = () =>
  testContext(test.db, {
    clock,
    config: defineConfig({ app: { name: 'Test' }, webhooks: { sources } }),
    env: readEnv({
      ENCRYPTION_KEY: 'ab'.repeat(32),
      WEBHOOK_SECRETS: `clerk=${secrets.old}, clerk=${secrets.clerk},memberstack=${secrets.memberstack},supabase=v1,${secrets.supabase},github=${githubSecret},edward=${ed25519}`,
    }),
    deadline: new Date(clock.now().getTime() + 86_400_000),
  })

async function post(path: string, body: string, headers: Record<string, string>) {
  const context = ctx()
  const { request } = testServer(webhooks({ wake: () => Promise.resolve() }), context)
  const answer = await request(`/api/webhooks/${path}`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  })
  const text = await answer.text()
  return { status: answer.status, text, code: answer.ok ? undefined : (JSON.parse(text) as { code: string }).code }
}

function standard(id: string, body: string, secret: string | undefined, prefix = 'webhook'): Record<string, string> {
  return {
    [`${prefix}-id`]: id,
    [`${prefix}-timestamp`]: String(now),
    [`${prefix}-signature`]: new Webhook(secret ?? '').sign(id, new Date(now * 1000), body),
  }
}

beforeEach(async () => {
  seen = []
  await test.db.execute('truncate caretaker.inbox, caretaker.inbox_objects')
})

describe('Standard Webhooks', () => {
  it("come from Clerk under Svix's names, with either of two secrets", async () => {
    const body = JSON.stringify({
      data: { id: 'user_1', first_name: 'Ada' },
      object: 'event',
      type: 'user.created',
      timestamp: now * 1000,
      instance_id: 'ins_1',
    })
    expect(await post('clerk', body, standard('msg_1', body, secrets.clerk, 'svix'))).toMatchObject({ status: 200 })
    expect(await post('clerk', body, standard('msg_2', body, secrets.old))).toMatchObject({ status: 200 })
    expect(await post('clerk', body, standard('msg_1', body, secrets.clerk))).toMatchObject({
      text: expect.stringContaining('"duplicate":true'),
    })
    await processInbox(ctx())
    expect(seen).toHaveLength(2)
    expect(seen[0]).toMatchObject({
      id: 'msg_1',
      type: 'user.created',
      created: now,
      instance_id: 'ins_1',
      data: { object: { id: 'user_1', first_name: 'Ada' } },
    })
  })

  it('come from Memberstack, which calls the type "event" and the object "payload"', async () => {
    const body = JSON.stringify({
      event: 'member.created',
      timestamp: now * 1000,
      payload: { id: 'mem_1', auth: { email: 'ada@example.com' } },
    })
    expect(await post('memberstack', body, standard('msg_m', body, secrets.memberstack, 'svix'))).toMatchObject({ status: 200 })
    await processInbox(ctx())
    expect(seen).toMatchObject([{ type: 'member.created', data: { object: { id: 'mem_1' } } }])
  })

  it("are applied by their object, in the order of the provider's time, and come as they were sent when late", async () => {
    const body = (type: string, at: number) => JSON.stringify({ type, timestamp: at, data: { id: 'user_o', at } })
    const send = async (id: string, type: string, at: number) => {
      const text = body(type, at)
      expect(await post('clerk', text, standard(id, text, secrets.clerk))).toMatchObject({ status: 200 })
    }
    await send('msg_b', 'user.updated', now * 1000 + 2)
    await send('msg_a', 'user.created', now * 1000)
    await processInbox(ctx())
    await send('msg_c', 'user.updated', now * 1000 + 1)
    await processInbox(ctx())
    expect(seen.map(({ id, data }) => [id, Number(data.object.at) - now * 1000])).toEqual([
      ['msg_a', 0],
      ['msg_b', 2],
      ['msg_c', 1],
    ])
  })

  it('are signed with ed25519 too', async () => {
    const body = JSON.stringify({ type: 'a.b', data: {} })
    const headers = { ...signWebhook(parseWebhookSecrets(ed25519, 'the test'), { id: 'msg_ed', timestamp: clock.now(), body }) }
    expect(headers['webhook-signature']).toMatch(/^v1a,/)
    expect(await post('edward', body, headers)).toMatchObject({ status: 200 })
    expect(await post('edward', `${body} `, headers)).toMatchObject({ status: 400, code: 'signature_invalid' })
  })

  it("come from Supabase's hooks that send something, answered as they want it; one that asks for a decision is refused", async () => {
    const mail = JSON.stringify({ user: { id: 'u1', email: 'ada@example.com' }, email_data: { token: '123456' } })
    expect(await post('supabase', mail, standard('msg_s1', mail, secrets.supabase))).toMatchObject({ status: 200, text: '{}' })
    const sms = JSON.stringify({ user: { id: 'u1', phone: '14158675309' }, sms: { otp: '123456' } })
    expect(await post('supabase', sms, standard('msg_s2', sms, secrets.supabase))).toMatchObject({ status: 200, text: '{}' })
    const decision = JSON.stringify({ user_id: 'u1', claims: {} })
    expect(await post('supabase', decision, standard('msg_s3', decision, secrets.supabase))).toMatchObject({
      status: 400,
      code: 'bad_request',
    })
    await processInbox(ctx())
    expect(seen.map(({ type }) => type)).toEqual(['send_email', 'send_sms'])
  })

  it('are refused without a type, of another source, or without a secret', async () => {
    const body = JSON.stringify({ type: 'user.created', data: {} })
    expect(await post('clerk', '{"data":{}}', standard('msg_x', '{"data":{}}', secrets.clerk))).toMatchObject({
      status: 400,
      code: 'bad_request',
    })
    expect(await post('clerk', body, standard('msg_x', body, secrets.memberstack))).toMatchObject({
      status: 400,
      code: 'signature_invalid',
    })
    expect(await post('clerks', body, standard('msg_x', body, secrets.clerk))).toMatchObject({ status: 404 })
    const context = ctx()
    const bare = testServer(webhooks(), { ...context, env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32) }) })
    expect(
      (
        await bare.request('/api/webhooks/clerk', {
          method: 'POST',
          body,
          headers: { 'content-type': 'application/json', ...standard('msg_x', body, secrets.clerk) },
        })
      ).status,
    ).toBe(503)
    expect(await listInbox(ctx())).toEqual([])
  })
})

describe('GitHub', () => {
  const sign = (body: string, secret = githubSecret) => `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
  const opened = JSON.stringify({ action: 'opened', pull_request: { id: 7, updated_at: '2026-11-21T10:00:00Z' }, repository: { id: 1 } })

  it('sends events by their kind and action', async () => {
    const headers = { 'x-github-event': 'pull_request', 'x-github-delivery': 'guid-1', 'x-hub-signature-256': sign(opened) }
    expect(await post('github', opened, headers)).toMatchObject({ status: 200 })
    await processInbox(ctx())
    expect(seen).toMatchObject([{ type: 'pull_request.opened', delivery: 'guid-1', data: { object: { pull_request: { id: 7 } } } }])
  })

  it('is not repeated by whoever changes the id, which nobody signed', async () => {
    const headers = { 'x-github-event': 'pull_request', 'x-github-delivery': 'guid-1', 'x-hub-signature-256': sign(opened) }
    await post('github', opened, headers)
    expect(await post('github', opened, { ...headers, 'x-github-delivery': 'guid-2' })).toMatchObject({
      text: expect.stringContaining('"duplicate":true'),
    })
    expect(await post('github', opened, { ...headers, 'x-github-event': 'push' })).toMatchObject({
      text: expect.stringContaining('"duplicate":true'),
    })
    expect(await listInbox(ctx())).toHaveLength(1)
  })

  it.each([
    ['another secret', { 'x-hub-signature-256': sign(opened, 'another secret') }, 'signature_invalid'],
    ['the old SHA-1 alone', { 'x-hub-signature-256': '', 'x-hub-signature': 'sha1=00' }, 'signature_invalid'],
    ['no kind', { 'x-github-event': '' }, 'bad_request'],
    ['a form', { 'content-type': 'application/x-www-form-urlencoded' }, 'unsupported_media_type'],
  ])('is refused with %s', async (_what, headers, code) => {
    const all = { 'x-github-event': 'pull_request', 'x-hub-signature-256': sign(opened), ...headers }
    expect(await post('github', opened, all)).toMatchObject({ code })
  })
})

describe('named secrets', () => {
  it('are those of one name, several of it, commas and spaces included', () => {
    const setting = `a=one,b=v1,whsec_AA==, a=two words ,c=x=y,`
    expect(namedSecrets(setting, 'X', 'a')).toEqual(['one', 'two words'])
    expect(namedSecrets(setting, 'X', 'b')).toEqual(['v1,whsec_AA=='])
    expect(namedSecrets(setting, 'X', 'c')).toEqual(['x=y'])
    expect(namedSecrets(setting, 'X', 'd')).toEqual([])
    expect(namedSecrets(undefined, 'X', 'a')).toEqual([])
  })

  it('name the entry that is none, and not its value', () => {
    expect(() => namedSecrets('whsec_secret', 'WEBHOOK_SECRETS', 'a')).toThrow(/Entry 1 of WEBHOOK_SECRETS/)
    expect(() => namedSecrets('whsec_secret', 'WEBHOOK_SECRETS', 'a')).not.toThrow(/whsec_secret/)
  })
})

it.each(['stripe', 'sms', 'email', 'logs', 'twilio', 'Clerk', 'a/b'])('no source may be called "%s"', (name) => {
  expect(() => defineConfig({ app: { name: 'Test' }, webhooks: { sources: { [name]: {} } } })).toThrow(/webhooks.sources/)
})
