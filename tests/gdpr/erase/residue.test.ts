import { beforeEach, describe, expect, it } from 'vitest'
import { personElsewhere } from '../../../lib/catalog.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { eraseSubject } from '../../../lib/gdpr/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { environmentCipher } from '../../../lib/platform/field-cipher.ts'
import { sealPayload } from '../../../lib/webhooks/payload.ts'
import { logLines, testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()
type Gdpr = NonNullable<Parameters<typeof defineConfig>[0]['gdpr']>

beforeEach(async () => {
  await test.db.execute(`
    truncate caretaker.gdpr_requests, caretaker.outbox, caretaker.inbox cascade;
    drop schema if exists app cascade;
    create schema app;
    create table app.people (id uuid primary key, email text, phone text, full_name text);
    create table app.invoices (id int primary key, person uuid references app.people, billed_to text);
    create table app.tickets (id int primary key, text text, details jsonb, tags text[]);
    create table app.logs (id int, actor uuid) partition by range (id);
    create table app.logs_1 partition of app.logs for values from (0) to (100);
    insert into app.people values
      ('11111111-1111-4111-8111-111111111111', 'Ada@Example.org', '+4915112345678', 'Ada Lovelace'),
      ('22222222-2222-4222-8222-222222222222', 'bob@example.org', '+4915187654321', 'Bob');
    insert into app.invoices values (1, '11111111-1111-4111-8111-111111111111', 'Ada Lovelace'), (2, null, 'Bob');
    insert into app.tickets values
      (1, 'Please call ADA LOVELACE back', '{"from": "bob@example.org"}', '{}'),
      (2, 'Nothing', '{"cc": ["ada@example.org", "x"], "n": 1}', '{}'),
      (3, 'adam.lovelace is someone else', '{}', '{vip,ada@example.org}'),
      (4, 'Bob', null, null);
    insert into app.logs values (5, '11111111-1111-4111-8111-111111111111'), (6, '22222222-2222-4222-8222-222222222222')`)
})

function context(gdpr: Partial<Gdpr> = {}): Context {
  const config = defineConfig({ app: { name: 'App' }, gdpr: { subject: { table: 'app.people', identifiers: ['full_name'] }, ...gdpr } })
  return testContext(test.db, { config })
}

async function erased(ctx: Context, input: Partial<Parameters<typeof eraseSubject>[1]> = {}) {
  const outcome = await eraseSubject(ctx, { subject: '11111111-1111-4111-8111-111111111111', ...input })
  if (outcome.status !== 'erased') throw new Error(outcome.status)
  return outcome.receipt
}

describe('after an erasure', () => {
  it('every text, JSON, array and uuid that still names the person is found, and what only looks like it is not', async () => {
    const ctx = context()
    const { residue, notReached } = await erased(ctx)
    expect(residue?.found).toEqual([
      { table: 'app.logs', column: 'actor', rows: 1, kept: false },
      { table: 'app.tickets', column: 'text', rows: 1, kept: false },
      { table: 'app.tickets', column: 'details', rows: 1, kept: false },
      { table: 'app.tickets', column: 'tags', rows: 1, kept: false },
    ])
    expect(residue?.notScanned).toEqual([])
    expect(notReached.join('\n')).toContain('app.tickets.text: 1 row names the person in text')
    const [event] = await test.db.query<{ payload: { found: unknown[] } }>(
      `select payload from caretaker.outbox where topic = 'gdpr.residue'`,
    )
    expect(event?.payload.found).toHaveLength(4)
    expect(JSON.stringify([residue, notReached, event]) + logLines(ctx).join('')).not.toMatch(/ada@|lovelace|49151|11111111-/i)
  })

  it('columns that may mention people have the names replaced, and nothing else', async () => {
    const { residue, mentions } = await erased(context({ tables: { 'app.tickets': { mentions: ['text', 'details', 'tags'] } } }))
    expect(mentions).toEqual([{ table: 'app.tickets', rows: 3 }])
    expect(residue?.found.map(({ table }) => table)).toEqual(['app.logs'])
    expect(await test.db.query('select text, details, tags from app.tickets order by id')).toEqual([
      { text: 'Please call [erased] back', details: { from: 'bob@example.org' }, tags: [] },
      { text: 'Nothing', details: { cc: ['[erased]', 'x'], n: 1 }, tags: [] },
      { text: 'adam.lovelace is someone else', details: {}, tags: ['vip', '[erased]'] },
      { text: 'Bob', details: null, tags: null },
    ])
  })

  it('who only has a longer address or number is somebody else, and nothing of theirs is touched', async () => {
    const others = 'joann@example.org, ada.ada@example.org, ada@example.org.uk, xAda Lovelacey, 49151123456789, +49151123456780'
    await test.db.execute(`update app.tickets set text = $1 where id = 1`, [others])
    const ctx = context({ tables: { 'app.tickets': { mentions: ['text'] } } })
    const cipher = environmentCipher(ctx.env, 'test')
    await test.db.execute(
      `insert into caretaker.inbox (source, event_id, type, payload, state) values ('stripe', 'evt_ada.ada', 't', $1::bytea, 'received')`,
      [sealPayload(cipher, { source: 'stripe', eventId: 'evt_ada.ada', body: Buffer.from('{"email":"ada.ada@example.org"}') })],
    )
    const { residue, mentions, elsewhere } = await erased(ctx, { elsewhere: personElsewhere })
    expect(mentions).toEqual([])
    expect(elsewhere).toEqual([])
    expect(residue?.found.filter(({ column }) => column === 'text')).toEqual([])
    expect(await test.db.query('select text from app.tickets where id = 1')).toEqual([{ text: others }])
    expect(await test.db.query('select state from caretaker.inbox')).toEqual([{ state: 'received' }])
  })

  it('the number of a row is no name: amounts and dates in text stay', async () => {
    await test.db.execute(`
      create table app.numbered (id bigint primary key, email text);
      insert into app.numbered values (100000, 'zoe@example.org');
      update app.tickets set text = 'She paid 100000 in all' where id = 1`)
    const ctx = context({ subject: { table: 'app.numbered' }, tables: { 'app.tickets': { mentions: ['text'] } } })
    expect((await erased(ctx, { subject: '100000' })).mentions).toEqual([])
    expect(await test.db.query('select text from app.tickets where id = 1')).toEqual([{ text: 'She paid 100000 in all' }])
  })

  it('text of a domain is searched like any other', async () => {
    await test.db.execute(`
      create domain app.address as text;
      create table app.letters (id int, sent_to app.address);
      insert into app.letters values (1, 'ada@example.org')`)
    expect((await erased(context())).residue?.found).toContainEqual({ table: 'app.letters', column: 'sent_to', rows: 1, kept: false })
  })

  it('names that are patterns are taken as they are written', async () => {
    await test.db.execute(`update app.people set full_name = 'A.*(x)[y]\\d|z' where email like 'Ada%';
      update app.tickets set text = 'before A.*(x)[y]\\D|z after, Axx' where id = 1`)
    await erased(context({ tables: { 'app.tickets': { mentions: ['text'] } } }))
    expect(await test.db.query('select text from app.tickets where id = 1')).toEqual([{ text: 'before [erased] after, Axx' }])
  })

  it('what is kept on a legal basis may name the person, and is told apart', async () => {
    const { residue } = await erased(context({ tables: { 'app.invoices': { erase: { keep: 'tax law', until: '10 years' } } } }))
    expect(residue?.found).toContainEqual({ table: 'app.invoices', column: 'billed_to', rows: 1, kept: true })
  })

  it('stored webhook events that name the person are emptied, however the name is written in them', async () => {
    const ctx = context()
    const cipher = environmentCipher(ctx.env, 'test')
    const bodies = {
      evt_1: '{"email":"ada@example.org"}',
      evt_2: '{"name":"Ada\\u0020Lovelace"}',
      evt_3: 'To=%2B4915112345678&Body=hi',
      evt_4: '{"email":"bob@example.org"}',
    }
    for (const [eventId, body] of Object.entries(bodies))
      await test.db.execute(
        `insert into caretaker.inbox (source, event_id, type, payload, state) values ('stripe', $1, 't', $2::bytea, 'applied')`,
        [eventId, sealPayload(cipher, { source: 'stripe', eventId, body: Buffer.from(body) })],
      )
    await test.db.execute(
      `insert into caretaker.inbox (source, event_id, type, payload, state) values ('stripe', 'evt_5', 't', '\\x0102', 'dead')`,
    )
    const { elsewhere, notReached } = await erased(ctx, { elsewhere: personElsewhere })
    expect(elsewhere).toEqual([{ name: 'webhook events', records: 3 }])
    expect(await test.db.query('select event_id from caretaker.inbox where length(payload) > 0 order by 1')).toEqual([
      { event_id: 'evt_4' },
      { event_id: 'evt_5' },
    ])
    expect(notReached.join('\n')).toContain('1 stored webhook events')
  })

  it('can be left out, and then the receipt says so', async () => {
    const { residue, notReached } = await erased(context({ residue: false }))
    expect(residue).toBeNull()
    expect(notReached.join('\n')).toContain('gdpr.residue is false')
  })
})
