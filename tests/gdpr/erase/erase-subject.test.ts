import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { verifyReceipt } from '../../../lib/gdpr/erase/receipt.ts'
import { eraseSubject, exportSubject, planSubjectErasure } from '../../../lib/gdpr/index.ts'
import { verifyAudit } from '../../../lib/platform/audit.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { logLines, testContext } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import { collect } from '../collect.ts'
import { makeShop, tableContents } from '../shop.ts'

let test: TestDatabase
beforeEach(async () => {
  test = await createTestDatabase()
  await makeShop(test.db)
  return () => test.drop()
})

function shop(gdpr: NonNullable<PolicyInput['gdpr']> = { subject: { table: 'users' } }, overrides: Partial<Context> = {}): Context {
  return testContext(test.db, { config: defineConfig({ app: { name: 'Shop' }, gdpr }), ...overrides })
}

async function ids(table: string, column = 'id'): Promise<number[]> {
  return (await test.db.query<{ id: number }>(`select ${column}::int as id from ${table} order by 1`)).map(({ id }) => id)
}

describe('eraseSubject', () => {
  it('erases everything of one person and nobody else, with no more than the subject named', async () => {
    const before = await tableContents(test.db)
    const ctx = shop({ subject: { table: 'users' }, tables: { newsletter: { link: { column: 'address', to: 'email' } } } })
    const outcome = await eraseSubject(ctx, { subject: '1' })
    expect(outcome.status).toBe('erased')

    expect(await ids('users')).toEqual([2, 3])
    expect(await test.db.query('select id, referred_by, favourite from users order by id')).toEqual([
      { id: 2, referred_by: null, favourite: null },
      { id: 3, referred_by: 2, favourite: null },
    ])
    expect(await test.db.query('select user_id, mentor from profiles order by 1')).toEqual([
      { user_id: 2, mentor: null },
      { user_id: 3, mentor: 2 },
    ])
    expect(await ids('teams')).toEqual([20])
    expect(await test.db.query('select team_id, user_id from members order by 1, 2')).toEqual([
      { team_id: 20, user_id: 2 },
      { team_id: 20, user_id: 3 },
    ])
    expect(await test.db.query('select id, pinned from posts')).toEqual([{ id: 200, pinned: null }])
    // 1001 is Bob's: it outlives the comment that it replied to. 1002 is Bob's too, but hangs from Ada's post by a mandatory key.
    expect(await test.db.query('select id, parent_id from comments order by id')).toEqual([
      { id: 1001, parent_id: null },
      { id: 1003, parent_id: null },
    ])
    expect(await ids('messages')).toEqual([3])
    expect(await test.db.query('select tenant, no from crm.orders order by 1, 2')).toEqual([
      { tenant: 1, no: 2 },
      { tenant: 2, no: 1 },
    ])
    expect(await ids('crm.items')).toEqual([3, 4])
    expect(await test.db.query('select item_id, reason from crm.returns order by 2')).toEqual([
      { item_id: null, reason: 'lost' },
      { item_id: 3, reason: 'ugly' },
    ])
    expect(await ids('payments')).toEqual([2])
    expect(await test.db.query('select address from newsletter')).toEqual([{ address: 'bob@example.org' }])
    // a1 is Ada's, b1 hangs from it, a2 hangs from b1, and b2 and b4 from a2: the whole circle goes.
    expect(await ids('chain_a')).toEqual([3])
    expect(await ids('chain_b')).toEqual([3])
    expect(await test.db.query('select user_id, note from loose order by 1')).toEqual([
      { user_id: 2, note: 'y' },
      { user_id: null, note: 'z' },
    ])
    expect(await ids('events', 'user_id')).toEqual([2, 2])
    const after = await tableContents(test.db)
    expect(after['public.countries']).toEqual(before['public.countries'])
    expect(after['public.bystanders']).toEqual(before['public.bystanders'])
    expect(JSON.stringify(after)).not.toMatch(/ada@|I am Ada|ADA L/i)
  })

  it('counts in the dry run what the erasure then does, and changes nothing', async () => {
    const before = await tableContents(test.db)
    const ctx = shop()
    const plan = await planSubjectErasure(ctx, { subject: 'ada@example.ORG' })
    if (plan.status !== 'planned') throw new Error('expected a plan')
    expect(plan.blockers).toEqual([])
    expect(await tableContents(test.db)).toEqual(before)
    expect(await test.db.query('select from caretaker.gdpr_requests')).toEqual([])

    const outcome = await eraseSubject(ctx, { subject: '1' })
    if (outcome.status !== 'erased') throw new Error('expected an erasure')
    const planned = plan.tables.filter(({ rows }) => rows > 0).map(({ table, rows }) => ({ table, rows }))
    const byName = (a: { table: string }, b: { table: string }) => (a.table < b.table ? -1 : 1)
    expect(outcome.receipt.deleted.sort(byName)).toEqual(planned.sort(byName))
    const cuts = plan.cuts
      .map(({ table, constraint, rows }) => ({ constraint: `${table}.${constraint}`, rows }))
      .sort((a, b) => (a.constraint < b.constraint ? -1 : 1))
    expect(outcome.receipt.references.sort((a, b) => (a.constraint < b.constraint ? -1 : 1))).toEqual(cuts)
  })

  it('keeps on a legal basis, anonymises, and remembers what to erase later', async () => {
    const ctx = shop({
      subject: { table: 'users' },
      tables: {
        payments: { erase: { keep: 'tax law', until: '10 years', anonymise: ['card_name'] } },
        posts: { erase: { anonymise: { body: '[removed]' } } },
        messages: { erase: { anonymise: ['body'] } },
      },
    })
    const outcome = await eraseSubject(ctx, { subject: '1' })
    if (outcome.status !== 'erased') throw new Error('expected an erasure')
    expect(outcome.receipt.kept).toEqual([
      { table: 'public.payments', rows: 1, basis: 'tax law', until: expect.stringMatching(/^20\d\d-/), emptied: ['card_name'] },
    ])
    expect(await test.db.query('select id, user_id, amount, card_name from payments order by id')).toEqual([
      { id: 1, user_id: null, amount: '12345678901234.5678', card_name: null },
      { id: 2, user_id: 2, amount: '3.0000', card_name: 'BOB' },
    ])
    expect(await test.db.query('select id, author_id, body from posts order by id')).toEqual([
      { id: 100, author_id: null, body: '[removed]' },
      { id: 200, author_id: 2, body: "bob's" },
    ])
    expect(await test.db.query('select id, sender_id, recipient_id, body from messages order by id')).toEqual([
      { id: 1, sender_id: null, recipient_id: 2, body: null },
      { id: 2, sender_id: 2, recipient_id: null, body: null },
      { id: 3, sender_id: 2, recipient_id: 3, body: 'hi cy' },
      { id: 4, sender_id: null, recipient_id: null, body: null },
    ])
    expect(await test.db.query(`select table_name, row_key, basis from caretaker.gdpr_kept`)).toEqual([
      { table_name: 'public.payments', row_key: { id: 1 }, basis: 'tax law' },
    ])
  })

  it('says what is in the way when kept rows cannot lose their reference, and changes nothing', async () => {
    const before = await tableContents(test.db)
    const ctx = shop({ subject: { table: 'users' }, tables: { 'crm.orders': { erase: { keep: 'tax law', until: '10 years' } } } })
    const plan = await planSubjectErasure(ctx, { subject: '1' })
    expect(plan).toMatchObject({
      status: 'planned',
      blockers: [expect.stringContaining('alter table crm.orders alter column user_id drop not null')],
    })
    await expect(eraseSubject(ctx, { subject: '1' })).rejects.toMatchObject({
      code: 'policy_invalid',
      detail: expect.stringContaining('crm.orders(user_id)'),
    })
    expect(await tableContents(test.db)).toEqual(before)
    expect(await test.db.query('select state, reason from caretaker.gdpr_requests')).toEqual([
      { state: 'waiting', reason: 'policy_invalid' },
    ])
  })

  it('gives kept rows the placeholder that ON DELETE SET DEFAULT names', async () => {
    await test.db.execute(`insert into users values (0, null, null, null);
      create table invoices (id int primary key, user_id int not null default 0 references users on delete set default);
      insert into invoices values (1, 1), (2, 2)`)
    const ctx = shop({ subject: { table: 'users' }, tables: { invoices: { erase: { keep: 'tax law', until: '10 years' } } } })
    await eraseSubject(ctx, { subject: '1' })
    expect(await test.db.query('select id, user_id from invoices order by id')).toEqual([
      { id: 1, user_id: 0 },
      { id: 2, user_id: 2 },
    ])
  })

  it('says which constraint stood in the way, and never a value', async () => {
    await test.db.execute(
      `create table contracts (id int primary key, user_id int references users, signed_by text, check (signed_by is not null)); insert into contracts values (1, 1, 'Ada Lovelace')`,
    )
    const ctx = shop({ subject: { table: 'users' }, tables: { contracts: { erase: { anonymise: ['signed_by'] } } } })
    const error = await eraseSubject(ctx, { subject: '1' }).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'database_error', detail: expect.stringContaining('constraint contracts_signed_by_check') })
    expect(String(error)).not.toContain('Ada')
    expect(await ids('users')).toEqual([1, 2, 3])
    expect(await test.db.query('select state, reason from caretaker.gdpr_requests')).toEqual([
      { state: 'waiting', reason: 'database_error' },
    ])
  })

  it.each(['teams', 'payments'])('notices when a trigger keeps a row of %s, and changes nothing', async (table) => {
    await test.db.execute(
      `create function keep() returns trigger language plpgsql as 'begin return null; end'; create trigger keep before delete on ${table} for each row execute function keep()`,
    )
    const before = await tableContents(test.db)
    await expect(eraseSubject(shop(), { subject: '1' })).rejects.toMatchObject({ detail: expect.stringContaining(table) })
    expect(await tableContents(test.db)).toEqual(before)
  })

  it('is not misled by triggers that update the row above', async () => {
    await test.db.execute(`alter table posts add comment_count int not null default 0;
      create function counted() returns trigger language plpgsql as 'begin update posts set comment_count = comment_count - 1 where id = old.post_id; return old; end';
      create trigger counted after delete on comments for each row execute function counted()`)
    expect(await eraseSubject(shop(), { subject: '1' })).toMatchObject({ status: 'erased' })
    expect(await ids('posts')).toEqual([200])
  })

  it("leaves a shared team alone when the policy says that its key makes nobody's rows", async () => {
    const ctx = shop({
      subject: { table: 'users' },
      tables: { members: { ignore: ['team_id'] }, teams: { erase: { anonymise: { name: '[team]', owner_id: 3 } } } },
    })
    await eraseSubject(ctx, { subject: '1' })
    expect(await test.db.query('select * from teams order by id')).toEqual([
      { id: 10, owner_id: 3, name: '[team]' },
      { id: 20, owner_id: 2, name: "Bob's" },
    ])
    expect(await test.db.query('select * from members order by 1, 2')).toEqual([
      { team_id: 10, user_id: 2 },
      { team_id: 20, user_id: 2 },
      { team_id: 20, user_id: 3 },
    ])
  })

  it('records it without the person: request, receipt, audit, outbox, log', async () => {
    const ctx = shop()
    const outcome = await eraseSubject(ctx, { subject: 'ada@example.org' })
    if (outcome.status !== 'erased') throw new Error('expected an erasure')
    expect(verifyReceipt(ctx.env.ENCRYPTION_KEY as string, outcome.receipt)).toBe(true)
    expect(verifyReceipt(ctx.env.ENCRYPTION_KEY as string, { ...outcome.receipt, deleted: [] })).toBe(false)
    expect(outcome.receipt.notReached.join()).toContain('no object store')
    const [request] = await test.db.query('select id, state, subject, receipt, reason from caretaker.gdpr_requests')
    expect(request).toMatchObject({ id: outcome.request, state: 'done', subject: null, receipt: outcome.receipt })
    expect((await test.db.query('select action from caretaker.audit order by seq')).map(({ action }) => action)).toEqual([
      'gdpr.requested',
      'gdpr.rows_erased',
      'gdpr.erased',
    ])
    expect((await test.db.query('select topic from caretaker.outbox order by id')).map(({ topic }) => topic)).toEqual([
      'gdpr.requested',
      'gdpr.rows_erased',
      // A table that nothing leads to still has the address.
      'gdpr.residue',
      'gdpr.erased',
    ])
    expect(await verifyAudit(test.db)).toMatchObject({ brokenAt: null })
    const everything = await test.db.query(
      `select r::text from caretaker.gdpr_requests r union all select a::text from caretaker.audit a union all select o::text from caretaker.outbox o`,
    )
    expect(JSON.stringify([everything, logLines(ctx)])).not.toMatch(/ada@/i)
  })

  it('says that a person is erased already, by id or by address, and of nobody that they were', async () => {
    const ctx = shop()
    const first = await eraseSubject(ctx, { subject: '1' })
    if (first.status !== 'erased') throw new Error('expected an erasure')
    expect(await eraseSubject(ctx, { subject: '1' })).toMatchObject({
      status: 'already-erased',
      request: first.request,
      erasedAt: expect.any(Date),
    })
    expect(await eraseSubject(ctx, { subject: 'ADA@example.org' })).toMatchObject({ status: 'already-erased', request: first.request })
    expect(await planSubjectErasure(ctx, { subject: '1' })).toMatchObject({ status: 'already-erased' })
    for (const stranger of ['99', 'x', "1' or '1'='1", '', 'who@example.org', '1.0', '99999999999999999999'])
      await expect(eraseSubject(ctx, { subject: stranger }), stranger).rejects.toMatchObject({ code: 'subject_not_found' })
  })

  it('needs ENCRYPTION_KEY to erase, not to plan', async () => {
    const { ENCRYPTION_KEY: _key, ...env } = shop().env
    const ctx = shop(undefined, { env })
    await expect(eraseSubject(ctx, { subject: '1' })).rejects.toMatchObject({
      code: 'not_configured',
      detail: expect.stringContaining('ENCRYPTION_KEY'),
    })
    expect(await planSubjectErasure(ctx, { subject: '1' })).toMatchObject({ status: 'planned' })
  })

  it("keeps the person's own row when the policy anonymises it, and says the second time that it is done", async () => {
    const ctx = shop({
      subject: { table: 'users' },
      tables: {
        users: { erase: { anonymise: { email: 'erased@example.org' } } },
        payments: { erase: { keep: 'tax law', until: '10 years' } },
      },
    })
    const first = await eraseSubject(ctx, { subject: '1' })
    if (first.status !== 'erased') throw new Error('expected an erasure')
    expect(await test.db.query('select id, email, favourite from users where id = 1')).toEqual([
      { id: 1, email: 'erased@example.org', favourite: null },
    ])
    // The row that it references is still there, so a kept row keeps its reference.
    expect(await test.db.query('select user_id from payments where id = 1')).toEqual([{ user_id: 1 }])
    expect(await ids('posts')).toEqual([200])
    expect(await eraseSubject(ctx, { subject: '1' })).toMatchObject({ status: 'already-erased', request: first.request })
  })

  it("erases the new account of an erased person's address, and only that", async () => {
    const ctx = shop()
    await eraseSubject(ctx, { subject: 'ada@example.org' })
    await test.db.execute(`insert into users values (9, 'ada@example.org', null, null)`)
    expect(await eraseSubject(ctx, { subject: 'ada@example.org' })).toMatchObject({ status: 'erased' })
    expect(await ids('users')).toEqual([2, 3])
    expect(await test.db.query(`select count(*)::int as n from caretaker.gdpr_requests where state = 'done'`)).toEqual([{ n: 2 }])
  })

  it('refuses to see only a part: row level security that hides rows is an error in plan, export and erasure', async () => {
    await test.db.execute(`drop schema caretaker cascade; alter table payments enable row level security; create policy mine on payments using (false);
      create role half login; grant usage on schema public, crm to half; grant all on all tables in schema public, crm to half`)
    const url = new URL(test.url)
    url.username = 'half'
    const half = openDatabase({ sessionUrl: url.toString() })
    const ctx = shop(undefined, { db: half })
    const refusal = { code: 'database_error', detail: expect.stringContaining('42501') }
    try {
      await expect(planSubjectErasure(ctx, { subject: '1' })).rejects.toMatchObject(refusal)
      await expect(eraseSubject(ctx, { subject: '1' })).rejects.toMatchObject(refusal)
      await expect(exportSubject(ctx, { subject: '1', out: collect().stream })).rejects.toMatchObject(refusal)
    } finally {
      await half.close()
      await test.db.execute('drop owned by half; drop role half')
    }
    expect(await ids('payments')).toEqual([1, 2])
  })

  it('works where Caretaker was never installed, and says that nothing was recorded', async () => {
    await test.db.execute('drop schema caretaker cascade')
    const outcome = await eraseSubject(shop(), { subject: '1' })
    expect(outcome).toMatchObject({
      status: 'erased',
      request: null,
      receipt: { notReached: expect.arrayContaining([expect.stringContaining('not in this database')]) },
    })
    expect(await ids('users')).toEqual([2, 3])
  })
})
