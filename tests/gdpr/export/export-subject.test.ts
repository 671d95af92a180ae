import { createHash } from 'node:crypto'
import { access, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { Decrypter } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { exportSubject } from '../../../lib/gdpr/index.ts'
import { withSubjectLock } from '../../../lib/gdpr/subject-lock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { logLines, testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { makeShop, tableContents } from '../shop.ts'
import { unzip } from './unzip.ts'

const test = useTestDatabase()
let folder: string
beforeAll(async () => {
  await makeShop(test.db)
  folder = await mkdtemp(join(tmpdir(), 'gdpr-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

function shop(gdpr: NonNullable<PolicyInput['gdpr']> = { subject: { table: 'users' } }, overrides: Partial<Context> = {}): Context {
  return testContext(test.db, { config: defineConfig({ app: { name: 'Shop & <Co>' }, gdpr }), ...overrides })
}

async function exported(ctx: Context, subject: string): Promise<Map<string, Buffer>> {
  const out = join(folder, `${Math.random()}.zip`)
  await exportSubject(ctx, { subject, out })
  return unzip(await readFile(out))
}

/** Written by hand for this schema: what a person is entitled to. */
const byHand: Record<string, string> = {
  'public.users': 'select * from users where id = 1',
  'public.profiles': 'select * from profiles where user_id = 1',
  'public.teams': 'select * from teams where owner_id = 1',
  'public.members': 'select * from members where user_id = 1 or team_id in (select id from teams where owner_id = 1)',
  'public.posts':
    'select * from posts where author_id = 1 or pinned in (select id from comments where author_id = 1) and author_id is null',
  'public.comments': `with recursive mine as (
      select * from comments where author_id = 1 or post_id in (select id from posts where author_id = 1)) select * from mine`,
  'public.messages': 'select * from messages where 1 in (sender_id, recipient_id)',
  'crm.orders': 'select * from crm.orders where user_id = 1',
  'crm.items': 'select i.* from crm.items i join crm.orders o using (tenant, no) where o.user_id = 1',
  'crm.returns':
    'select r.* from crm.returns r join crm.items i on i.id = r.item_id join crm.orders o using (tenant, no) where o.user_id = 1',
  'public.payments': 'select * from payments where user_id = 1',
  'public.chain_a': 'select * from chain_a where id in (1, 2)',
  'public.chain_b': 'select * from chain_b where id in (1, 2, 4)',
  'public.loose': 'select * from loose where user_id = 1',
  'public.events': 'select * from events where user_id = 1',
}

describe('exportSubject', () => {
  it('holds every row that hand-written queries find, in JSON and in CSV, and no other', async () => {
    const files = await exported(shop(), '1')
    for (const [table, sql] of Object.entries(byHand)) {
      const wanted = await test.db.query<{ row: string }>(`select row_to_json(t)::text as row from (${sql}) t order by 1`)
      expect(wanted.length, table).toBeGreaterThan(0)
      const text = (files.get(`data/${table}.json`) as Buffer).toString()
      const found = text
        .split('\n')
        .slice(1, -2)
        .map((line) => line.replace(/,$/, ''))
        .sort()
      expect(found, table).toEqual(wanted.map(({ row }) => row))
      expect(JSON.parse(text)).toHaveLength(wanted.length)
    }
    const tables = [...files.keys()].filter((path) => path.endsWith('.json') && path.startsWith('data/')).map((path) => path.slice(5, -5))
    expect(tables.sort()).toEqual(Object.keys(byHand).sort())
    expect((files.get('data/public.posts.csv') as Buffer).toString()).toBe(
      'id,author_id,pinned,body\n100,1,1002,"a ""post"", with\nnewline and \\ backslash"\n',
    )
    // A number that JavaScript cannot hold is as the database wrote it.
    expect((files.get('data/public.payments.json') as Buffer).toString()).toContain('"amount":12345678901234.5678')
  })

  it("leaves other people's words out of shared rows, and says so", async () => {
    const ctx = shop({ subject: { table: 'users' }, tables: { messages: { redact: { body: 'sender_id', recipient_id: 'recipient_id' } } } })
    const rows = JSON.parse((await exported(ctx, '1')).get('data/public.messages.json')?.toString() ?? '[]') as {
      sender_id: number
      recipient_id: number | null
      body: string
    }[]
    const all = await test.db.query<{ sender_id: number; recipient_id: number; body: string }>(
      'select sender_id::int, recipient_id::int, body from messages where 1 in (sender_id, recipient_id) order by id',
    )
    expect(all.some(({ sender_id: sender }) => sender !== 1)).toBe(true)
    expect(rows.map(({ sender_id, recipient_id, body }) => ({ sender_id, recipient_id, body }))).toEqual(
      all.map(({ sender_id, recipient_id, body }) => ({
        sender_id,
        recipient_id: recipient_id === 1 ? 1 : null,
        body: sender_id === 1 ? body : '[redacted]',
      })),
    )
    const manifest = JSON.parse((await exported(ctx, '1')).get('manifest.json')?.toString() ?? '{}') as { notIncluded: { what: string }[] }
    expect(manifest.notIncluded.map(({ what }) => what)).toContain("public.messages: body, recipient_id, where it is another person's")
  })

  it('is an age file where a passphrase is given', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'gdpr-passphrase-'))
    try {
      const out = join(folder, 'mine.zip.age')
      const ctx = shop({ subject: { table: 'users' } })
      const passphrase = 'correct horse battery staple'
      await expect(exportSubject(ctx, { subject: '1', out, passphrase: 'short' })).rejects.toMatchObject({ code: 'invalid_input' })
      await exportSubject(ctx, { subject: '1', out, passphrase })
      const sealed = await readFile(out)
      expect(sealed.subarray(0, 21).toString()).toBe('age-encryption.org/v1')
      const decrypter = new Decrypter()
      decrypter.addPassphrase(passphrase)
      expect((await unzip(Buffer.from(await decrypter.decrypt(sealed)))).has('manifest.json')).toBe(true)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('lists every file with its hash, and what is not included', async () => {
    const files = await exported(
      shop({
        subject: { table: 'users' },
        tables: { payments: { export: ['id', 'amount'] }, loose: { export: false } },
        processors: ['stripe'],
        buckets: [{ bucket: 'voice', prefix: '{id}/' }],
      }),
      'ada@example.org',
    )
    const manifest = JSON.parse((files.get('manifest.json') as Buffer).toString()) as {
      format: string
      files: { path: string; bytes: number; sha256: string }[]
      notIncluded: unknown[]
    }
    expect(manifest.format).toBe('caretaker.gdpr.export/1')
    expect(manifest.files.map(({ path }) => path).sort()).toEqual([...files.keys()].filter((path) => path !== 'manifest.json').sort())
    for (const { path, bytes, sha256 } of manifest.files) {
      const content = files.get(path) as Buffer
      expect([bytes, sha256]).toEqual([content.length, createHash('sha256').update(content).digest('hex')])
    }
    expect(manifest.notIncluded).toEqual([
      { what: 'public.loose', why: expect.any(String) },
      { what: 'public.payments: user_id, card_name', why: expect.any(String) },
      { what: 'files in bucket voice', why: 'Supabase is not configured' },
      { what: 'stripe', why: 'STRIPE_SECRET_KEY is not set' },
    ])
    expect(files.has('data/public.loose.json')).toBe(false)
  })

  it('has a page that a person reads offline, with every value escaped', async () => {
    await test.db.execute(
      `insert into users values (50, 'x@y.z', null, null); insert into loose values (50, '<script>alert(1)</script>"&')`,
    )
    const page = ((await exported(shop(), '50')).get('index.html') as Buffer).toString()
    expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;&quot;&amp;')
    expect(page).not.toContain('<script')
    expect(page).not.toMatch(/(src|href)="https?:/)
    expect(page).toContain('Shop &amp; &lt;Co&gt;')
    await test.db.execute('delete from loose where user_id = 50; delete from users where id = 50')
  })

  it('records the request without the person, and changes nothing else', async () => {
    const before = await tableContents(test.db)
    const ctx = shop()
    const result = await exportSubject(ctx, { subject: '2', out: join(folder, 'two.zip') })
    expect(result).toMatchObject({ unrecorded: null, request: expect.any(String) })
    const [request] = await test.db.query(
      `select kind, state, subject, due_at = (received_at at time zone 'UTC' + interval '1 month') at time zone 'UTC' as month, receipt from caretaker.gdpr_requests where id = $1::uuid`,
      [result.request],
    )
    expect(request).toMatchObject({ kind: 'export', state: 'done', subject: null, month: true, receipt: { rows: result.rows } })
    expect(await tableContents(test.db)).toEqual(before)
    const written = await test.db.query('select a::text from caretaker.audit a union all select o::text from caretaker.outbox o')
    expect(JSON.stringify([written, logLines(ctx)])).not.toContain('bob@')
  })

  it('leaves no file behind when it fails', async () => {
    const before = await readdir(folder)
    await expect(exportSubject(shop(), { subject: '999', out: join(folder, 'none.zip') })).rejects.toMatchObject({
      code: 'subject_not_found',
    })
    await expect(exportSubject(shop(), { subject: '1', out: join(folder, 'no', 'such', 'folder.zip') })).rejects.toThrow()
    await test.db.execute(
      `alter table loose add column broken text generated always as (note) stored; create function boom(text) returns int language sql as 'select 1 / 0'`,
    )
    const failing = new Writable({ write: (_chunk, _encoding, done) => done(new Error('disk full')) })
    await expect(exportSubject(shop(), { subject: '1', out: failing })).rejects.toThrow('disk full')
    expect(await readdir(folder)).toEqual(before)
    await test.db.execute('alter table loose drop column broken')
    // The connection that failed in mid-stream is not handed to the next.
    await exportSubject(shop(), { subject: '1', out: join(folder, 'after.zip') })
    await access(join(folder, 'after.zip'))
  })

  it('waits for nobody who erases the same person', async () => {
    await withSubjectLock(shop(), { table: 'public.users', id: '3' }, async () => {
      await expect(withSubjectLock(shop(), { table: 'public.users', id: '3' }, () => Promise.resolve(), 50)).rejects.toMatchObject({
        code: 'request_in_progress',
      })
      await expect(withSubjectLock(shop(), { table: 'public.users', id: '2' }, () => Promise.resolve('other'), 50)).resolves.toBe('other')
    })
  })

  it('works without ENCRYPTION_KEY and says that it was not recorded', async () => {
    const { ENCRYPTION_KEY: _key, ...env } = shop().env
    const result = await exportSubject(shop(undefined, { env }), { subject: '1', out: join(folder, 'unrecorded.zip') })
    expect(result).toMatchObject({ request: null, unrecorded: expect.stringContaining('ENCRYPTION_KEY') })
  })
})
