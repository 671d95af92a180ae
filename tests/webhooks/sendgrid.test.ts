import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput, type WebhookEvent } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { suppressedBecause } from '../../lib/platform/suppressions.ts'
import { webhooks } from '../../lib/routes/webhooks.ts'
import { listInbox, processInbox } from '../../lib/webhooks/index.ts'
import { sendgridKeys, signSendgrid } from '../doubles/sendgrid.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'

const test = useTestDatabase()
const { publicKey, privateKey } = sendgridKeys()
const start = 1_795_000_000

function setup(sendgrid: NonNullable<NonNullable<PolicyInput['webhooks']>['sendgrid']> = {}, key: string | undefined = publicKey) {
  const clock = fixedClock(new Date(start * 1_000))
  const ctx = testContext(test.db, {
    clock,
    config: defineConfig({ app: { name: 'Test' }, webhooks: { sendgrid } }),
    env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), SENDGRID_WEBHOOK_PUBLIC_KEY: key }),
    deadline: new Date(clock.now().getTime() + 86_400_000),
  })
  const { request } = testServer(webhooks({ wake: () => Promise.resolve() }), ctx)
  const post = (body: string, at = start, headers: Record<string, string> = {}) =>
    request('/api/webhooks/email', { method: 'POST', body, headers: { ...signSendgrid(body, privateKey, at), ...headers } })
  const suppressed = (address: string, scope?: string) =>
    suppressedBecause(ctx.db, ctx.env, { channel: 'email', address, ...(scope === undefined ? {} : { scope }) })
  return { ctx, clock, post, suppressed }
}

const event = (id: string, kind: string, more: Record<string, unknown> = {}) => ({
  email: 'ada@example.com',
  event: kind,
  sg_event_id: id,
  sg_message_id: 'msg.filter1',
  timestamp: start - 10,
  ...more,
})

beforeEach(() => test.db.execute('truncate caretaker.inbox, caretaker.inbox_objects, caretaker.suppressions'))

describe("a batch of SendGrid's events", () => {
  it('is taken event by event, each once, whatever batch it comes in', async () => {
    const seen: WebhookEvent[] = []
    const { ctx, post } = setup({ on: { 'email.delivered': async (one) => void seen.push(one) } })
    const first = JSON.stringify([event('e1', 'processed'), event('e2', 'delivered'), event('e2', 'delivered')])
    expect(await (await post(first)).json()).toEqual({ received: true, duplicate: false })
    const second = JSON.stringify([event('e2', 'delivered'), event('e3', 'open')])
    expect(await (await post(second)).json()).toEqual({ received: true, duplicate: false })
    expect(await (await post(first)).json()).toEqual({ received: true, duplicate: true })
    await processInbox(ctx)
    expect(seen.map(({ id, type, data }) => [id, type, data.object.email])).toEqual([['e2', 'email.delivered', 'ada@example.com']])
    expect((await listInbox(ctx)).map(({ eventId, state }) => [eventId, state]).sort()).toEqual([
      ['e1', 'ignored'],
      ['e2', 'applied'],
      ['e3', 'ignored'],
    ])
  })

  it('may be empty, and may hold events without an id, which their content stands for', async () => {
    const { ctx, post } = setup()
    expect((await post('[]\r\n')).status).toBe(200)
    const { sg_event_id: _none, ...bare } = event('', 'open')
    for (let repeat = 0; repeat < 2; repeat++) expect((await post(JSON.stringify([bare]))).status).toBe(200)
    expect(await listInbox(ctx)).toHaveLength(1)
  })

  it.each([
    ['is no list', '{}'],
    ['holds something else', '[1]'],
    ['holds an event without a name', '[{"email":"a@b.c"}]'],
    ['is not JSON', '['],
    ['holds too many', `[${Array.from({ length: 5_001 }, () => '{"event":"open"}').join(',')}]`],
  ])('is refused as a whole when it %s', async (_why, body) => {
    const { ctx, post } = setup()
    const answer = await post(body)
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([400, 'bad_request'])
    expect(await listInbox(ctx)).toEqual([])
  })

  const signature = 'x-twilio-email-event-webhook-signature'
  const timestamp = 'x-twilio-email-event-webhook-timestamp'
  it.each([
    ['is from another key', signature, signSendgrid('[]', sendgridKeys().privateKey, start)[signature]],
    ['is of another time', signature, signSendgrid('[]', privateKey, start - 1)[signature]],
    ['is no signature', signature, 'bm8='],
    ['has no time', timestamp, ''],
    ['has no number for a time', timestamp, `${start}.0`],
    ['was sent twice', signature, `${signSendgrid('[]', privateKey, start)[signature]}, a`],
    ['is missing', signature, ''],
  ])('is refused when its signature %s', async (_why, name, value) => {
    const answer = await setup().post('[]', start, { [name]: value ?? '' })
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([400, 'signature_invalid'])
  })

  it.each([
    [-25 * 3_600, 200],
    [-25 * 3_600 - 1, 400],
    [300, 200],
    [301, 400],
  ])('%i seconds from now is answered %i', async (shift, status) => {
    expect((await setup().post('[]', start + shift)).status).toBe(status)
  })

  it('may be signed with either key while one is replaced, in any of the ways a key is written', async () => {
    const other = sendgridKeys()
    const pem = `-----BEGIN PUBLIC KEY-----\n${publicKey.match(/.{1,64}/g)?.join('\n')}\n-----END PUBLIC KEY-----`
    for (const key of [publicKey, `${other.publicKey}, ${publicKey}`, pem]) expect((await setup({}, key).post('[]')).status).toBe(200)
    expect((await setup({}, 'bm90IGEga2V5').post('[]')).status).toBe(503)
  })
})

describe('the ledger of mail', () => {
  it.each([
    ['bounce', { type: 'bounce' }, 'bounce'],
    ['bounce', {}, 'bounce'],
    ['bounce', { type: 'blocked' }, null],
    ['dropped', { reason: 'Bounced Address' }, 'dropped'],
    ['dropped', { reason: 'Invalid' }, 'dropped'],
    ['dropped', { reason: 'Spam Reporting Address' }, 'dropped'],
    ['dropped', { reason: 'Recipient List over Package Quota' }, null],
    ['spamreport', {}, 'spam'],
    ['unsubscribe', {}, 'unsubscribe'],
    ['deferred', { response: '450 try later' }, null],
    ['delivered', {}, null],
  ])('%s %j: %s', async (kind, more, reason) => {
    const { ctx, post, suppressed } = setup()
    await post(JSON.stringify([event(`id_${kind}`, kind, more)]))
    await processInbox(ctx)
    expect(await suppressed(' Ada@Example.com')).toBe(reason)
    expect(await suppressed('bob@example.com')).toBeNull()
  })

  it('keeps groups apart, and goes by what was said last, not by what came last', async () => {
    const { ctx, post, suppressed } = setup()
    await post(JSON.stringify([event('g2', 'group_resubscribe', { asm_group_id: 7, timestamp: start - 5 })]))
    await post(JSON.stringify([event('g1', 'group_unsubscribe', { asm_group_id: 7, timestamp: start - 9 })]))
    await post(JSON.stringify([event('g3', 'group_unsubscribe', { asm_group_id: 8 })]))
    await processInbox(ctx)
    expect(await suppressed('ada@example.com', 'group:7')).toBeNull()
    expect(await suppressed('ada@example.com', 'group:8')).toBe('unsubscribe')
    expect(await suppressed('ada@example.com')).toBeNull()
    await post(JSON.stringify([event('g4', 'spamreport')]))
    await processInbox(ctx)
    expect(await suppressed('ada@example.com', 'group:7')).toBe('spam')
  })
})
