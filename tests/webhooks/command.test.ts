import { afterEach, describe, expect, it } from 'vitest'
import type { Output } from '../../cli/command.ts'
import { commands } from '../../cli/commands/webhooks.ts'
import { defineConfig } from '../../lib/config/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { processInbox, receiveWebhook } from '../../lib/webhooks/index.ts'
import { signStripe, stripeEvent } from '../doubles/stripe.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

const secret = 'whsec_test_of_the_endpoint'
const test = useTestDatabase()
let broken = true

afterEach(() => {
  process.exitCode = undefined
})

function context(): Context {
  return testContext(test.db, {
    env: readEnv({ ENCRYPTION_KEY: 'cd'.repeat(32), STRIPE_WEBHOOK_SECRET: secret }),
    config: defineConfig({
      app: { name: 'Test' },
      webhooks: {
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
  })
})
