import { beforeEach, describe, expect, it } from 'vitest'
import { findJob, jobs } from '../../lib/catalog.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { readEnv } from '../../lib/platform/env.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { listInbox, processInbox, receiveWebhook, reconcileStripe } from '../../lib/webhooks/index.ts'
import { type StripeState, signStripe, stripeApi, stripeState } from '../doubles/stripe.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { generator, shuffled, stripeHistory } from './stripe-history.ts'
import { appTables, historyPolicy, mirrorTables, tablesAsText } from './stripe-tables.ts'

const secret = 'whsec_test_of_the_endpoint'
const test = useTestDatabase()
const history = stripeHistory(250)
const last = history.events.at(-1)?.created ?? 0
let stripe: StripeState

function context(overrides: Partial<Context> = {}): Context & { clock: ReturnType<typeof fixedClock> } {
  const clock = fixedClock(new Date((last + 3_600) * 1_000))
  const ctx = testContext(test.db, {
    clock,
    config: historyPolicy,
    env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), STRIPE_WEBHOOK_SECRET: secret, STRIPE_SECRET_KEY: stripe.key }),
    deadline: new Date(clock.now().getTime() + 86_400_000),
    ...overrides,
  })
  return Object.assign(ctx, { clock })
}

async function send(ctx: Context, event: object) {
  const body = JSON.stringify(event)
  const headers = new Headers({ 'stripe-signature': signStripe(body, secret, Math.floor(ctx.clock.now().getTime() / 1000)) })
  await receiveWebhook(ctx, 'stripe', { headers, body: Buffer.from(body) })
}

async function applyAll(ctx: Context) {
  for (;;) {
    const { applied, ignored, failed, dead } = await processInbox(ctx)
    expect({ failed, dead }).toEqual({ failed: 0, dead: 0 })
    if (applied + ignored === 0) return
  }
}

beforeEach(() => {
  stripe = stripeState()
  stripe.events = history.events as unknown as Record<string, unknown>[]
  stripe.objects = history.objects
  stripe.now = () => new Date((last + 3_600) * 1_000)
  doubles.use(...stripeApi(stripe))
})

describe('reconciling with Stripe', () => {
  it('heals what never arrived: the tables are those of a history without loss', { timeout: 120_000 }, async () => {
    const whole = await createTestDatabase()
    try {
      await whole.db.execute(appTables)
      await test.db.execute(appTables)
      const clean = context({ db: whole.db })
      for (const event of history.events) {
        await send(clean, event)
      }
      await applyAll(clean)

      const ctx = context()
      const random = generator(7)
      const [first, ...others] = history.events
      if (first === undefined) throw new Error('no event')
      // The oldest comes, and a random tenth of the others is lost.
      const arrived = [first, ...others.filter(() => random() > 0.1)]
      for (const event of shuffled(arrived, 3)) await send(ctx, event)
      await applyAll(ctx)
      expect(await tablesAsText(test.db)).not.toEqual(await tablesAsText(whole.db))

      const healed = await reconcileStripe(ctx, { since: new Date((first.created - 1) * 1_000) })
      expect(healed).toMatchObject({ healed: history.events.length - arrived.length })
      expect(stripe.pages).toBe(Math.ceil(healed.seen / 100))
      await applyAll(ctx)
      expect(await tablesAsText(test.db)).toEqual(await tablesAsText(whole.db))
      expect((await listInbox(ctx, { limit: 1_000 })).filter((entry) => entry.fetched)).toHaveLength(healed.healed)
      expect(await test.db.query(`select payload->>'events' as events from caretaker.outbox where topic = 'webhooks.healed'`)).toEqual([
        { events: String(healed.healed) },
      ])
      // Once more finds nothing: what is there stays as it is.
      expect(await reconcileStripe(ctx)).toMatchObject({ healed: 0 })
    } finally {
      await whole.drop()
    }
  })

  it('asks from the last time on, with an hour of overlap', async () => {
    await test.db.execute(`truncate caretaker.inbox, caretaker.inbox_objects, caretaker.webhook_sources, ${mirrorTables.join(', ')}`)
    const ctx = context()
    expect(await reconcileStripe(ctx)).toMatchObject({ healed: 0, skipped: expect.stringContaining('Nothing has arrived yet') })
    expect(stripe.pages).toBe(0)
    await send(ctx, history.events[0] ?? {})
    const first = await reconcileStripe(ctx)
    expect(first.since).toEqual(new Date(ctx.clock.now().getTime() - 3_600_000))
    ctx.clock.advance(7_200_000)
    const second = await reconcileStripe(ctx)
    expect(second.since).toEqual(new Date(first.until.getTime() - 3_600_000))
  })

  it('runs as a job that hands over between two pages, and goes on there', async () => {
    await test.db.execute(`truncate caretaker.inbox, caretaker.inbox_objects, caretaker.webhook_sources, ${mirrorTables.join(', ')}`)
    const ctx = context()
    await send(ctx, history.events[0] ?? {})
    await test.db.execute(`update caretaker.inbox set received_at = to_timestamp($1)`, [history.events[0]?.created])
    const job = findJob(jobs(historyPolicy), 'webhooks-reconcile')
    let checkpoint: unknown = null
    let pages = 0
    const run = (): JobRun => ({
      id: 'run',
      job: 'webhooks-reconcile',
      slot: ctx.clock.now(),
      attempt: 1,
      params: {},
      checkpoint,
      save: async (saved) => {
        checkpoint = structuredClone(saved)
      },
      // Time for one page an invocation.
      shouldHandOver: () => stripe.pages > pages,
      callForHelp: () => Promise.resolve(),
    })
    let invocations = 0
    for (;;) {
      pages = stripe.pages
      invocations++
      const outcome = await job.run(ctx, run())
      if (outcome.status === 'hand-over') continue
      expect(outcome.result).toMatchObject({ healed: history.events.length - 1, seen: history.events.length })
      break
    }
    expect(invocations).toBe(stripe.pages)
  })

  it('asks on behalf of a connected account, whose events are its own source', async () => {
    const ctx = context()
    const config = defineConfig({ app: { name: 'Test' }, webhooks: { stripe: { connect: { mirror: ['customers'] } } } })
    const created = Math.floor(ctx.clock.now().getTime() / 1000) - 3_600
    stripe.events = [{ id: 'evt_theirs', type: 'customer.created', created, data: { object: { id: 'cus_theirs', object: 'customer' } } }]
    const done = await reconcileStripe({ ...ctx, config }, { account: 'acct_theirs', since: new Date((created - 60) * 1_000) })
    expect(done).toMatchObject({ healed: 1 })
    expect(await listInbox(ctx, { source: 'stripe-connect' })).toMatchObject([{ eventId: 'evt_theirs', fetched: true }])
    await applyAll({ ...ctx, config })
    expect(await test.db.query(`select account from caretaker.stripe_customers where id = 'cus_theirs'`)).toEqual([
      { account: 'acct_theirs' },
    ])
  })

  it('is refused with a reason: no key, a time that Stripe no longer knows, an account that is none', async () => {
    const ctx = context()
    const keyless = { ...ctx, env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32) }) }
    await expect(reconcileStripe(keyless)).rejects.toMatchObject({
      code: 'not_configured',
      detail: expect.stringContaining('STRIPE_SECRET_KEY'),
    })
    const tooOld = new Date(ctx.clock.now().getTime() - 31 * 86_400_000)
    await expect(reconcileStripe(ctx, { since: tooOld })).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringContaining('30 days'),
    })
    await expect(reconcileStripe(ctx, { account: '../v1' })).rejects.toMatchObject({ code: 'invalid_input' })
    stripe.failWith = 500
    await expect(reconcileStripe(ctx, { since: new Date(last * 1_000) })).rejects.toMatchObject({ code: 'upstream_failed' })
    const bare = { ...ctx, config: defineConfig({ app: { name: 'Test' }, webhooks: {} }) }
    expect(await reconcileStripe(bare)).toMatchObject({ skipped: expect.stringContaining('handles no event') })
  })
})
