import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../lib/platform/clock.ts'
import { installExample } from '../../local/example.ts'
import { type LocalServer, serve } from '../../local/server.ts'
import { createSigningKey, createTokens, type Tokens } from '../../local/supabase/keys.ts'
import { createSupabase } from '../../local/supabase/server.ts'
import { useTestDatabase } from '../support/database.ts'

describe('the local Supabase, asked by supabase-js', () => {
  const test = useTestDatabase({ template: 'template0' })
  const keep = { auth: { persistSession: false, autoRefreshToken: false } }
  let server: LocalServer
  let files: string
  let tokens: Tokens
  let service: SupabaseClient
  const client = (key?: string) => createClient(server.url, key ?? tokens.sign({ role: 'anon' }, 600), keep)

  beforeAll(async () => {
    await installExample(test.db, 'canai', { rows: 1_000 })
    files = await mkdtemp(join(tmpdir(), 'caretaker-files-'))
    tokens = createTokens(createSigningKey(), systemClock)
    let answer: (request: Request) => Promise<Response> = () => Promise.reject(new Error('not ready'))
    server = await serve({ port: 0, handle: (request) => answer(request) })
    answer = createSupabase({ db: test.db, tokens, clock: systemClock, url: server.url, filesDirectory: files })
    service = client(tokens.sign({ role: 'service_role' }, 600))
  })
  afterAll(async () => {
    await server.stop()
    await rm(files, { recursive: true })
  })

  describe('Auth', () => {
    it('signs up, signs in, and signs tokens that getClaims verifies against the published key', async () => {
      const supabase = client()
      const signedUp = await supabase.auth.signUp({
        email: 'New@Example.com',
        password: 'correct horse',
        options: { data: { name: 'New' } },
      })
      expect(signedUp.error).toBeNull()
      expect(signedUp.data.user).toMatchObject({
        email: 'new@example.com',
        user_metadata: { name: 'New' },
        identities: [{ provider: 'email' }],
      })
      const wrong = await supabase.auth.signInWithPassword({ email: 'new@example.com', password: 'wrong horse' })
      expect(wrong.error).toMatchObject({ code: 'invalid_credentials', status: 400 })
      const right = await supabase.auth.signInWithPassword({ email: 'new@example.com', password: 'correct horse' })
      const token = right.data.session?.access_token ?? ''
      const claims = await client().auth.getClaims(token)
      expect(claims.error).toBeNull()
      expect(claims.data).toMatchObject({
        header: { alg: 'ES256' },
        claims: { sub: signedUp.data.user?.id, role: 'authenticated', email: 'new@example.com' },
      })
      const [head, body] = token.split('.')
      const forged = `${head}.${Buffer.from(JSON.stringify({ ...claims.data?.claims, sub: 'someone else' })).toString('base64url')}.${token.split('.')[2]}`
      expect(body).toBeDefined()
      expect((await client().auth.getClaims(forged)).error).not.toBeNull()
    })

    it('refreshes a session once with each refresh token', async () => {
      const supabase = client()
      const { data } = await supabase.auth.signUp({ email: 'refresh@example.com', password: 'correct horse' })
      const refreshed = await supabase.auth.refreshSession()
      expect(refreshed.error).toBeNull()
      expect(refreshed.data.session?.refresh_token).not.toBe(data.session?.refresh_token)
      const again = await client().auth.refreshSession({ refresh_token: data.session?.refresh_token ?? '' })
      expect(again.error).toMatchObject({ code: 'refresh_token_not_found' })
    })

    it('ends sessions through the admin call, and the token with them', async () => {
      const { data } = await client().auth.signUp({ email: 'leaving@example.com', password: 'correct horse' })
      const token = data.session?.access_token ?? ''
      expect((await client().auth.getUser(token)).data.user?.email).toBe('leaving@example.com')
      expect((await service.auth.admin.signOut(token, 'global')).error).toBeNull()
      expect((await client().auth.getUser(token)).error).not.toBeNull()
    })

    it('creates, finds, changes, lists and deletes users with the service key alone', async () => {
      const made = await service.auth.admin.createUser({
        email: 'made@example.com',
        password: 'correct horse',
        email_confirm: true,
        app_metadata: { caretaker_role: 'viewer' },
      })
      const id = made.data.user?.id ?? ''
      expect(made.data.user?.app_metadata).toEqual({ provider: 'email', providers: ['email'], caretaker_role: 'viewer' })
      expect((await service.auth.admin.createUser({ email: 'made@example.com' })).error).toMatchObject({ code: 'email_exists' })
      await service.auth.admin.updateUserById(id, { user_metadata: { plan: 'pro' } })
      expect((await service.auth.admin.getUserById(id)).data.user?.user_metadata).toEqual({ plan: 'pro' })
      const page = await service.auth.admin.listUsers({ page: 1, perPage: 10 })
      expect(page.data).toMatchObject({ nextPage: 2, total: expect.any(Number) })
      expect(page.data.users).toHaveLength(10)
      expect((await client().auth.admin.listUsers()).error).toMatchObject({ status: 403 })
      expect((await service.auth.admin.deleteUser(id)).error).toBeNull()
      expect((await service.auth.admin.getUserById(id)).error).toMatchObject({ code: 'user_not_found' })
    })

    it('refuses to delete a user who owns files, without saying why', async () => {
      const [owner] = await test.db.query<{ id: string }>('select owner_id as id from storage.objects order by 1 limit 1')
      expect((await service.auth.admin.deleteUser(owner?.id ?? '')).error).toMatchObject({
        status: 500,
        message: 'Database error deleting user',
      })
    })

    it('refuses a missing key, a key of another project and a link token as key', async () => {
      const get = (headers: Record<string, string>) => fetch(`${server.url}/auth/v1/health`, { headers })
      expect((await get({})).status).toBe(401)
      expect((await get({ apikey: createTokens(createSigningKey(), systemClock).sign({ role: 'service_role' }, 600) })).status).toBe(401)
      expect((await get({ apikey: tokens.sign({ object: 'a/b' }, 600) })).status).toBe(401)
      expect((await get({ apikey: tokens.sign({ role: 'anon' }, -1) })).status).toBe(401)
      expect((await get({ apikey: tokens.sign({ role: 'anon' }, 600) })).status).toBe(200)
    })
  })

  describe('Storage', () => {
    it('stores, lists, describes, links, moves and removes files', async () => {
      expect((await service.storage.createBucket('papers', { public: false })).error).toBeNull()
      const bucket = service.storage.from('papers')
      expect(
        (await bucket.upload('a/one.txt', Buffer.from('one'), { contentType: 'text/plain', metadata: { origin: 'test' } })).data?.fullPath,
      ).toBe('papers/a/one.txt')
      expect((await bucket.upload('a/b/two.txt', new Blob(['two'], { type: 'text/plain' }), { cacheControl: '60' })).error).toBeNull()
      expect((await bucket.upload('a/one.txt', Buffer.from('again'))).error).toMatchObject({ statusCode: '409' })
      expect((await bucket.upload('a/one.txt', Buffer.from('1'), { upsert: true, contentType: 'text/plain' })).error).toBeNull()
      expect(await (await bucket.download('a/one.txt')).data?.text()).toBe('1')
      expect((await bucket.list('a')).data).toMatchObject([
        { name: 'b', id: null },
        { name: 'one.txt', metadata: { size: 1, mimetype: 'text/plain' } },
      ])
      expect((await bucket.info('a/b/two.txt')).data).toMatchObject({ size: 3, contentType: 'text/plain', cacheControl: 'max-age=60' })
      expect((await bucket.exists('a/none.txt').catch((error: unknown) => ({ data: error }))).data).toBe(false)
      const link = await bucket.createSignedUrl('a/b/two.txt', 60)
      expect(await (await fetch(link.data?.signedUrl ?? '')).text()).toBe('two')
      expect((await fetch((link.data?.signedUrl ?? '').replace('two.txt', 'one.txt'))).status).toBe(400)
      expect((await bucket.copy('a/one.txt', 'a/three.txt')).error).toBeNull()
      expect((await bucket.move('a/three.txt', 'c/three.txt')).error).toBeNull()
      expect(await (await bucket.download('c/three.txt')).data?.text()).toBe('1')
      expect((await service.storage.deleteBucket('papers')).error).not.toBeNull()
      expect((await bucket.remove(['a/one.txt', 'a/b/two.txt', 'c/three.txt', 'c/none.txt'])).data).toHaveLength(3)
      expect(await readdir(files)).toEqual([])
      expect((await service.storage.deleteBucket('papers')).error).toBeNull()
      expect((await service.storage.listBuckets()).data?.map((one) => one.id)).toEqual(['voice-notes'])
    })

    it('shows a person their own folder and nothing else', async () => {
      const supabase = client()
      const { data } = await supabase.auth.signUp({ email: 'voice@example.com', password: 'correct horse' })
      const id = data.user?.id ?? ''
      await service.storage.from('voice-notes').upload(`${id}/mine.wav`, Buffer.from('mine'))
      const [other] = await test.db.query<{ name: string }>(`select name from storage.objects where name not like $1 limit 1`, [`${id}%`])
      expect(await (await supabase.storage.from('voice-notes').download(`${id}/mine.wav`)).data?.text()).toBe('mine')
      expect((await supabase.storage.from('voice-notes').download(other?.name ?? '')).error).toMatchObject({ statusCode: '404' })
      expect((await supabase.storage.from('voice-notes').upload(`${id}/more.wav`, Buffer.from('x'))).error).toMatchObject({
        statusCode: '403',
      })
      await service.storage.from('voice-notes').remove([`${id}/mine.wav`])
      expect(await readdir(files)).toEqual([])
      expect((await service.auth.admin.deleteUser(id)).error).toBeNull()
    })

    it('keeps nothing of a file that is too large', async () => {
      await service.storage.createBucket('small', { public: false, fileSizeLimit: 10 })
      expect((await service.storage.from('small').upload('big.bin', Buffer.alloc(11))).error).toMatchObject({ statusCode: '413' })
      expect(await readdir(files)).toEqual([])
    })
  })

  describe('REST', () => {
    it('reads with filters, order, range and count', async () => {
      const reports = await service
        .from('performance_reports')
        .select('month,total_users', { count: 'exact' })
        .gte('total_users', 250)
        .order('month', { ascending: false })
        .limit(2)
      expect(reports.error).toBeNull()
      expect(reports.data).toEqual([
        { month: expect.stringMatching(/^\d{4}-\d\d-01$/), total_users: 280 },
        { month: expect.any(String), total_users: 270 },
      ])
      expect(reports.count).toBe(4)
      expect((await service.from('trust_indicators').select('count').limit(1)).error).toBeNull()
      expect((await service.from('trust_indicators').select().in('name', ['plans_created', 'hours, saved']).single()).data).toMatchObject({
        count: 655,
      })
      expect((await service.from('payment_logs').select('*', { count: 'exact', head: true })).count).toBeGreaterThan(5)
    })

    it('lets row level security decide', async () => {
      const supabase = client()
      expect((await supabase.from('trust_indicators').select()).data).toHaveLength(4)
      expect((await supabase.from('session_logs').select()).data).toEqual([])
      const { data } = await supabase.auth.signUp({ email: 'rls@example.com', password: 'correct horse' })
      await test.db.execute(`insert into session_logs (user_id, interaction_type) values ($1, 'feedback')`, [data.user?.id])
      expect((await supabase.from('session_logs').select('user_id')).data).toEqual([{ user_id: data.user?.id }])
    })

    it('refuses what is not there, and writes', async () => {
      expect((await service.from('none').select()).error).toMatchObject({ code: 'PGRST205' })
      expect((await service.from('session_logs').select('none')).error).toMatchObject({ code: '42703' })
      expect((await service.from('spark_cache').delete().neq('cache_key', '')).status).toBe(405)
      const root = await fetch(`${server.url}/rest/v1/`, { method: 'HEAD', headers: { apikey: tokens.sign({ role: 'service_role' }, 60) } })
      expect(root.status).toBe(200)
    })
  })
})
