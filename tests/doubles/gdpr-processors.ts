import { HttpResponse, http } from 'msw'

/* The interfaces of processors, as far as exports and erasures use them: strict about keys, forgetful about nothing. */

export interface ProcessorsState {
  /** Requests that change something, as `METHOD path`. */
  changes: string[]
  /** Answers everything of this host with this status. */
  broken: { host: string; status: number } | undefined
  stripe: { customers: { id: string; email: string }[]; subscriptions: { id: string; customer: string }[] }
  posthog: { persons: { id: string; distinct_ids: string[]; properties: { email?: string } }[]; events: { id: string; person: string }[] }
  sendgrid: { contacts: { id: string; email: string }[]; bounces: { email: string; reason: string }[]; mayErase: boolean }
  twilio: { messages: { sid: string; from: string; to: string; num_media: string }[] }
  memberstack: { members: { id: string; auth: { email: string } }[] }
}

export const processorKeys = {
  STRIPE_SECRET_KEY: 'sk_test_processors',
  POSTHOG_PERSONAL_API_KEY: 'phx_processors',
  POSTHOG_PROJECT_ID: '4711',
  SENDGRID_API_KEY: 'SG.processors',
  TWILIO_ACCOUNT_SID: 'AC0123',
  TWILIO_AUTH_TOKEN: 'twilio-token-of-the-test',
  MEMBERSTACK_SECRET_KEY: 'sk_memberstack',
}

export function processorApis(state: ProcessorsState) {
  const guarded =
    (key: { header: string; value: string }, answer: (url: URL, request: Request) => Response | Promise<Response>) =>
    async ({ request }: { request: Request }) => {
      const url = new URL(request.url)
      if (state.broken?.host === url.host) return HttpResponse.json({}, { status: state.broken.status })
      if (request.headers.get(key.header) !== key.value) return HttpResponse.json({}, { status: 401 })
      if (request.method === 'DELETE') state.changes.push(`${request.method} ${url.host}${url.pathname}`)
      return answer(url, request)
    }
  const stripeKey = { header: 'authorization', value: `Bearer ${processorKeys.STRIPE_SECRET_KEY}` }
  const posthogKey = { header: 'authorization', value: `Bearer ${processorKeys.POSTHOG_PERSONAL_API_KEY}` }
  const sendgridKey = { header: 'authorization', value: `Bearer ${processorKeys.SENDGRID_API_KEY}` }
  const basic = Buffer.from(`${processorKeys.TWILIO_ACCOUNT_SID}:${processorKeys.TWILIO_AUTH_TOKEN}`).toString('base64')
  const twilioKey = { header: 'authorization', value: `Basic ${basic}` }
  const memberstackKey = { header: 'x-api-key', value: processorKeys.MEMBERSTACK_SECRET_KEY }
  const last = (url: URL) => decodeURIComponent(url.pathname.split('/').at(-1) ?? '')
  // A page holds one, so that whoever reads the first only is found out.
  const page = <T extends { id: string }>(url: URL, all: T[]) => {
    const from = all.findIndex(({ id }) => id === url.searchParams.get('starting_after')) + 1
    return HttpResponse.json({ object: 'list', data: all.slice(from, from + 1), has_more: from + 1 < all.length })
  }
  const stripe = 'https://api.stripe.com/v1'
  const posthog = 'https://us.posthog.com/api/projects/4711'
  const sendgrid = 'https://api.sendgrid.com/v3'
  const twilio = 'https://api.twilio.com/2010-04-01/Accounts/AC0123'
  return [
    http.get(
      `${stripe}/customers`,
      guarded(stripeKey, (url) =>
        page(
          url,
          state.stripe.customers.filter(({ email }) => email === url.searchParams.get('email')),
        ),
      ),
    ),
    http.get(
      `${stripe}/customers/:id`,
      guarded(stripeKey, (url) => {
        const found = state.stripe.customers.find(({ id }) => id === last(url))
        return found === undefined ? HttpResponse.json({ error: {} }, { status: 404 }) : HttpResponse.json(found)
      }),
    ),
    http.delete(
      `${stripe}/customers/:id`,
      guarded(stripeKey, (url) => {
        if (!state.stripe.customers.some(({ id }) => id === last(url))) return HttpResponse.json({ error: {} }, { status: 404 })
        state.stripe.customers = state.stripe.customers.filter(({ id }) => id !== last(url))
        return HttpResponse.json({ id: last(url), deleted: true })
      }),
    ),
    http.get(
      `${stripe}/:kind`,
      guarded(stripeKey, (url) =>
        page(
          url,
          last(url) === 'subscriptions'
            ? state.stripe.subscriptions.filter((one) => one.customer === url.searchParams.get('customer'))
            : [],
        ),
      ),
    ),
    http.get(
      `${posthog}/persons/`,
      guarded(posthogKey, (url) => {
        const [id, email] = [url.searchParams.get('distinct_id'), url.searchParams.get('email')]
        return HttpResponse.json({
          results: state.posthog.persons.filter((one) => (id === null ? one.properties.email === email : one.distinct_ids.includes(id))),
        })
      }),
    ),
    http.get(
      `${posthog}/events/`,
      guarded(posthogKey, (url) => {
        const all = state.posthog.events.filter(({ person }) => person === url.searchParams.get('person_id'))
        const from = Number(url.searchParams.get('after') ?? 0)
        const next = new URL(url)
        next.searchParams.set('after', String(from + 1))
        return HttpResponse.json({ results: all.slice(from, from + 1), next: from + 1 < all.length ? next.href : null })
      }),
    ),
    http.delete(
      `${posthog}/persons/:id/`,
      guarded(posthogKey, (url) => {
        const id = url.pathname.split('/').at(-2)
        if (url.searchParams.get('delete_events') !== 'true') return HttpResponse.json({}, { status: 400 })
        state.posthog.persons = state.posthog.persons.filter((one) => one.id !== id)
        return new HttpResponse(null, { status: 204 })
      }),
    ),
    http.post(
      `${sendgrid}/marketing/contacts/search/emails`,
      guarded(sendgridKey, async (_url, request) => {
        const { emails } = (await request.json()) as { emails: string[] }
        const found = state.sendgrid.contacts.filter(({ email }) => emails.includes(email))
        if (found.length === 0) return HttpResponse.json({ result: {} }, { status: 404 })
        return HttpResponse.json({ result: Object.fromEntries(found.map((contact) => [contact.email, { contact }])) })
      }),
    ),
    http.delete(
      `${sendgrid}/marketing/contacts`,
      guarded(sendgridKey, (url) => {
        const ids = url.searchParams.get('ids')?.split(',') ?? []
        state.sendgrid.contacts = state.sendgrid.contacts.filter(({ id }) => !ids.includes(id))
        return HttpResponse.json({ job_id: 'job' }, { status: 202 })
      }),
    ),
    http.get(
      `${sendgrid}/suppression/:list/:email`,
      guarded(sendgridKey, (url) =>
        HttpResponse.json(url.pathname.includes('/bounces/') ? state.sendgrid.bounces.filter(({ email }) => email === last(url)) : []),
      ),
    ),
    http.delete(
      `${sendgrid}/suppression/:list/:email`,
      guarded(sendgridKey, (url) => {
        const there = url.pathname.includes('/bounces/') && state.sendgrid.bounces.some(({ email }) => email === last(url))
        if (!there) return HttpResponse.json({ errors: [] }, { status: 404 })
        state.sendgrid.bounces = state.sendgrid.bounces.filter(({ email }) => email !== last(url))
        return new HttpResponse(null, { status: 204 })
      }),
    ),
    http.post(
      `${sendgrid}/recipients/erasejob`,
      guarded(sendgridKey, async (_url, request) => {
        if (!state.sendgrid.mayErase) return HttpResponse.json({ errors: [] }, { status: 403 })
        const { email_addresses: addresses } = (await request.json()) as { email_addresses: string[] }
        state.changes.push(`erasejob ${addresses.length}`)
        return HttpResponse.json({ job_id: 'job' }, { status: 202 })
      }),
    ),
    http.get(
      `${twilio}/Messages.json`,
      guarded(twilioKey, (url) => {
        const [to, from] = [url.searchParams.get('To'), url.searchParams.get('From')]
        const all = state.twilio.messages.filter((one) => (to === null ? one.from === from : one.to === to))
        const at = Number(url.searchParams.get('Page') ?? 0)
        const next = new URL(url)
        next.searchParams.set('Page', String(at + 1))
        return HttpResponse.json({
          messages: all.slice(at, at + 1),
          next_page_uri: at + 1 < all.length ? next.pathname + next.search : null,
        })
      }),
    ),
    http.get(
      `${twilio}/Messages/:sid/Media.json`,
      guarded(twilioKey, () => HttpResponse.json({ media_list: [{ sid: 'ME1' }] })),
    ),
    http.delete(
      `${twilio}/Messages/:sid`,
      guarded(twilioKey, (url) => {
        const sid = last(url).replace('.json', '')
        state.twilio.messages = state.twilio.messages.filter((one) => one.sid !== sid)
        return new HttpResponse(null, { status: 204 })
      }),
    ),
    http.delete(
      `${twilio}/Messages/:sid/Media/:media`,
      guarded(twilioKey, () => new HttpResponse(null, { status: 204 })),
    ),
    http.get(
      'https://admin.memberstack.com/members/:id',
      guarded(memberstackKey, (url) => {
        const found = state.memberstack.members.find(({ id, auth }) => id === last(url) || auth.email === last(url))
        return found === undefined ? HttpResponse.json({ code: 'not-found' }, { status: 404 }) : HttpResponse.json({ data: found })
      }),
    ),
    http.delete(
      'https://admin.memberstack.com/members/:id',
      guarded(memberstackKey, async (url, request) => {
        if (((await request.json()) as { deleteStripeCustomer?: boolean }).deleteStripeCustomer !== false)
          return HttpResponse.json({}, { status: 400 })
        state.memberstack.members = state.memberstack.members.filter(({ id }) => id !== last(url))
        return HttpResponse.json({ data: { id: last(url) } })
      }),
    ),
  ]
}
