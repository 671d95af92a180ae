import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { ask, listIn, requireAsked, textIn } from './ask.ts'
import type { Person, Processor } from './processor.ts'

const api = 'https://api.stripe.com/v1'

/**
 * Customers, found by the ids that the policy names or by address. Deleting one ends its subscriptions at once and cannot
 * be undone (https://docs.stripe.com/api/customers/delete); Stripe keeps the payments, which it must, and lets them be redacted
 * after 90 days (https://docs.stripe.com/privacy/redaction).
 */
export const stripe: Processor = {
  needs: ['STRIPE_SECRET_KEY'],
  async *export(ctx, person) {
    for (const customer of await customers(ctx, person)) {
      yield { kind: 'customer', record: customer }
      const id = textIn(customer, 'id') as string
      for (const [kind, path] of [
        ['subscription', 'subscriptions'],
        ['invoice', 'invoices'],
        ['charge', 'charges'],
        ['payment_intent', 'payment_intents'],
      ] as const)
        for await (const record of pages(ctx, `${path}?customer=${encodeURIComponent(id)}${kind === 'subscription' ? '&status=all' : ''}`))
          yield { kind, record }
    }
  },
  async erase(ctx, person) {
    let erased = 0
    for (const customer of await customers(ctx, person)) {
      const id = textIn(customer, 'id') as string
      const { status } = await ask(ctx, 'Stripe', `${api}/customers/${encodeURIComponent(id)}`, {
        method: 'DELETE',
        headers: headers(ctx),
        accept: [404],
      })
      if (status !== 404) erased++
    }
    if (erased === 0) return { erased: {} }
    return {
      erased: { customers: erased },
      kept: ['Payments and invoices: Stripe keeps them by law; a redaction job can be run 90 days after the last one.'],
    }
  },
}

function headers(ctx: Context): Record<string, string> {
  return { authorization: `Bearer ${requireEnv(ctx.env, 'STRIPE_SECRET_KEY', 'Asking Stripe')}` }
}

/** Deleted customers are still answered for, as `deleted: true`. */
async function customers(ctx: Context, person: Person): Promise<Record<string, unknown>[]> {
  const found = new Map<string, Record<string, unknown>>()
  for (const id of person.ids) {
    const { status, body } = await ask(ctx, 'Stripe', `${api}/customers/${encodeURIComponent(id)}`, {
      headers: headers(ctx),
      accept: [404],
    })
    if (status === 404 || (body as { deleted?: unknown }).deleted === true) continue
    requireAsked('Stripe', textIn(body, 'id') === id)
    found.set(id, body as Record<string, unknown>)
  }
  if (person.email !== null) {
    // Stripe compares addresses as they are written.
    for (const email of new Set([person.email, person.email.toLowerCase()]))
      for await (const customer of pages(ctx, `customers?email=${encodeURIComponent(email)}`)) {
        requireAsked('Stripe', textIn(customer, 'email')?.toLowerCase() === email.toLowerCase())
        found.set(textIn(customer, 'id') ?? '', customer)
      }
  }
  return [...found.values()]
}

async function* pages(ctx: Context, path: string): AsyncGenerator<Record<string, unknown>> {
  let after: string | undefined
  for (;;) {
    const { body } = await ask(
      ctx,
      'Stripe',
      `${api}/${path}&limit=100${after === undefined ? '' : `&starting_after=${encodeURIComponent(after)}`}`,
      {
        headers: headers(ctx),
      },
    )
    const page = listIn(body, 'data')
    yield* page
    after = textIn(page.at(-1), 'id')
    if ((body as { has_more?: unknown }).has_more !== true || after === undefined) return
  }
}
