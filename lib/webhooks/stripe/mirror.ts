import type { StripeMirrorTable, WebhookEvent, WebhookHandler } from '../../config/index.ts'
import { identifier, type Transaction } from '../../platform/db.ts'
import { instant, isObject, type JsonObject } from '../sources/json.ts'

/*
 * Tables that follow Stripe's. Every event brings the whole object, so that a write says all there is to say and the last
 * one counts; which is the last one, the order of an object's events has settled before (process-inbox.ts).
 */

export type MirrorPolicy = true | readonly StripeMirrorTable[]

type Columns = Record<string, unknown>

interface Mirrored {
  table: string
  types: readonly string[]
  /** Null for an object that is not of the table's kind. */
  row(object: JsonObject): { id: string; columns: Columns } | null
}

const mirrored: Record<StripeMirrorTable, Mirrored> = {
  customers: {
    table: 'stripe_customers',
    types: ['customer.created', 'customer.updated', 'customer.deleted'],
    row: (customer) =>
      of(customer, 'customer', {
        email: text(customer.email),
        name: text(customer.name),
        currency: text(customer.currency),
        balance: whole(customer.balance),
        delinquent: flag(customer.delinquent),
      }),
  },
  subscriptions: {
    table: 'stripe_subscriptions',
    types: ['created', 'updated', 'deleted', 'paused', 'resumed', 'pending_update_applied', 'pending_update_expired', 'trial_will_end'].map(
      (what) => `customer.subscription.${what}`,
    ),
    row(subscription) {
      const items = isObject(subscription.items) && Array.isArray(subscription.items.data) ? subscription.items.data.filter(isObject) : []
      const [first] = items
      return of(subscription, 'subscription', {
        customer_id: id(subscription.customer),
        status: text(subscription.status),
        price_ids: items.map((item) => id(item.price)).filter((price) => price !== null),
        quantity: items.length === 0 ? whole(subscription.quantity) : items.reduce((sum, item) => sum + (whole(item.quantity) ?? 0), 0),
        currency: text(subscription.currency),
        // On the items since API version 2025-03-31.
        current_period_start: time(subscription.current_period_start ?? first?.current_period_start),
        current_period_end: time(subscription.current_period_end ?? first?.current_period_end),
        cancel_at_period_end: flag(subscription.cancel_at_period_end),
        cancel_at: time(subscription.cancel_at),
        canceled_at: time(subscription.canceled_at),
        ended_at: time(subscription.ended_at),
        trial_end: time(subscription.trial_end),
      })
    },
  },
  invoices: {
    table: 'stripe_invoices',
    types: [
      'created',
      'updated',
      'deleted',
      'finalized',
      'finalization_failed',
      'sent',
      'paid',
      'payment_succeeded',
      'payment_failed',
      'payment_action_required',
      'overdue',
      'overpaid',
      'marked_uncollectible',
      'voided',
    ].map((what) => `invoice.${what}`),
    row(invoice) {
      const parent = isObject(invoice.parent) && isObject(invoice.parent.subscription_details) ? invoice.parent.subscription_details : {}
      const transitions = isObject(invoice.status_transitions) ? invoice.status_transitions : {}
      return of(invoice, 'invoice', {
        customer_id: id(invoice.customer),
        // Under `parent` since API version 2025-03-31.
        subscription_id: id(invoice.subscription ?? parent.subscription),
        number: text(invoice.number),
        status: text(invoice.status),
        currency: text(invoice.currency),
        amount_due: whole(invoice.amount_due),
        amount_paid: whole(invoice.amount_paid),
        amount_remaining: whole(invoice.amount_remaining),
        total: whole(invoice.total),
        due_at: time(invoice.due_date),
        paid_at: time(transitions.paid_at),
        period_start: time(invoice.period_start),
        period_end: time(invoice.period_end),
      })
    },
  },
  payments: {
    table: 'stripe_payments',
    types: [
      ...[
        'created',
        'processing',
        'requires_action',
        'amount_capturable_updated',
        'partially_funded',
        'payment_failed',
        'succeeded',
        'canceled',
      ].map((what) => `payment_intent.${what}`),
      ...['succeeded', 'captured', 'failed', 'updated', 'refunded'].map((what) => `charge.${what}`),
    ],
    row(object) {
      // A charge tells of its payment what was refunded, and nothing else.
      if (object.object === 'charge') {
        const payment = id(object.payment_intent)
        return payment === null ? null : { id: payment, columns: { amount_refunded: whole(object.amount_refunded) } }
      }
      return of(object, 'payment_intent', {
        customer_id: id(object.customer),
        status: text(object.status),
        currency: text(object.currency),
        amount: whole(object.amount),
        amount_received: whole(object.amount_received),
        canceled_at: time(object.canceled_at),
      })
    },
  },
}

/** The types of events that keep the mirror up to date. */
export function mirrorHandlers(policy: MirrorPolicy | undefined): ReadonlyMap<string, WebhookHandler> {
  const names = policy === true ? (Object.keys(mirrored) as StripeMirrorTable[]) : (policy ?? [])
  return new Map(
    names.flatMap((name) => {
      const target = mirrored[name]
      const handler: WebhookHandler = async (event, tx, delivery) => {
        // What could not be brought up to date would put an older state over a newer one.
        if (delivery.late && !delivery.current) return
        await write(tx, target, event, delivery.receivedAt)
      }
      return target.types.map((type) => [type, handler] as const)
    }),
  )
}

async function write(tx: Transaction, target: Mirrored, event: WebhookEvent, receivedAt: Date): Promise<void> {
  const row = isObject(event.data?.object) ? target.row(event.data.object) : null
  if (row === null) return
  const at = instant(event.created) ?? receivedAt
  const columns: Columns = {
    ...row.columns,
    account: text(event.account),
    as_of: at,
    ...(event.type.endsWith('.deleted') && !event.type.startsWith('customer.subscription.') ? { deleted_at: at } : {}),
  }
  const names = Object.keys(columns)
  await tx.execute(
    `insert into caretaker.${identifier(target.table)} as t (id, ${names.map(identifier).join(', ')})
     values ($1, ${names.map((_name, index) => `$${index + 2}`).join(', ')})
     on conflict (id) do update set ${names.map(assignment).join(', ')}`,
    [row.id, ...Object.values(columns)],
  )
}

function assignment(name: string): string {
  // An event that came late and was brought up to date is older than what the row has told since.
  return name === 'as_of' ? 'as_of = greatest(t.as_of, excluded.as_of)' : `${identifier(name)} = excluded.${identifier(name)}`
}

function of(object: JsonObject, kind: string, columns: Columns): { id: string; columns: Columns } | null {
  if (object.object !== kind || typeof object.id !== 'string') return null
  return {
    id: object.id,
    columns: {
      ...columns,
      livemode: flag(object.livemode),
      metadata: JSON.stringify(isObject(object.metadata) ? object.metadata : {}),
      created_at: time(object.created),
    },
  }
}

/** An id, or of an object that was expanded its id. */
function id(value: unknown): string | null {
  return text(isObject(value) ? value.id : value)
}

function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null
}

function whole(value: unknown): number | null {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : null
}

function flag(value: unknown): boolean | null {
  return typeof value === 'boolean' ? value : null
}

function time(value: unknown): Date | null {
  return instant(value) ?? null
}
