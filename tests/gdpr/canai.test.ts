import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import policy from '../../examples/canai/caretaker.config.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import { eraseSubject, exportSubject, planSubjectErasure, replayTombstones } from '../../lib/gdpr/index.ts'
import { systemClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { installExample } from '../../local/example.ts'
import { type LocalServer, serve } from '../../local/server.ts'
import { createSigningKey, createTokens } from '../../local/supabase/keys.ts'
import { createSupabase } from '../../local/supabase/server.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { collect } from './collect.ts'
import { unzip } from './export/unzip.ts'
import { tableContents } from './shop.ts'

describe('the CanAI example on a local Supabase', () => {
  const test = useTestDatabase({ template: 'template0' })
  let server: LocalServer
  let folder: string
  let supabase: SupabaseClient
  let ctx: Context
  let subject: { id: string; email: string }

  beforeAll(async () => {
    await installExample(test.db, 'canai', { rows: 3_000 })
    await applyMigrations(test.db)
    folder = await mkdtemp(join(tmpdir(), 'gdpr-canai-'))
    const tokens = createTokens(createSigningKey(), systemClock)
    let answer: (request: Request) => Promise<Response> = () => Promise.reject(new Error('not ready'))
    server = await serve({ port: 0, handle: (request) => answer(request) })
    answer = createSupabase({ db: test.db, tokens, clock: systemClock, url: server.url, filesDirectory: join(folder, 'files') })
    supabase = createClient(server.url, tokens.sign({ role: 'service_role' }, 600), {
      auth: { persistSession: false, autoRefreshToken: false },
    })
    const objects = await openObjectStore(`file://${join(folder, 'objects')}`, testContext(test.db).env)
    ctx = testContext(test.db, { config: policy, supabase: () => Promise.resolve(supabase), objects: () => Promise.resolve(objects) })
    const [found] = await test.db.query<{ id: string; email: string }>(
      `select u.id::text as id, u.email from auth.users u join payment_logs p on p.user_id = u.id join session_logs s on s.user_id = u.id group by 1, 2 order by count(*) desc limit 1`,
    )
    if (found === undefined) throw new Error('the example has nobody who paid')
    subject = found
    for (const [owner, path] of [
      [subject.id, 'hello.webm'],
      [subject.id, 'deeper/again.webm'],
      ['someone-else', 'theirs.webm'],
    ])
      expect((await supabase.storage.from('voice-notes').upload(`${owner}/${path}`, new Blob([`sound of ${path}`]))).error).toBeNull()
  })
  afterAll(async () => {
    await server.stop()
    await rm(folder, { recursive: true })
  })

  const mine = [
    ['auth.users', 'id = $1::uuid'],
    ['auth.identities', 'user_id = $1::uuid'],
    ['public.session_logs', 'user_id = $1::uuid'],
    ['public.initial_prompt_logs', 'user_id = $1::uuid'],
    ['public.prompt_logs', 'user_id = $1::uuid'],
    ['public.spark_logs', 'user_id = $1::uuid or initial_prompt_id in (select id from initial_prompt_logs where user_id = $1::uuid)'],
    ['public.comparisons', 'user_id = $1::uuid or prompt_id in (select id from prompt_logs where user_id = $1::uuid)'],
    ['public.payment_logs', 'user_id = $1::uuid'],
    ['public.feedback_logs', 'user_id = $1::uuid or lower(contact_email) = (select lower(email) from auth.users where id = $1::uuid)'],
    ['public.usage_logs', 'user_id = $1::uuid'],
    ['public.share_logs', 'user_id = $1::uuid or lower(recipient_email) = (select lower(email) from auth.users where id = $1::uuid)'],
    ['public.error_logs', 'user_id = $1::uuid'],
    ['public.error_logs_archive', 'user_id::text = $1::text'],
  ] as const

  async function counted(): Promise<Record<string, number>> {
    const counts: Record<string, number> = {}
    for (const [table, where] of mine) {
      const [row] = await test.db.query<{ n: number }>(`select count(*)::int as n from ${table} where ${where}`, [subject.id])
      counts[table] = row?.n ?? 0
    }
    return counts
  }

  it('exports what hand-written queries find, and the files', async () => {
    const archive = collect()
    const wanted = await counted()
    const result = await exportSubject(ctx, { subject: subject.email, out: archive.stream })
    const found = Object.fromEntries(result.tables.map(({ table, rows }) => [table, rows]))
    for (const [table, rows] of Object.entries(wanted)) expect([table, found[table]]).toEqual([table, rows])
    const files = await unzip(archive.bytes())
    expect(files.get(`files/voice-notes/${subject.id}/deeper/again.webm`)?.toString()).toBe('sound of deeper/again.webm')
    expect([...files.keys()].join()).not.toContain('theirs')
    // Credentials stay where they are.
    expect((files.get('data/auth.users.json') as Buffer).toString()).not.toContain('encrypted_password')
  })

  it('erases the person from the database, from Storage and from Auth, and leaves everybody else', async () => {
    const before = await tableContents(test.db)
    const wanted = await counted()
    const plan = await planSubjectErasure(ctx, { subject: subject.id })
    expect(plan).toMatchObject({ status: 'planned', blockers: [], authUser: true })

    const outcome = await eraseSubject(ctx, { subject: subject.id })
    if (outcome.status !== 'erased') throw new Error('expected an erasure')
    expect(outcome.receipt).toMatchObject({
      authUser: 'deleted',
      tombstone: expect.stringMatching(/^gdpr\/tombstones\//),
      kept: [{ table: 'public.payment_logs', rows: wanted['public.payment_logs'], basis: 'tax law' }],
    })
    expect(outcome.receipt.files.removed).toBeGreaterThanOrEqual(2)
    expect((await supabase.auth.admin.getUserById(subject.id)).error).toMatchObject({ status: 404 })
    expect((await supabase.storage.from('voice-notes').list(subject.id)).data).toEqual([])
    expect(Object.values(await counted()).every((rows) => rows === 0)).toBe(true)

    const after = await tableContents(test.db)
    const gone = Object.fromEntries(Object.entries(before).map(([table, rows]) => [table, rows.length - (after[table]?.length ?? 0)]))
    for (const [table, rows] of Object.entries(wanted))
      expect([table, gone[table]]).toEqual([table, table === 'public.payment_logs' ? 0 : rows])
    for (const [table, rows] of Object.entries(before)) {
      const left = new Set(after[table])
      const missing = rows.filter((row) => !left.has(row)).length
      expect([table, missing]).toEqual([table, table === 'public.payment_logs' ? wanted[table] : (gone[table] ?? 0)])
    }
    expect(JSON.stringify(after)).not.toContain(subject.id)
    expect(JSON.stringify(after)).not.toContain(subject.email)
    const stored = await readdir(join(folder, 'objects'), { recursive: true, withFileTypes: true })
    expect(stored.filter((entry) => entry.isFile()).map(({ name }) => name)).toEqual([`${outcome.request}.json`])

    expect(await eraseSubject(ctx, { subject: subject.id })).toMatchObject({ status: 'already-erased', request: outcome.request })
  })

  it('erases them again when a restore has brought them back', async () => {
    await test.db.execute(`insert into auth.users (id, email) values ($1::uuid, $2)`, [subject.id, subject.email])
    await test.db.execute(
      `insert into usage_logs (user_id, event) values ($1::uuid, 'back')`.replace(
        'event',
        (
          await test.db.query<{ c: string }>(
            `select column_name as c from information_schema.columns where table_name = 'usage_logs' and data_type = 'text' limit 1`,
          )
        )[0]?.c ?? 'event',
      ),
      [subject.id],
    )
    expect(await replayTombstones(ctx)).toEqual({ tombstones: 1, erased: 1 })
    expect((await counted())['public.usage_logs']).toBe(0)
    expect((await counted())['auth.users']).toBe(0)
    expect(await replayTombstones(ctx)).toEqual({ tombstones: 1, erased: 0 })
  })

  it('erases by SQL alone where Supabase is not configured, and says what that leaves', async () => {
    const [other] = await test.db.query<{ id: string; email: string }>(
      `select u.id::text as id, u.email from auth.users u join storage.objects o on o.owner_id = u.id::text join session_logs s on s.user_id = u.id limit 1`,
    )
    const alone = { ...ctx, supabase: testContext(test.db).supabase }
    const outcome = await eraseSubject(alone, { subject: other?.email ?? '' })
    if (outcome.status !== 'erased') throw new Error('expected an erasure')
    expect(outcome.receipt).toMatchObject({ authUser: 'not-applicable', files: { removed: 0 } })
    expect(outcome.receipt.notReached.join()).toContain('Files in Supabase Storage')
    const { 'storage.objects': _files, ...rest } = await tableContents(test.db)
    expect(JSON.stringify(rest)).not.toContain(other?.id)
  })

  it('stays open when Auth fails, and the next attempt also takes what the person wrote meanwhile', async () => {
    const [next] = await test.db.query<{ id: string }>(
      `select u.id::text as id from auth.users u join usage_logs l on l.user_id = u.id group by 1 order by count(*) desc limit 1`,
    )
    const id = next?.id ?? ''
    const [was] = await test.db.query<{ n: number }>('select count(*)::int as n from usage_logs where user_id = $1::uuid', [id])
    const failing = {
      storage: supabase.storage,
      auth: {
        admin: {
          getUserById: (who: string) => supabase.auth.admin.getUserById(who),
          deleteUser: () => Promise.resolve({ error: { status: 500, code: 'unexpected_failure' } }),
        },
      },
    }
    const broken = { ...ctx, supabase: () => Promise.resolve(failing as unknown as SupabaseClient) }
    await expect(eraseSubject(broken, { subject: id })).rejects.toMatchObject({ code: 'upstream_failed' })
    expect(await test.db.query('select state, reason from caretaker.gdpr_requests where subject = $1', [id])).toEqual([
      { state: 'waiting', reason: 'upstream_failed' },
    ])
    await test.db.execute(`insert into usage_logs (user_id, feature) values ($1::uuid, 'late')`, [id])

    const outcome = await eraseSubject(ctx, { subject: id })
    expect(outcome).toMatchObject({
      status: 'erased',
      receipt: { authUser: 'deleted', deleted: expect.arrayContaining([{ table: 'public.usage_logs', rows: (was?.n ?? 0) + 1 }]) },
    })
    expect(await test.db.query('select from usage_logs where user_id = $1::uuid', [id])).toEqual([])
  })

  it('refuses before it changes anything when Supabase is of another project', async () => {
    const [other] = await test.db.query<{ id: string }>('select id::text as id from auth.users order by id desc limit 1')
    const before = await tableContents(test.db)
    const elsewhere = {
      auth: { admin: { getUserById: () => Promise.resolve({ data: { user: null }, error: { status: 404, code: 'user_not_found' } }) } },
    }
    await expect(
      eraseSubject({ ...ctx, supabase: () => Promise.resolve(elsewhere as unknown as SupabaseClient) }, { subject: other?.id ?? '' }),
    ).rejects.toMatchObject({ code: 'not_configured', detail: expect.stringContaining('different projects') })
    expect(await tableContents(test.db)).toEqual(before)
  })
})
