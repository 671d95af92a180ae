import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HttpResponse, http } from 'msw'
import { Webhook } from 'standardwebhooks'
import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { eraseSubject, exportSubject, planSubjectErasure } from '../../../lib/gdpr/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { type ProcessorsState, processorApis, processorKeys } from '../../doubles/gdpr-processors.ts'
import { logLines, testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { doubles } from '../../support/doubles.ts'
import { unzip } from '../export/unzip.ts'

const test = useTestDatabase()
let state: ProcessorsState

type Processors = NonNullable<NonNullable<Parameters<typeof defineConfig>[0]['gdpr']>['processors']>
const all: Processors = [
  { processor: 'stripe', ids: 'app.payments.customer' },
  'posthog',
  'sendgrid',
  { processor: 'twilio', ids: ['app.people.phone'] },
  'memberstack',
]

beforeEach(async () => {
  await test.db.execute(`
    truncate caretaker.gdpr_requests, caretaker.outbox cascade;
    drop schema if exists app cascade;
    create schema app;
    create table app.people (id int primary key, email text, phone text);
    create table app.payments (id int primary key, person int not null references app.people, customer text);
    insert into app.people values (1, 'Ada@example.org', '+4915112345678'), (2, 'bob@example.org', '+4915187654321');
    insert into app.payments values (10, 1, 'cus_ada'), (11, 1, 'cus_ada'), (12, 2, 'cus_bob')`)
  state = {
    changes: [],
    broken: undefined,
    stripe: {
      customers: [
        { id: 'cus_ada', email: 'other@example.org' },
        { id: 'cus_ada2', email: 'Ada@example.org' },
        { id: 'cus_ada3', email: 'ada@example.org' },
        { id: 'cus_bob', email: 'bob@example.org' },
      ],
      subscriptions: [
        { id: 'sub_1', customer: 'cus_ada' },
        { id: 'sub_2', customer: 'cus_ada' },
      ],
    },
    posthog: {
      persons: [
        { id: 'ph-ada', distinct_ids: ['1'], properties: { email: 'Ada@example.org' } },
        { id: 'ph-bob', distinct_ids: ['2'], properties: {} },
      ],
      events: [
        { id: 'e1', person: 'ph-ada' },
        { id: 'e2', person: 'ph-ada' },
        { id: 'e3', person: 'ph-bob' },
      ],
    },
    sendgrid: {
      contacts: [
        { id: 'c-ada', email: 'ada@example.org' },
        { id: 'c-bob', email: 'bob@example.org' },
      ],
      bounces: [{ email: 'Ada@example.org', reason: 'full' }],
      mayErase: true,
    },
    twilio: {
      messages: [
        { sid: 'SM1', from: '+1', to: '+4915112345678', num_media: '0' },
        { sid: 'SM2', from: '+1', to: '+4915112345678', num_media: '1' },
        { sid: 'SM3', from: '+4915112345678', to: '+1', num_media: '0' },
        { sid: 'SM4', from: '+1', to: '+4915187654321', num_media: '0' },
      ],
    },
    memberstack: { members: [{ id: 'mem_ada', auth: { email: 'Ada@example.org' } }] },
  }
  doubles.use(...processorApis(state))
})

function context(processors: Processors = all, env: Record<string, string> = processorKeys): Context {
  return testContext(test.db, {
    config: defineConfig({ app: { name: 'App' }, gdpr: { subject: { table: 'app.people', email: 'email' }, processors } }),
    env: readEnv({ ENCRYPTION_KEY: 'cd'.repeat(32), LOG_LEVEL: 'debug', ...env }),
  })
}

const named = (receipt: { processors: { name: string; status: string }[] }) =>
  Object.fromEntries(receipt.processors.map((one) => [one.name, one.status]))

async function exported(ctx: Context): Promise<{ files: Map<string, Buffer>; notIncluded: { what: string; why: string }[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'gdpr-processors-'))
  try {
    const { notIncluded } = await exportSubject(ctx, { subject: '1', out: join(folder, 'out.zip') })
    return { files: await unzip(await readFile(join(folder, 'out.zip'))), notIncluded }
  } finally {
    await rm(folder, { recursive: true })
  }
}

describe('an erasure', () => {
  it('tells every processor, and nothing of anybody else is touched', async () => {
    const ctx = context()
    const plan = await planSubjectErasure(ctx, { subject: '1' })
    expect(plan).toMatchObject({
      processors: ['stripe', 'posthog', 'sendgrid', 'twilio', 'memberstack'].map((name) => ({ name, byHand: null })),
    })
    expect(state.changes).toEqual([])
    const outcome = await eraseSubject(ctx, { subject: '1' })
    if (outcome.status !== 'erased') throw new Error(outcome.status)
    expect(outcome.receipt.processors).toMatchObject([
      { name: 'stripe', status: 'erased', erased: { customers: 3 }, kept: [expect.stringContaining('by law')] },
      { name: 'posthog', status: 'erased', erased: { persons: 1 }, pending: expect.any(String) },
      { name: 'sendgrid', status: 'erased', erased: { contacts: 1, bounces: 1, mail_log: 1 } },
      { name: 'twilio', status: 'erased', erased: { messages: 3, media: 1 } },
      { name: 'memberstack', status: 'erased', erased: { members: 1 } },
    ])
    expect(state.stripe.customers.map(({ id }) => id)).toEqual(['cus_bob'])
    expect(state.posthog.persons.map(({ id }) => id)).toEqual(['ph-bob'])
    expect(state.sendgrid.contacts.map(({ id }) => id)).toEqual(['c-bob'])
    expect(state.twilio.messages.map(({ sid }) => sid)).toEqual(['SM4'])
    expect(state.memberstack.members).toEqual([])
    const [left] = await test.db.query<{ text: string }>('select string_agg(r::text, $1) as text from caretaker.gdpr_requests r', [' '])
    expect(`${left?.text} ${JSON.stringify(outcome.receipt)} ${logLines(ctx).join('')}`).not.toMatch(/ada@example|cus_ada|49151/i)
  })

  it.each([
    ['api.stripe.com', 500],
    ['us.posthog.com', 429],
    ['api.sendgrid.com', 401],
    ['api.twilio.com', 503],
    ['admin.memberstack.com', 403],
  ])('that %s refuses with %d goes on with the others, waits, and tells only the missing one again', async (host, status) => {
    const ctx = context()
    state.broken = { host, status }
    await expect(eraseSubject(ctx, { subject: '1' })).rejects.toMatchObject({
      code: 'upstream_failed',
      detail: expect.stringContaining(String(status)),
    })
    expect(await test.db.query('select id from app.people')).toEqual([{ id: 2 }])
    const [waiting] = await test.db.query<{ state: string; checkpoint: { processors: Record<string, { status: string }> } }>(
      'select state, checkpoint from caretaker.gdpr_requests',
    )
    expect(waiting?.state).toBe('waiting')
    expect(
      Object.values(waiting?.checkpoint.processors ?? {})
        .map((one) => one.status)
        .sort(),
    ).toEqual(['asked', 'erased', 'erased', 'erased', 'erased'])
    expect(JSON.stringify(waiting)).not.toMatch(/ada@example|cus_ada|49151/i)
    const others = () =>
      state.changes.filter((change) => !change.includes(host) && !(host === 'api.sendgrid.com' && change.startsWith('erasejob')))
    const before = others()
    state.broken = undefined
    const outcome = await eraseSubject(ctx, { subject: '1' })
    if (outcome.status !== 'erased') throw new Error(outcome.status)
    expect(new Set(Object.values(named(outcome.receipt)))).toEqual(new Set(['erased']))
    expect(others()).toEqual(before)
    expect(state.stripe.customers).toHaveLength(1)
  })

  it('of somebody without address, number or id asks for nobody instead of everybody', async () => {
    await test.db.execute(
      `update app.people set email = '', phone = ' ' where id = 1; update app.payments set customer = '' where person = 1`,
    )
    const before = JSON.stringify([state.stripe, state.sendgrid, state.twilio, state.memberstack])
    const asked: string[] = []
    const ctx = {
      ...context(),
      fetch: ((...call: Parameters<typeof fetch>) => {
        asked.push(String(call[0]))
        return fetch(...call)
      }) as typeof fetch,
    }
    const { files } = await exported(ctx)
    expect([...files.keys()].filter((path) => path.startsWith('processors/'))).toEqual(['processors/posthog.json'])
    expect(
      named(((await eraseSubject(ctx, { subject: '1' })) as { receipt: { processors: { name: string; status: string }[] } }).receipt),
    ).toEqual({
      stripe: 'absent',
      posthog: 'erased',
      sendgrid: 'absent',
      twilio: 'absent',
      memberstack: 'absent',
    })
    expect(asked.filter((url) => !url.includes('posthog'))).toEqual([])
    expect(JSON.stringify([state.stripe, state.sendgrid, state.twilio, state.memberstack])).toBe(before)
  })

  it.each([
    ['stripe', 'https://api.stripe.com/v1/customers', () => ({ data: state.stripe.customers, has_more: false })],
    ['posthog', 'https://us.posthog.com/api/projects/4711/persons/', () => ({ results: state.posthog.persons })],
    ['twilio', 'https://api.twilio.com/2010-04-01/Accounts/AC0123/Messages.json', () => ({ messages: state.twilio.messages })],
  ] as const)('deletes nobody at %s when it overlooks whom it was asked for', async (name, url, everybody) => {
    doubles.use(http.get(url, () => HttpResponse.json(everybody())))
    const ctx = context(all.filter((one) => one === name || (typeof one !== 'string' && 'processor' in one && one.processor === name)))
    await expect(eraseSubject(ctx, { subject: '1' })).rejects.toMatchObject({
      code: 'upstream_failed',
      detail: expect.stringContaining('records of others'),
    })
    expect(state.changes).toEqual([])
  })

  it('says of a processor that does not know the person that it did not', async () => {
    state.memberstack.members = []
    const outcome = await eraseSubject(context(['memberstack']), { subject: '1' })
    expect(outcome).toMatchObject({ receipt: { processors: [{ name: 'memberstack', status: 'absent', erased: {} }] } })
  })

  it('names who must be asked by hand: without a key, or without an interface', async () => {
    const ctx = context(['stripe', { name: 'print-shop', manual: 'write to the print shop' }], {})
    const outcome = await eraseSubject(ctx, { subject: '1' })
    expect(outcome).toMatchObject({
      receipt: {
        processors: [
          { name: 'stripe', status: 'by-hand', why: 'STRIPE_SECRET_KEY is not set' },
          { name: 'print-shop', status: 'by-hand', why: 'write to the print shop' },
        ],
        notReached: expect.arrayContaining([expect.stringContaining('print-shop: not asked')]),
      },
    })
    const [event] = await test.db.query<{ payload: unknown }>(`select payload from caretaker.outbox where topic = 'gdpr.erased'`)
    expect(event?.payload).toMatchObject({ byHand: ['stripe', 'print-shop'] })
  })

  it('where SendGrid does not let the account erase its mail log, says that it stays', async () => {
    state.sendgrid.mayErase = false
    const outcome = await eraseSubject(context(['sendgrid']), { subject: '1' })
    expect(outcome).toMatchObject({
      receipt: { processors: [{ erased: { contacts: 1, bounces: 1 }, kept: [expect.any(String), expect.stringContaining('mail log')] }] },
    })
  })

  it('is refused before anything is changed when ids name a column that is not there', async () => {
    await expect(eraseSubject(context([{ processor: 'stripe', ids: 'app.payments.custommer' }]), { subject: '1' })).rejects.toMatchObject({
      code: 'policy_invalid',
      detail: expect.stringContaining('did you mean "customer"'),
    })
    expect(await test.db.query('select from app.people')).toHaveLength(2)
  })

  it('in a database without Caretaker tells the processors before the last row goes', async () => {
    await test.db.execute('alter schema caretaker rename to elsewhere')
    try {
      const outcome = await eraseSubject(context(), { subject: '1' })
      expect(outcome).toMatchObject({ status: 'erased', request: null })
      expect(state.stripe.customers.map(({ id }) => id)).toEqual(['cus_bob'])
    } finally {
      await test.db.execute('alter schema elsewhere rename to caretaker')
    }
  })
})

describe('a service by URL', () => {
  it('gets signed calls that an independent verifier accepts, and is held to its answer', async () => {
    const secret = `whsec_${randomBytes(24).toString('base64')}`
    const calls: { id: string; body: unknown }[] = []
    let answer: unknown = { erased: { letters: 2 }, pending: 'tonight' }
    doubles.use(
      http.post('https://crm.example/gdpr', async ({ request }) => {
        const text = await request.text()
        const body = new Webhook(secret).verify(text, Object.fromEntries(request.headers))
        calls.push({ id: request.headers.get('webhook-id') ?? '', body })
        return HttpResponse.json(answer as object)
      }),
    )
    const ctx = context([{ name: 'crm', url: 'https://crm.example/gdpr' }], { GDPR_PROCESSOR_SECRET: secret })
    const valid = answer
    answer = { ok: true }
    await expect(eraseSubject(ctx, { subject: '1' })).rejects.toMatchObject({
      code: 'upstream_failed',
      detail: expect.stringContaining('expected'),
    })
    answer = valid
    const outcome = await eraseSubject(ctx, { subject: '1' })
    expect(outcome).toMatchObject({
      receipt: { processors: [{ name: 'crm', status: 'erased', erased: { letters: 2 }, pending: 'tonight' }] },
    })
    expect(calls).toHaveLength(2)
    expect(calls[0]).toEqual(calls[1])
    expect(calls[0]?.body).toEqual({ action: 'erase', person: { id: '1', email: 'Ada@example.org' } })
  })
})

describe('an export', () => {
  it('holds what every processor has of the person, and nothing of anybody else', async () => {
    const { files, notIncluded } = await exported(context())
    const kinds = (name: string) =>
      (JSON.parse(files.get(`processors/${name}.json`)?.toString() ?? '[]') as { kind: string }[]).map(({ kind }) => kind)
    expect(kinds('stripe').sort()).toEqual(['customer', 'customer', 'customer', 'subscription', 'subscription'])
    expect(kinds('posthog')).toEqual(['person', 'event', 'event'])
    expect(kinds('sendgrid')).toEqual(['contact', 'bounces'])
    expect(kinds('twilio')).toEqual(['message', 'message', 'message'])
    expect(kinds('memberstack')).toEqual(['member'])
    expect([...files.values()].join('')).not.toMatch(/bob|SM4/)
    expect(notIncluded).toEqual([])
    const manifest = JSON.parse(files.get('manifest.json')?.toString() ?? '{}') as { files: { path: string }[] }
    expect(manifest.files.map(({ path }) => path)).toContain('processors/stripe.json')
    expect(state.changes).toEqual([])
  })

  it('names a processor that does not answer, and has all the others', async () => {
    state.broken = { host: 'api.stripe.com', status: 500 }
    const { files, notIncluded } = await exported(context())
    expect(notIncluded).toEqual([{ what: 'stripe', why: 'Stripe answered 500.' }])
    expect([...files.keys()].filter((path) => path.startsWith('processors/'))).toHaveLength(4)
  })
})
