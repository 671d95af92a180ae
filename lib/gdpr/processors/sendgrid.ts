import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { ask, listIn, textIn } from './ask.ts'
import type { Processor } from './processor.ts'

const api = 'https://api.sendgrid.com/v3'
const suppressions = ['bounces', 'blocks', 'invalid_emails', 'spam_reports', 'unsubscribes'] as const

/**
 * The contact, the suppressions and the mail statistics of an address.
 * https://www.twilio.com/docs/sendgrid/api-reference/recipients-data-erasure-api/erase-recipients-email-data
 */
export const sendgrid: Processor = {
  needs: ['SENDGRID_API_KEY'],
  async *export(ctx, { email }) {
    if (email === null) return
    for (const record of await contacts(ctx, email)) yield { kind: 'contact', record }
    for (const list of suppressions) {
      const { body } = await ask(ctx, 'SendGrid', `${api}/suppression/${list}/${encodeURIComponent(email)}`, {
        headers: headers(ctx),
        accept: [404],
      })
      for (const record of Array.isArray(body) ? body : []) yield { kind: list, record }
    }
  },
  async erase(ctx, { email }) {
    if (email === null) return { erased: {} }
    const erased: Record<string, number> = {}
    const found = await contacts(ctx, email)
    if (found.length > 0) {
      const ids = found.map((contact) => textIn(contact, 'id') ?? '').join(',')
      await ask(ctx, 'SendGrid', `${api}/marketing/contacts?ids=${encodeURIComponent(ids)}`, {
        method: 'DELETE',
        headers: headers(ctx),
        accept: [404],
      })
      erased.contacts = found.length
    }
    for (const list of ['bounces', 'blocks', 'invalid_emails', 'spam_reports'] as const) {
      const { status } = await ask(ctx, 'SendGrid', `${api}/suppression/${list}/${encodeURIComponent(email)}`, {
        method: 'DELETE',
        headers: headers(ctx),
        accept: [404],
      })
      if (status !== 404) erased[list] = 1
    }
    // Names, subject lines and addresses in the mail log. Older accounts may not: the contact and the lists are gone then, and it is said.
    const { status } = await ask(ctx, 'SendGrid', `${api}/recipients/erasejob`, {
      method: 'POST',
      headers: { ...headers(ctx), 'content-type': 'application/json' },
      body: JSON.stringify({ email_addresses: [email] }),
      accept: [403],
    })
    // Who said "no more mail" must not get any because it was forgotten.
    const kept = ['An unsubscription, if there is one: it is how the objection to further mail is honoured (Art. 21).']
    if (status === 403)
      kept.push(
        'The mail log: this account may not use the erasure interface (scope recipients.erasejob.create); SendGrid drops it after 30 days at most.',
      )
    else erased.mail_log = 1
    return { erased, kept, ...(status === 403 ? {} : { pending: 'SendGrid erases the mail log in a job of its own.' }) }
  },
}

function headers(ctx: Context): Record<string, string> {
  return { authorization: `Bearer ${requireEnv(ctx.env, 'SENDGRID_API_KEY', 'Asking SendGrid')}` }
}

async function contacts(ctx: Context, email: string): Promise<Record<string, unknown>[]> {
  const { status, body } = await ask(ctx, 'SendGrid', `${api}/marketing/contacts/search/emails`, {
    method: 'POST',
    headers: { ...headers(ctx), 'content-type': 'application/json' },
    body: JSON.stringify({ emails: [email.toLowerCase()] }),
    accept: [404],
  })
  if (status === 404) return []
  const result = (body as { result?: Record<string, { contact?: unknown }> }).result ?? {}
  return listIn({ found: Object.values(result).map((one) => one.contact) }, 'found')
}
