import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openSupabaseStore } from '../../../lib/drivers/objects/supabase.ts'
import { systemClock } from '../../../lib/platform/clock.ts'
import type { Database } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { installSupabase } from '../../../local/example.ts'
import { freePort } from '../../../local/postgres.ts'
import { type LocalServer, serve } from '../../../local/server.ts'
import { createSigningKey, createTokens, type Tokens } from '../../../local/supabase/keys.ts'
import { createSupabase } from '../../../local/supabase/server.ts'
import { keys, objectStoreConformance, pattern } from '../../conformance/objects.ts'
import { useTestDatabase } from '../../support/database.ts'

type Handler = (request: Request) => Promise<Response>

const test = useTestDatabase({ template: 'template0' })
let server: LocalServer
let files: string
let tokens: Tokens
/** Stands between the driver and the local Supabase. */
let between: (request: Request, next: Handler) => Promise<Response>
let seen: string[] = []

beforeAll(async () => {
  await installSupabase(test.db)
  files = await mkdtemp(join(tmpdir(), 'caretaker-files-'))
  tokens = createTokens(createSigningKey(), systemClock)
  let supabase: Handler = () => Promise.reject(new Error('not ready'))
  server = await serve({
    port: 0,
    bodyLimit: () => 64 * 1_048_576,
    handle: (request) => {
      seen.push(`${request.method} ${new URL(request.url).pathname.split('/').slice(3, 5).join('/')}`)
      return between(request, supabase)
    },
  })
  supabase = createSupabase({ db: test.db, tokens, clock: systemClock, url: server.url, filesDirectory: files })
})
afterAll(async () => {
  await server.stop()
  await rm(files, { recursive: true })
})
beforeEach(() => {
  between = (request, next) => next(request)
  seen = []
})

async function newBucket(): Promise<string> {
  const bucket = `bucket-${Math.random().toString(36).slice(2)}`
  await test.db.execute('insert into storage.buckets (id, name) values ($1, $1)', [bucket])
  return bucket
}

function open(bucket: string, prefix = '/some/prefix', env: Record<string, string> = {}) {
  const settings = { SUPABASE_URL: server.url, SUPABASE_SERVICE_ROLE_KEY: tokens.sign({ role: 'service_role' }, 600) }
  return openSupabaseStore(`supabase://${bucket}${prefix}`, readEnv({ ...settings, ...env }), { timeoutMs: 5_000 })
}

describe('over the local Supabase', () => {
  objectStoreConformance(async () => ({
    store: open(await newBucket()),
    leftovers: async () => (await readdir(files)).filter((name) => name.endsWith('.part')).length,
  }))
})

describe('over a Storage that lists whole names and serves ranges', () => {
  beforeEach(() => {
    between = async (request, next) => {
      const flat = /^\/storage\/v1\/object\/list-v2\/(.+)$/.exec(new URL(request.url).pathname)
      return flat === null
        ? cutRange(request, await next(request))
        : listFlat(test.db, flat[1] as string, (await request.json()) as FlatQuery)
    }
  })
  objectStoreConformance(async () => ({ store: open(await newBucket()) }))
})

interface FlatQuery {
  prefix: string
  limit: number
  cursor?: string
}

/** Pages of at most seven, so that a listing has many. */
async function listFlat(db: Database, bucket: string, { prefix, limit, cursor }: FlatQuery): Promise<Response> {
  const size = Math.min(limit, 7)
  const objects = await db.query<{ name: string }>(
    `select name as key, name, id, metadata, created_at, updated_at from storage.objects
     where bucket_id = $1 and starts_with(name, $2) and name collate "C" > $3 order by name collate "C" limit $4::int + 1`,
    [bucket, prefix, cursor ?? '', size],
  )
  const hasNext = objects.length > size
  const page = objects.slice(0, size)
  return Response.json({ folders: [], objects: page, hasNext, ...(hasNext ? { nextCursor: page.at(-1)?.name } : {}) })
}

async function cutRange(request: Request, answer: Response): Promise<Response> {
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get('range') ?? '')
  if (range === null || answer.status !== 200) return answer
  const bytes = Buffer.from(await answer.arrayBuffer())
  const start = Number(range[1])
  if (start >= bytes.length)
    return Response.json({ statusCode: '416', error: 'InvalidRange', message: 'The requested range is not satisfiable' }, { status: 400 })
  return new Response(bytes.subarray(start, Number(range[2]) + 1), { status: 206 })
}

describe('supabase', () => {
  it('keeps to its prefix, and lists no placeholder of the dashboard', async () => {
    const bucket = await newBucket()
    await open(bucket).put('a', Buffer.from('x'))
    await open(bucket, '').put('b', Buffer.from('y'))
    await open(bucket).put('folder/.emptyFolderPlaceholder', Buffer.alloc(0))
    expect(await keys(open(bucket), '')).toEqual(['a'])
    expect(await keys(open(bucket, ''), '')).toEqual(['b', 'some/prefix/a'])
  })

  it('keeps the content type', async () => {
    const bucket = await newBucket()
    await open(bucket).put('m', Buffer.from('{}'), { contentType: 'application/json' })
    expect(await test.db.query(`select metadata->>'mimetype' as type from storage.objects where bucket_id = $1`, [bucket])).toEqual([
      { type: 'application/json' },
    ])
  })

  it('tries an upload again that may be repeated, and no other', async () => {
    const bucket = await newBucket()
    let failures = 2
    between = (request, next) =>
      request.method === 'POST' && failures-- > 0
        ? Promise.resolve(Response.json({ statusCode: '503', error: 'Busy' }, { status: 503 }))
        : next(request)
    await open(bucket).put('a', Buffer.from('x'))
    failures = 1
    await expect(open(bucket).put('b', Buffer.from('x'), { ifAbsent: true })).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringContaining('503 Busy'),
    })
    expect(await keys(open(bucket), '')).toEqual(['a'])
  })

  it('deletes what Storage did not keep whole', async () => {
    const bucket = await newBucket()
    between = async (request, next) => {
      if (request.method !== 'POST') return next(request)
      const bytes = await request.arrayBuffer()
      return next(new Request(request.url, { method: 'POST', headers: request.headers, body: bytes.slice(0, 500) }))
    }
    await expect(open(bucket).put('secret-name', pattern(1_000))).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringContaining('kept 500 of 1000 bytes'),
    })
    expect(await test.db.query('select 1 from storage.objects where bucket_id = $1', [bucket])).toEqual([])
  })

  it('says when a download broke', async () => {
    const bucket = await newBucket()
    await open(bucket).put('a', pattern(300_000))
    const firstRead = Promise.withResolvers<void>()
    between = async (request, next) => {
      const answer = await next(request)
      if (!request.url.includes('/authenticated/')) return answer
      let sent = 0
      const broken = new ReadableStream({
        async pull(controller) {
          // The head of the answer goes out with the first bytes; the connection breaks later.
          if (sent > 0) await firstRead.promise
          if (sent++ === 0) controller.enqueue(new Uint8Array(1_000))
          else controller.error(new Error('cut'))
        },
      })
      await answer.body?.cancel()
      return new Response(broken, { headers: { 'content-length': '300000' } })
    }
    const stream = await open(bucket).get('a')
    firstRead.resolve()
    await expect(buffer(stream ?? Readable.from([]))).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringMatching(/broke after \d+/),
    })
  })

  it("gives Storage's own reason for a refusal, and what to check, without keys of either kind", async () => {
    const bucket = await newBucket()
    await test.db.execute('update storage.buckets set file_size_limit = 10 where id = $1', [bucket])
    const tooBig = await open(bucket)
      .put('secret-name', pattern(11))
      .catch((thrown: unknown) => thrown)
    expect(tooBig).toMatchObject({ code: 'object_store_failed', detail: expect.stringMatching(/413 EntityTooLarge.*size limit/) })
    expect(String(tooBig)).not.toContain('secret-name')
    for (const call of [
      (store: ReturnType<typeof open>) => store.put('a', Buffer.from('x')),
      (store: ReturnType<typeof open>) => store.get('a'),
      (store: ReturnType<typeof open>) => store.head('a'),
      (store: ReturnType<typeof open>) => keys(store, ''),
    ])
      await expect(call(open('no-such-bucket'))).rejects.toMatchObject({
        code: 'object_store_failed',
        detail: expect.stringMatching(/404 .*Check the bucket's name/),
      })
    const wrongKey = await open(bucket, '', { SUPABASE_SERVICE_ROLE_KEY: 'not-a-key-of-this-project' })
      .head('a')
      .catch((thrown: unknown) => thrown)
    expect(wrongKey).toMatchObject({ detail: expect.stringMatching(/answered 401 .*Check SUPABASE_SERVICE_ROLE_KEY/) })
    expect(String(wrongKey)).not.toContain('not-a-key')
  })

  it('says when nothing answers', async () => {
    const store = open('bucket', '', { SUPABASE_URL: `http://127.0.0.1:${await freePort()}` })
    await expect(store.head('a')).rejects.toMatchObject({ code: 'object_store_failed', detail: expect.stringContaining('ECONNREFUSED') })
    await expect(store.put('a', Readable.from([pattern(7 * 1_048_576)]))).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringContaining('ECONNREFUSED'),
    })
  })

  it.each(['supabase://', 'supabase://a b', 'supabase://bucket/../x', 'supabase://bucket//x'])('refuses the address %j', (url) => {
    expect(() => openSupabaseStore(url, readEnv({ SUPABASE_URL: 'http://x', SUPABASE_SERVICE_ROLE_KEY: 'k'.repeat(16) }))).toThrow(
      expect.objectContaining({ code: 'invalid_input' }),
    )
  })

  it('says which setting is missing', () => {
    expect(() => openSupabaseStore('supabase://bucket', readEnv({}))).toThrow(/SUPABASE_URL, which is not set/)
  })
})
