import { beforeAll, describe, expect, it } from 'vitest'
import policy from '../../caretaker.config.ts'
import { jobs } from '../../lib/catalog.ts'
import { claimManually, findRun, work } from '../../lib/jobs/index.ts'
import { qualified } from '../../lib/platform/db.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { installExample } from '../../local/example.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

describe('the CanAI example', () => {
  const test = useTestDatabase({ template: 'template0' })

  beforeAll(async () => {
    await installExample(test.db, 'canai', { rows: 5_000 })
    await applyMigrations(test.db)
  })

  it('has about as many rows as asked for, and 500 people with an address', async () => {
    const [people] = await test.db.query<{ n: number; addresses: number }>(
      'select count(*)::int as n, count(distinct email)::int as addresses from auth.users',
    )
    expect(people).toEqual({ n: 500, addresses: 500 })
    const tables = await test.db.query<{ tablename: string }>(`select tablename from pg_tables where schemaname = 'public'`)
    let rows = 0
    for (const { tablename } of tables) {
      const [count] = await test.db.query<{ n: number }>(`select count(*)::int as n from ${qualified('public', tablename)}`)
      expect(count?.n, tablename).toBeGreaterThan(0)
      rows += count?.n ?? 0
    }
    expect(rows).toBeGreaterThan(4_500)
    expect(rows).toBeLessThan(5_500)
  })

  it('writes the monthly report once, however often its job runs', async () => {
    const ctx = testContext(test.db, { config: policy })
    const all = jobs(policy)
    for (let time = 0; time < 2; time++) {
      const { id } = await claimManually(ctx, 'monthly-lifecycle')
      await work(ctx, all, { until: id })
      const run = await findRun(ctx.db, id)
      expect([run?.state, run?.error]).toEqual(['done', null])
    }
    const reports = await test.db.query(
      `select total_users > 0 as users, uptime_percentage between 90 and 100 as uptime from performance_reports
       where month = date_trunc('month', now() - interval '1 month')::date`,
    )
    expect(reports).toEqual([{ users: true, uptime: true }])
  })

  it('can refresh its materialised view concurrently', async () => {
    await test.db.execute('refresh materialized view concurrently daily_metrics')
    const [metrics] = await test.db.query<{ days: number }>('select count(*)::int as days from daily_metrics where avg_response_time > 0')
    expect(metrics?.days).toBeGreaterThan(50)
  })

  it('keeps rows of storage.objects from being deleted by SQL', async () => {
    await expect(test.db.execute('delete from storage.objects')).rejects.toMatchObject({ code: '42501' })
    const [files] = await test.db.query<{ n: number }>('select count(*)::int as n from storage.objects')
    expect(files?.n).toBeGreaterThan(10)
  })

  it('has addresses of people in columns that no foreign key covers', async () => {
    const [linked] = await test.db.query<{ feedback: number; shares: number }>(
      `select (select count(*)::int from feedback_logs f join auth.users u on lower(f.contact_email) = lower(u.email) where f.user_id is null) as feedback,
              (select count(*)::int from share_logs s join auth.users u on lower(s.recipient_email) = lower(u.email)) as shares`,
    )
    expect(linked?.feedback).toBeGreaterThan(3)
    expect(linked?.shares).toBeGreaterThan(3)
  })

  it('records a paid invoice for the customer it belongs to', async () => {
    const handler = policy.webhooks?.stripe?.on?.['invoice.paid']
    const [someone] = await test.db.query<{ id: string; customer: string }>(
      `select id, raw_app_meta_data ->> 'stripe_customer_id' as customer from auth.users limit 1`,
    )
    const event = {
      id: 'evt_1',
      type: 'invoice.paid',
      created: 1_780_000_000,
      data: {
        object: {
          id: 'in_new',
          customer: someone?.customer,
          amount_paid: 4900,
          currency: 'eur',
          status_transitions: { paid_at: 1_780_000_000 },
        },
      },
    }
    await test.db.transaction((tx) => handler?.(event as never, tx, {} as never) ?? Promise.reject(new Error('no handler')))
    expect(
      await test.db.query(
        `select user_id, amount_cents, currency, status, extract(epoch from paid_at)::int as paid from payment_logs where stripe_invoice_id = 'in_new'`,
      ),
    ).toEqual([{ user_id: someone?.id, amount_cents: 4900, currency: 'eur', status: 'paid', paid: 1_780_000_000 }])
  })
})
