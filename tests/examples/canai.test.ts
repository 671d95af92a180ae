import { beforeAll, describe, expect, it } from 'vitest'
import policy from '../../caretaker.config.ts'
import { qualified } from '../../lib/platform/db.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { exampleFile, installExample } from '../../local/example.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'

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

  it.each((policy.retention ?? []).map((rule) => [rule.name, rule] as const))(
    'has work for the rule %s, and rows it must leave alone',
    async (_name, rule) => {
      const due = rule.where ?? `${rule.column} < now() - interval '${rule.olderThan}'`
      const [row] = await test.db.query<{ due: number; kept: number }>(
        `select count(*) filter (where ${due})::int as due, count(*) filter (where not (${due}))::int as kept from ${rule.table}`,
      )
      expect(row?.due).toBeGreaterThan(0)
      expect(row?.kept).toBeGreaterThan(0)
    },
  )

  it('names only tables, columns and indexes that exist', async () => {
    const relations = new Set(
      (await test.db.query<{ name: string }>(`select relname as name from pg_class where relnamespace = 'public'::regnamespace`)).map(
        (row) => row.name,
      ),
    )
    const steps = Object.values(policy.jobs ?? {}).flatMap((job) => job.steps)
    const named = steps.flatMap((step) => {
      if ('vacuum' in step) return step.vacuum
      if ('reindex' in step) return step.reindex.map((target) => (typeof target === 'string' ? target : target.table))
      if ('refresh' in step) return step.refresh
      return 'analyze' in step && step.analyze !== 'all' ? step.analyze : []
    })
    expect(named.length).toBeGreaterThan(8)
    for (const name of [...named, ...Object.keys(policy.gdpr?.tables ?? {})]) expect(relations, name).toContain(name)
    const rules = new Set((policy.retention ?? []).map((rule) => rule.name))
    for (const step of steps)
      if ('retention' in step && step.retention !== 'all') for (const rule of step.retention) expect(rules).toContain(rule)
  })

  it('writes the monthly report once, however often its SQL runs', async () => {
    const sql = policy.jobs?.['monthly-lifecycle']?.steps.flatMap((step) => ('sql' in step ? [step.sql] : []))[0] ?? ''
    await test.db.execute(sql)
    await test.db.execute(sql)
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

  it('has row level security on everywhere, and it holds', async () => {
    const open = await test.db.query(
      `select schemaname, tablename from pg_tables where schemaname in ('public', 'auth', 'storage') and not rowsecurity`,
    )
    expect(open).toEqual([])
    const [someone] = await test.db.query<{ user_id: string; n: number }>(
      'select user_id, count(*)::int as n from session_logs group by 1 order by 1 limit 1',
    )
    const seen = await test.db.transaction(async (tx) => {
      await tx.execute(`select set_config('request.jwt.claims', $1, true)`, [
        JSON.stringify({ sub: someone?.user_id, role: 'authenticated' }),
      ])
      await tx.execute('set local role authenticated')
      return tx.query<{ n: number; people: number }>('select count(*)::int as n, count(distinct user_id)::int as people from session_logs')
    })
    expect(seen).toEqual([{ n: someone?.n, people: 1 }])
    const anonymous = await test.db.transaction(async (tx) => {
      await tx.execute('set local role anon')
      return [...(await tx.query('select id from session_logs')), ...(await tx.query('select id from error_logs'))]
    })
    expect(anonymous).toEqual([])
  })

  it('keeps rows of storage.objects from being deleted by SQL', async () => {
    await expect(test.db.execute('delete from storage.objects')).rejects.toMatchObject({ code: '42501' })
    const files = await test.db.query<{ name: string; bytes: number }>(
      `select name, (metadata ->> 'size')::int as bytes from storage.objects`,
    )
    expect(files.length).toBeGreaterThan(10)
    for (const file of files) expect(exampleFile(file).byteLength).toBe(file.bytes)
  })

  it('has addresses of people in columns that no foreign key covers', async () => {
    const [linked] = await test.db.query<{ feedback: number; shares: number }>(
      `select (select count(*)::int from feedback_logs f join auth.users u on lower(f.contact_email) = lower(u.email) where f.user_id is null) as feedback,
              (select count(*)::int from share_logs s join auth.users u on lower(s.recipient_email) = lower(u.email)) as shares`,
    )
    expect(linked?.feedback).toBeGreaterThan(3)
    expect(linked?.shares).toBeGreaterThan(3)
  })

  it('gives the same rows each time', async () => {
    const again = await createTestDatabase({ template: 'template0' })
    try {
      await installExample(again.db, 'canai', { rows: 5_000 })
      const digest = `select md5(string_agg(id::text || user_id || response_time_ms || trust_delta || interaction_details, '' order by id)) as digest from session_logs`
      expect(await again.db.query(digest)).toEqual(await test.db.query(digest))
    } finally {
      await again.drop()
    }
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

describe('its data', () => {
  const test = useTestDatabase({ template: 'template0' })

  it('makes 200,000 rows by default', async () => {
    const rows = await installExample(test.db, 'canai')
    const own = Object.entries(rows)
      .filter(([table]) => !table.includes('.'))
      .reduce((sum, [, n]) => sum + n, 0)
    expect(own).toBeGreaterThan(190_000)
    expect(own).toBeLessThan(210_000)
  })
})
