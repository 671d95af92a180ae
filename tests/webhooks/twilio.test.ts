import { beforeEach, describe, expect, it, vi } from 'vitest'
import { defineConfig, type PolicyInput, type WebhookDelivery, type WebhookEvent } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { readEnv } from '../../lib/platform/env.ts'
import type { GuardedAnswer, GuardedRequest } from '../../lib/platform/guarded-request.ts'
import { suppressedBecause } from '../../lib/platform/suppressions.ts'
import { webhooks } from '../../lib/routes/webhooks.ts'
import { fetchTwilioMedia, listInbox, processInbox, showInbox } from '../../lib/webhooks/index.ts'
import { recognise } from '../../lib/webhooks/twilio/keywords.ts'
import { incomingMessage, twilioForm } from '../doubles/twilio.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'

const token = 'c0ffee00c0ffee00c0ffee00c0ffee00'
const origin = 'https://catchup.example'
const ada = '+14158675309'
const ours = '+18005551212'
const test = useTestDatabase()
let sequence = 0

function setup(twilio: NonNullable<NonNullable<PolicyInput['webhooks']>['twilio']> = {}, environment: Record<string, string> = {}) {
  const clock = fixedClock('2026-11-21T12:00:00Z')
  const ctx = testContext(test.db, {
    clock,
    config: defineConfig({ app: { name: 'Test' }, webhooks: { twilio } }),
    env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), TWILIO_AUTH_TOKEN: token, PUBLIC_URL: origin, ...environment }),
    deadline: new Date(clock.now().getTime() + 86_400_000),
  })
  const { request } = testServer(webhooks({ wake: () => Promise.resolve() }), ctx)
  const post = (path: string, parameters: Record<string, string>, signedWith = token) =>
    request(path, { method: 'POST', ...twilioForm(`${origin}${path}`, parameters, signedWith) })
  /** What somebody writes to us, and what they read back. */
  const say = async (body: string, more: Record<string, string> = {}) => {
    clock.advance(1_000)
    const answer = await post('/api/webhooks/sms', incomingMessage({ sid: `SM${++sequence}`, from: ada, to: ours, body, ...more }))
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe('text/xml; charset=utf-8')
    return (await answer.text()).replace('<?xml version="1.0" encoding="UTF-8"?>', '')
  }
  const suppressed = (scope = ours) => suppressedBecause(ctx.db, ctx.env, { channel: 'sms', address: ada, scope })
  return { ctx, clock, request, post, say, suppressed }
}

beforeEach(() => test.db.execute('truncate caretaker.inbox, caretaker.inbox_objects, caretaker.suppressions'))

describe('an incoming message', () => {
  it('is taken, answered with TwiML, and handed to the handler once, media and all', async () => {
    const seen: [WebhookEvent, WebhookDelivery][] = []
    const { ctx, post } = setup({ on: { 'message.received': async (event, _tx, delivery) => void seen.push([event, delivery]) } })
    const media = 'https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1'
    const message = incomingMessage({
      sid: 'SMonce',
      from: ada,
      to: ours,
      body: 'Yes, at 8 – ü 🎉',
      NumMedia: '1',
      MediaUrl0: media,
      MediaContentType0: 'image/png',
    })
    for (let repeat = 0; repeat < 3; repeat++) {
      const answer = await post('/api/webhooks/sms', message)
      expect(await answer.text()).toBe('<?xml version="1.0" encoding="UTF-8"?><Response/>')
    }
    await processInbox(ctx)
    expect(seen).toMatchObject([
      [
        {
          id: 'SMonce',
          type: 'message.received',
          data: { object: { From: ada, To: ours, Body: 'Yes, at 8 – ü 🎉', media: [{ url: media, contentType: 'image/png' }] } },
        },
        { source: 'twilio', late: false },
      ],
    ])
  })

  it('is refused with another signature, at another address, or while no token is set', async () => {
    const { ctx, post, request } = setup()
    const message = incomingMessage({ sid: 'SMforged', from: ada, to: ours, body: 'STOP' })
    expect((await post('/api/webhooks/sms', message, 'another-token')).status).toBe(400)
    // What the request says of its host does not count.
    const forged = twilioForm('http://localhost/api/webhooks/sms', message, token)
    expect(
      (await request('/api/webhooks/sms', { method: 'POST', ...forged, headers: { ...forged.headers, 'x-forwarded-host': 'localhost' } }))
        .status,
    ).toBe(400)
    const unset = testServer(webhooks(), { ...ctx, env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32) }) })
    const answer = await unset.request('/api/webhooks/sms', { method: 'POST', ...twilioForm(`${origin}/api/webhooks/sms`, message, '') })
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([503, 'not_configured'])
    expect(await listInbox(ctx)).toEqual([])
  })

  it('may be signed with the other token while one is promoted', async () => {
    const { post } = setup({}, { TWILIO_AUTH_TOKEN_SECONDARY: 'the-secondary-token' })
    const message = incomingMessage({ sid: 'SMrotated', from: ada, to: ours, body: 'hi' })
    expect((await post('/api/webhooks/sms', message, 'the-secondary-token')).status).toBe(200)
  })

  it.each([
    ['a type that is none of its own', { 'content-type': 'text/plain' }, 415, 'unsupported_media_type'],
    ['a character set', { 'content-type': 'application/x-www-form-urlencoded; charset=utf-16' }, 415, 'unsupported_media_type'],
    ['an encoding', { 'content-encoding': 'gzip' }, 415, 'unsupported_media_type'],
    ['two signatures', { 'x-twilio-signature': 'a, b' }, 400, 'signature_invalid'],
  ])('is refused for %s, saying so', async (_why, headers, status, code) => {
    const { request } = setup()
    const form = twilioForm(`${origin}/api/webhooks/sms`, incomingMessage({ sid: 'SMform', from: ada, to: ours, body: 'x' }), token)
    const answer = await request('/api/webhooks/sms', { method: 'POST', body: form.body, headers: { ...form.headers, ...headers } })
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([status, code])
  })

  it('is refused when it is too long, or has too many parameters', async () => {
    const { post } = setup()
    const long = incomingMessage({ sid: 'SMlong', from: ada, to: ours, body: 'x'.repeat(300_000) })
    expect((await post('/api/webhooks/sms', long)).status).toBe(413)
    const many = Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`p${n}`, 'x']))
    expect((await post('/api/webhooks/sms', many)).status).toBe(400)
    expect((await post('/api/webhooks/sms', { Body: 'signed, and no message' })).status).toBe(400)
  })

  it('loses what the policy does not want before it is stored', async () => {
    const { ctx, say } = setup({ minimise: ['data.object.Body', 'data.object.media'] })
    await say('my secret')
    const [entry] = await listInbox(ctx)
    const shown = await showInbox(ctx, entry?.id ?? '', { payload: true })
    expect(shown.payload?.data.object).toMatchObject({ Body: null, media: null, From: ada })
  })
})

describe('STOP and START', () => {
  it('are kept by the sender they are said to, in the order they were said', async () => {
    const { ctx, say, suppressed } = setup()
    await say('STOP')
    await say('stop!', { To: '+18005550000' })
    await processInbox(ctx)
    expect(await suppressed()).toBe('stop')
    expect(await suppressed('+18005550000')).toBe('stop')
    expect(await suppressed('+18005559999')).toBeNull()
    await say('Start')
    await processInbox(ctx)
    expect(await suppressed()).toBeNull()
    expect(await suppressed('+18005550000')).toBe('stop')
    await say('STOP')
    await say('START')
    await say(' s-t-o-p. ')
    await processInbox(ctx)
    expect(await suppressed()).toBe('stop')
    // The answer to STOP itself may go out.
    expect(await suppressedBecause(ctx.db, ctx.env, { channel: 'sms', address: ada, scope: ours, confirmsOptOut: true })).toBeNull()
    const rows = await test.db.query<{ row: string }>('select s::text as row from caretaker.suppressions s')
    expect(rows.length).toBe(6)
    expect(rows.map(({ row }) => row).join()).not.toContain(ada.slice(2))
  })

  it('go by the whole message: a sentence with the word in it is none', async () => {
    const { ctx, say, suppressed } = setup()
    for (const text of ['please do not stop', 'Stop by at 8?', 'The end', 'cancel my order', 'yes']) await say(text)
    await processInbox(ctx)
    expect(await suppressed()).toBeNull()
    expect(await test.db.query('select from caretaker.suppressions')).toEqual([])
    await say('STOP')
    await processInbox(ctx)
    await say('Yes')
    await processInbox(ctx)
    expect(await suppressed()).toBeNull()
  })

  it("follow Twilio's own opt-out management where it is on, and answer nothing then", async () => {
    const { ctx, say, suppressed } = setup({ replies: { stop: 'Bye.' } })
    expect(await say('arrêtez', { OptOutType: 'STOP' })).toBe('<Response/>')
    await processInbox(ctx)
    expect(await suppressed()).toBe('stop')
  })

  it('are answered in the words of the policy, in the language of the word, once', async () => {
    const { post, say } = setup({
      replies: { stop: 'You <are> out & will hear no more.', help: 'Reply STOP to stop.' },
      languages: [{ stop: ['ARRÊT', 'STOPPEN'], help: ['AIDE'], replies: { stop: 'Vous êtes désinscrit.' } }],
    })
    expect(await say('Stop')).toBe('<Response><Message>You &lt;are&gt; out &amp; will hear no more.</Message></Response>')
    expect(await say('arret')).toBe('<Response><Message>Vous êtes désinscrit.</Message></Response>')
    expect(await say('help')).toBe('<Response><Message>Reply STOP to stop.</Message></Response>')
    expect(await say('aide')).toBe('<Response/>')
    expect(await say('yes')).toBe('<Response/>')
    expect(await say('hello')).toBe('<Response/>')
    const message = incomingMessage({ sid: 'SMrepeat', from: ada, to: ours, body: 'STOP' })
    expect(await (await post('/api/webhooks/sms', message)).text()).toContain('<Message>')
    expect(await (await post('/api/webhooks/sms', message)).text()).not.toContain('<Message>')
  })

  it.each([
    ['STOP', 'stop'],
    ['Stop All', 'stop'],
    ['unsubscribe', 'stop'],
    ['QUIT…', 'stop'],
    ['opt-out', 'stop'],
    ['UNSTOP', 'start'],
    ['info?', 'help'],
    ['', undefined],
    ['🛑', undefined],
    ['stopping', undefined],
  ])('"%s" is %s', (text, keyword) => {
    expect(recognise(text, undefined)?.keyword).toBe(keyword)
  })

  it('stopping wins where a word means two things', () => {
    expect(recognise('info', { languages: [{ stop: ['INFO'] }] })?.keyword).toBe('stop')
  })
})

describe('a status callback', () => {
  const status = (sid: string, state: string, more: Record<string, string> = {}) => ({
    MessageSid: sid,
    MessageStatus: state,
    From: ours,
    To: ada,
    AccountSid: 'AC0',
    ...more,
  })

  it('is taken once for each state, and one that comes after a later one is told so', async () => {
    const seen: [string, unknown, boolean][] = []
    const note = async (event: WebhookEvent, _tx: unknown, delivery: WebhookDelivery) =>
      void seen.push([event.type, event.data.object.MessageStatus, delivery.late])
    const { ctx, post } = setup({ on: { 'message.sent': note, 'message.delivered': note, 'message.queued': note } })
    for (const state of ['delivered', 'delivered', 'sent']) {
      expect((await post('/api/webhooks/sms/status', status('SM1', state))).status).toBe(200)
      await processInbox(ctx)
    }
    await post('/api/webhooks/sms/status', status('SM2', 'sent'))
    await post('/api/webhooks/sms/status', status('SM2', 'queued'))
    await processInbox(ctx)
    expect(seen).toEqual([
      ['message.delivered', 'delivered', false],
      ['message.sent', 'sent', true],
      ['message.queued', 'queued', false],
      ['message.sent', 'sent', false],
    ])
  })

  it('that fails with 21610 says that the recipient has opted out of that sender', async () => {
    const { ctx, post, suppressed } = setup()
    await post('/api/webhooks/sms/status', status('SM3', 'failed', { ErrorCode: '30003' }))
    await processInbox(ctx)
    expect(await suppressed()).toBeNull()
    await post('/api/webhooks/sms/status', status('SM4', 'undelivered', { ErrorCode: '21610' }))
    await processInbox(ctx)
    expect(await suppressed()).toBe('21610')
  })

  it('is refused without a state', async () => {
    const { post } = setup()
    expect((await post('/api/webhooks/sms/status', { MessageSid: 'SM5' })).status).toBe(400)
    expect((await post('/api/webhooks/sms/status', status('SM5', 'two words'))).status).toBe(400)
  })
})

describe("a message's media", () => {
  const env = readEnv({ TWILIO_ACCOUNT_SID: 'AC1', TWILIO_AUTH_TOKEN: token })
  const link = 'https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1'
  const signal = new AbortController().signal

  const answers = (steps: Partial<GuardedAnswer>[]) =>
    vi.fn((_request: GuardedRequest) =>
      Promise.resolve({ status: 200, headers: {}, body: Buffer.from('png'), ...steps.shift() } satisfies GuardedAnswer),
    )

  it("is fetched with the account's credentials, which go nowhere else", async () => {
    const request = answers([
      { status: 307, headers: { location: 'https://media.twiliocdn.com/AC1/abc' } },
      { headers: { 'content-type': 'image/png' } },
    ])
    expect(await fetchTwilioMedia({ env, signal }, link, request)).toEqual({ contentType: 'image/png', body: Buffer.from('png') })
    expect(request.mock.calls.map(([{ url, headers }]) => [url, headers?.authorization])).toEqual([
      [link, `Basic ${Buffer.from(`AC1:${token}`).toString('base64')}`],
      ['https://media.twiliocdn.com/AC1/abc', undefined],
    ])
  })

  it.each([
    'https://evil.example/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1',
    'https://api.twilio.com.evil.example/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1',
    'https://api.twilio.com@evil.example/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1',
    'http://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1',
    'https://api.twilio.com:8443/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1',
    'https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json',
    'not a link',
  ])('is not fetched from %s', async (url) => {
    const request = answers([])
    await expect(fetchTwilioMedia({ env, signal }, url, request)).rejects.toMatchObject({ code: 'address_refused' })
    expect(request).not.toHaveBeenCalled()
  })

  it('is not fetched from where it leads outside, is not endless, and has a size', async () => {
    const led = (location: string) => fetchTwilioMedia({ env, signal }, link, answers([{ status: 302, headers: { location } }]))
    await expect(led('https://evil.example/x')).rejects.toMatchObject({ code: 'address_refused' })
    await expect(led('http://media.twiliocdn.com/x')).rejects.toMatchObject({ code: 'address_refused' })
    const round = Array.from({ length: 9 }, () => ({ status: 302, headers: { location: 'https://media.twiliocdn.com/x' } }))
    await expect(fetchTwilioMedia({ env, signal }, link, answers(round))).rejects.toMatchObject({ code: 'upstream_failed' })
    await expect(fetchTwilioMedia({ env, signal }, link, answers([{ status: 404 }]))).rejects.toMatchObject({ code: 'upstream_failed' })
    const large = answers([{ body: Buffer.alloc(5 * 1024 * 1024 + 1) }])
    await expect(fetchTwilioMedia({ env, signal }, link, large)).rejects.toMatchObject({ code: 'payload_too_large' })
  })
})
