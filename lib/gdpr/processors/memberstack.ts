import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { ask, textIn } from './ask.ts'
import type { Person, Processor } from './processor.ts'

const api = 'https://admin.memberstack.com/members'

/** The member, found by the id that the policy names or by address. https://developers.memberstack.com/admin-rest-api */
export const memberstack: Processor = {
  needs: ['MEMBERSTACK_SECRET_KEY'],
  async *export(ctx, person) {
    for (const record of await members(ctx, person)) yield { kind: 'member', record }
  },
  async erase(ctx, person) {
    const found = await members(ctx, person)
    for (const member of found)
      await ask(ctx, 'Memberstack', `${api}/${encodeURIComponent(textIn(member, 'id') ?? '')}`, {
        method: 'DELETE',
        headers: { ...headers(ctx), 'content-type': 'application/json' },
        // Payments are Stripe's, and erased there.
        body: JSON.stringify({ deleteStripeCustomer: false, cancelStripeSubscriptions: false }),
        accept: [404],
      })
    return { erased: found.length === 0 ? {} : { members: found.length } }
  },
}

function headers(ctx: Context): Record<string, string> {
  return { 'x-api-key': requireEnv(ctx.env, 'MEMBERSTACK_SECRET_KEY', 'Asking Memberstack') }
}

async function members(ctx: Context, person: Person): Promise<Record<string, unknown>[]> {
  const found = new Map<string, Record<string, unknown>>()
  for (const named of [...person.ids, ...(person.email === null ? [] : [person.email])]) {
    const { status, body } = await ask(ctx, 'Memberstack', `${api}/${encodeURIComponent(named)}`, { headers: headers(ctx), accept: [404] })
    const member = status === 404 ? null : (body as { data?: Record<string, unknown> | null }).data
    const id = textIn(member, 'id')
    if (member !== null && member !== undefined && id !== undefined) found.set(id, member)
  }
  return [...found.values()]
}
