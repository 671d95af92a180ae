import { beforeAll, describe, expect, it } from 'vitest'
import catchup from '../../examples/catchup/caretaker.config.ts'
import guide from '../../examples/guide/caretaker.config.ts'
import runbooks from '../../examples/runbooks/caretaker.config.ts'
import { jobs } from '../../lib/catalog.ts'
import type { WebhookHandler } from '../../lib/config/index.ts'
import { claimManually, findRun, work } from '../../lib/jobs/index.ts'
import type { Database } from '../../lib/platform/db.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { firstPerson, installExample } from '../../local/example.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

const delivery = {
  source: 'test',
  attempt: 1,
  receivedAt: new Date(1_780_000_000_000),
  late: false,
  current: false,
  emit: () => Promise.resolve(),
}

/** Hands an event to its handler in a transaction, as the job does; twice, because doing it again must do no harm. */
async function handle(db: Database, handlers: unknown, type: string, object: Record<string, unknown>): Promise<void> {
  const handler = (handlers as Record<string, WebhookHandler> | undefined)?.[type]
  if (handler === undefined) throw new Error(`no handler of ${type}`)
  const event = { id: 'event', type, created: 1_780_000_000, data: { object } }
  for (let time = 0; time < 2; time++) await db.transaction((tx) => handler(event, tx, delivery))
}

const paid = (customer: string | null) => ({
  id: 'in_new',
  customer,
  amount_paid: 4900,
  currency: 'eur',
  status_transitions: { paid_at: 1_780_000_000 },
})

describe('the runbooks example', () => {
  const test = useTestDatabase({ template: 'template0' })
  beforeAll(async () => {
    await installExample(test.db, 'runbooks', { rows: 500 })
  })

  it('books a paid invoice, and follows the state of a subscription', async () => {
    const [subscription] = await test.db.query<{ customer: string }>(
      `select stripe_customer_id as customer from subscriptions where user_id = $1::uuid`,
      [firstPerson],
    )
    const customer = subscription?.customer ?? ''
    const { on } = runbooks.webhooks?.stripe ?? {}
    await handle(test.db, on, 'invoice.paid', paid(customer))
    expect(
      await test.db.query(
        `select user_id, amount_cents, currency, status, extract(epoch from paid_at)::int as paid from payments where stripe_invoice_id = 'in_new'`,
      ),
    ).toEqual([{ user_id: firstPerson, amount_cents: 4900, currency: 'eur', status: 'paid', paid: 1_780_000_000 }])
    for (const [theirs, ours] of [
      ['unpaid', 'past_due'],
      ['canceled', 'canceled'],
      ['active', 'active'],
    ]) {
      await handle(test.db, on, 'customer.subscription.updated', { id: 'sub_1', customer, status: theirs })
      expect(await test.db.query('select status from subscriptions where user_id = $1::uuid', [firstPerson])).toEqual([{ status: ours }])
    }
  })
})

describe('the guide example', () => {
  const test = useTestDatabase({ template: 'template0' })
  beforeAll(async () => {
    await installExample(test.db, 'guide', { rows: 1_000 })
  })

  it('books a paid invoice for whom the customer was before, and gives up a cart that expired', async () => {
    const [known] = await test.db.query<{ user_id: string; customer: string }>(
      'select user_id, stripe_customer_id as customer from invoices limit 1',
    )
    const { on } = guide.webhooks?.stripe ?? {}
    await handle(test.db, on, 'invoice.paid', paid(known?.customer ?? ''))
    expect(await test.db.query(`select user_id, amount_cents from invoices where stripe_invoice_id = 'in_new'`)).toEqual([
      { user_id: known?.user_id, amount_cents: 4900 },
    ])
    const [open] = await test.db.query<{ id: string }>(`select id from orders where status = 'open' limit 1`)
    await handle(test.db, on, 'checkout.session.expired', { id: 'cs_1', client_reference_id: open?.id })
    expect(await test.db.query('select status from orders where id = $1::uuid', [open?.id])).toEqual([{ status: 'abandoned' }])
  })

  it('keeps the accounts of STACK Auth', async () => {
    const { on } = guide.webhooks?.sources?.['stack-auth'] ?? {}
    const id = '11111111-2222-4333-8444-555555555555'
    await handle(test.db, on, 'user.created', { id, primary_email: 'new@example.com', display_name: null })
    await handle(test.db, on, 'user.updated', { id, primary_email: 'newer@example.com', display_name: 'New' })
    expect(await test.db.query('select email, display_name from users where id = $1::uuid', [id])).toEqual([
      { email: 'newer@example.com', display_name: 'New' },
    ])
  })
})

describe('the CatchUp example', () => {
  const test = useTestDatabase({ template: 'template0' })
  beforeAll(async () => {
    await installExample(test.db, 'catchup', { rows: 1_000 })
    await applyMigrations(test.db)
  })

  it('keeps a reply of the person whose number it came from', async () => {
    const [person] = await test.db.query<{ id: string; phone: string }>('select id, phone from users where id = $1::uuid', [firstPerson])
    const message = { MessageSid: 'SM1', From: person?.phone, To: '+12005550199', Body: 'Called them' }
    await handle(test.db, catchup.webhooks?.twilio?.on, 'message.received', message)
    const replies = await test.db.query<{ phone: string; body: string }>(
      `select u.phone, r.body from sms_replies r join users u on u.id = r.user_id where r.twilio_sid = 'SM1'`,
    )
    expect(replies).toEqual([{ phone: person?.phone, body: 'Called them' }])
  })

  it('notes what became of a message', async () => {
    await test.db.execute(
      `insert into notifications (user_id, channel, provider_id) values ($1::uuid, 'sms', 'SM2'), ($1::uuid, 'email', 'sg_2')`,
      [firstPerson],
    )
    await handle(test.db, catchup.webhooks?.twilio?.on, 'message.failed', { MessageSid: 'SM2', MessageStatus: 'failed' })
    await handle(test.db, catchup.webhooks?.sendgrid?.on, 'email.bounce', { sg_message_id: 'sg_2.recvd-1', event: 'bounce' })
    expect(await test.db.query(`select provider_id, status from notifications where provider_id in ('SM2', 'sg_2') order by 1`)).toEqual([
      { provider_id: 'SM2', status: 'failed' },
      { provider_id: 'sg_2', status: 'bounced' },
    ])
  })

  it('suggests everybody who is due, and nobody twice', async () => {
    const ctx = testContext(test.db, { config: catchup })
    const all = jobs(catchup)
    const suggested: unknown[] = []
    for (let time = 0; time < 2; time++) {
      const { id } = await claimManually(ctx, 'suggestion-generation')
      await work(ctx, all, { until: id })
      const run = await findRun(ctx.db, id)
      expect([run?.state, run?.error]).toEqual(['done', null])
      suggested.push((run?.result?.steps as { suggested: number }[] | undefined)?.[0]?.suggested)
    }
    expect(suggested).toEqual([expect.any(Number), 0])
    expect(Number(suggested[0])).toBeGreaterThan(5)
    const twice = await test.db.query(
      `select contact_id from suggestions where status = 'pending' and reasoning like 'Not heard of%' group by 1 having count(*) > 1`,
    )
    expect(twice).toEqual([])
  })
})
