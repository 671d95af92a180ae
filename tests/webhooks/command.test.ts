import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { Output } from '../../cli/command.ts'
import { commands } from '../../cli/commands/webhooks.ts'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { emitToSubscribers, processInbox, receiveWebhook } from '../../lib/webhooks/index.ts'
import { signStripe, stripeApi, stripeEvent, stripeState } from '../doubles/stripe.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'

const secret = 'whsec_test_of_the_endpoint'
const test = useTestDatabase()
let broken = true
let subscribers: NonNullable<NonNullable<PolicyInput['webhooks']>['subscribers']> = {}

afterEach(() => {
  process.exitCode = undefined
})

function context(): Context {
  return testContext(test.db, {
    env: readEnv({ ENCRYPTION_KEY: 'cd'.repeat(32), STRIPE_WEBHOOK_SECRET: secret, STRIPE_SECRET_KEY: 'sk_test_51Caretaker' }),
    config: defineConfig({
      app: { name: 'Test' },
      webhooks: {
        subscribers,
        stripe: {
          on: {
            'invoice.paid': () => Promise.resolve(),
            'invoice.voided': () => (broken ? Promise.reject(new TypeError('no')) : Promise.resolve()),
          },
        },
      },
    }),
  })
}

async function run(name: string, args: string[] = [], flags: Record<string, string | boolean> = {}) {
  const printed: { value: unknown; human: string } = { value: undefined, human: '' }
  const out: Output = {
    json: false,
    line: () => undefined,
    progress: () => undefined,
    result: (value, human) => Object.assign(printed, { value, human }),
  }
  await commands.find((command) => command.name === name)?.run({ args, flags, out, context: () => Promise.resolve(context()) })
  return printed
}

describe('caretaker webhooks', () => {
  it('lists, shows and replays what is in the inbox', async () => {
    const ctx = context()
    for (const [id, type] of [
      ['evt_paid', 'invoice.paid'],
      ['evt_voided', 'invoice.voided'],
      ['evt_other', 'plan.created'],
    ] as const) {
      const body = stripeEvent({ id, type, object: { id: `in_${id}`, email: 'ada@example.com' } })
      await receiveWebhook(ctx, 'stripe', {
        headers: new Headers({ 'stripe-signature': signStripe(body, secret, Math.floor(ctx.clock.now().getTime() / 1000)) }),
        body: Buffer.from(body),
      })
    }
    await processInbox(ctx)
    const { human, value } = await run('webhooks list')
    expect(value).toMatchObject([
      { eventId: 'evt_other', state: 'ignored' },
      { eventId: 'evt_voided', state: 'received', error: { code: 'TypeError' } },
      { eventId: 'evt_paid', state: 'applied' },
    ])
    expect(human).toMatch(/evt_voided +invoice\.voided +received +1 .*TypeError; again/)
    expect((await run('webhooks list', [], { state: 'applied' })).value).toMatchObject([{ eventId: 'evt_paid' }])
    await expect(run('webhooks list', [], { state: 'done' })).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringContaining('applied'),
    })
    await expect(run('webhooks list', [], { limit: '0' })).rejects.toMatchObject({ code: 'invalid_input' })

    expect((await run('webhooks show', ['evt_paid'])).human).not.toContain('ada@example.com')
    expect((await run('webhooks show', ['evt_paid'], { payload: true })).human).toContain('ada@example.com')
    await expect(run('webhooks show', ['evt_none'])).rejects.toMatchObject({ code: 'not_found' })

    expect((await run('webhooks replay', ['evt_voided'])).human).toContain('TypeError')
    expect(process.exitCode).toBe(1)
    process.exitCode = undefined
    broken = false
    expect((await run('webhooks replay', ['evt_voided'])).value).toMatchObject([{ state: 'applied', error: null }])
    expect(process.exitCode).toBeUndefined()
    await expect(run('webhooks replay', ['evt_voided'])).rejects.toMatchObject({ code: 'conflict' })
    await expect(run('webhooks replay')).rejects.toMatchObject({ code: 'bad_request' })
    await expect(run('webhooks replay', ['evt_other'], { state: 'dead' })).rejects.toMatchObject({ code: 'bad_request' })
    await expect(run('webhooks replay', [], { state: 'applied' })).rejects.toMatchObject({ code: 'invalid_input' })

    // All of a kind: still without a handler, it is set aside once more.
    expect((await run('webhooks replay', [], { state: 'ignored', type: 'plan.created' })).value).toMatchObject([
      { eventId: 'evt_other', state: 'ignored' },
    ])
    expect((await run('webhooks replay', [], { state: 'dead' })).human).toBe('No such webhook events.')
    const status = await run('webhooks status')
    expect(status.value).toMatchObject({ sources: [{ source: 'stripe', waiting: 0, dead: 0, applied: 2, oldestSeconds: null }] })
    expect(status.human).toMatch(/stripe +0/)
  })

  it('asks Stripe for what never arrived, and applies it', async () => {
    const stripe = stripeState()
    doubles.use(...stripeApi(stripe))
    const now = Math.floor(Date.now() / 1000)
    stripe.events = [{ id: 'evt_lost', type: 'invoice.paid', created: now - 3_600, data: { object: { id: 'in_lost', object: 'invoice' } } }]
    const done = await run('webhooks reconcile', ['stripe'], { since: '1 day' })
    expect(done.value).toMatchObject({ healed: 1, seen: 1, applied: 1 })
    expect(done.human).toMatch(/1 events since .*, of which 1 had never arrived; 1 are applied/)
    expect((await run('webhooks list', [], { type: 'invoice.paid' })).human).toMatch(/evt_lost .*applied .*, fetched/)
    expect((await run('webhooks reconcile', ['stripe'], { since: new Date((now - 7_200) * 1_000).toISOString() })).value).toMatchObject({
      healed: 0,
    })
    await expect(run('webhooks reconcile')).rejects.toMatchObject({ code: 'bad_request' })
    await expect(run('webhooks reconcile', ['paypal'])).rejects.toMatchObject({ code: 'bad_request' })
    await expect(run('webhooks reconcile', ['stripe'], { since: 'yesterday' })).rejects.toMatchObject({ code: 'invalid_input' })
    await expect(run('webhooks reconcile', ['stripe'], { since: '40 days' })).rejects.toMatchObject({ code: 'invalid_input' })
  })

  it('shows deliveries, sends them again, and tells the secret they are signed with', async () => {
    const server = createServer((_request, response) => void response.writeHead(broken ? 500 : 200).end()).listen(0, '127.0.0.1')
    await once(server, 'listening')
    subscribers = { n8n: { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, events: ['order.*'], allowPrivate: true } }
    broken = true
    const ctx = context()
    const id = await ctx.db.transaction((tx) => emitToSubscribers(ctx, tx, { type: 'order.paid', data: { n: 1 } }))
    expect((await run('webhooks redeliver', [id ?? ''])).human).toMatch(/n8n +order\.paid +waiting +1 .*http_500; again/)
    expect(process.exitCode).toBe(1)
    process.exitCode = undefined
    broken = false
    expect((await run('webhooks redeliver', [id ?? ''])).human).toMatch(/n8n +order\.paid +delivered/)
    expect((await run('webhooks deliveries', [], { state: 'delivered', subscriber: 'n8n' })).value).toMatchObject([{ messageId: id }])
    expect((await run('webhooks deliveries', [], { state: 'dead' })).human).toBe('No deliveries.')
    await expect(run('webhooks deliveries', [], { state: 'lost' })).rejects.toMatchObject({ code: 'invalid_input' })
    await expect(run('webhooks redeliver', ['msg_none'])).rejects.toMatchObject({ code: 'not_found' })
    expect((await run('webhooks secret', ['n8n'])).human).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
    await expect(run('webhooks secret', ['n8m'])).rejects.toMatchObject({ code: 'not_found', detail: expect.stringContaining('"n8n"') })
    expect(await test.db.query(`select action from caretaker.audit where action = 'webhooks.secret_shown'`)).toHaveLength(1)
    expect((await run('webhooks status')).human).toMatch(/n8n +0/)
    server.close()
  })
})
