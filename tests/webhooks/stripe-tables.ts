import { defineConfig, type StripeHandlers } from '../../lib/config/index.ts'
import type { Database, Transaction } from '../../lib/platform/db.ts'

/* What the tests of whole histories apply events to: the mirror, and handlers as an app would write them. */

export const mirrorTables = ['stripe_customers', 'stripe_subscriptions', 'stripe_invoices', 'stripe_payments'].map(
  (name) => `caretaker.${name}`,
)

export const appTables = `
  create table app_events (event text primary key, type text);
  create table app_subscriptions (id text primary key, status text);
  create table app_revenue (invoice text primary key, cents bigint)`

async function note(event: { id: string; type: string }, tx: Transaction): Promise<void> {
  // Twice would fail: a primary key.
  await tx.execute('insert into app_events (event, type) values ($1, $2)', [event.id, event.type])
}

async function follow(event: { data: { object: Record<string, unknown> } }, tx: Transaction): Promise<void> {
  await tx.execute('insert into app_subscriptions values ($1, $2) on conflict (id) do update set status = excluded.status', [
    event.data.object.id,
    event.data.object.status,
  ])
}

const on = {
  'customer.created': note,
  'customer.subscription.created': follow,
  'customer.subscription.updated': follow,
  'customer.subscription.deleted': follow,
  'invoice.paid': async (event: { id: string; type: string; data: { object: Record<string, unknown> } }, tx: Transaction) => {
    await note(event, tx)
    await tx.execute('insert into app_revenue values ($1, $2::bigint)', [event.data.object.id, event.data.object.amount_paid])
  },
} as unknown as StripeHandlers

export const historyPolicy = defineConfig({ app: { name: 'Test' }, webhooks: { stripe: { mirror: true, on } } })

/** Everything the events have made, as text, table by table. */
export async function tablesAsText(db: Database): Promise<Record<string, string[]>> {
  const result: Record<string, string[]> = {}
  for (const table of [...mirrorTables, 'app_events', 'app_subscriptions', 'app_revenue']) {
    const rows = await db.query<{ row: string }>(`select t::text as row from ${table} t order by 1`)
    result[table] = rows.map(({ row }) => row)
  }
  return result
}
