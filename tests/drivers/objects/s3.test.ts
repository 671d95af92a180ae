import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openS3Store } from '../../../lib/drivers/objects/s3.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { digest, keys, objectStoreConformance, pattern, read } from '../../conformance/objects.ts'
import { type Fault, type S3Operation, type S3Server, type S3ServerOptions, startS3Server } from '../../support/s3-server.ts'

const mib = 1_048_576

function open(server: S3Server, url = `s3://${server.bucket}/some/prefix`, env: Record<string, string> = {}, timeoutMs = 20_000) {
  const settings = {
    S3_ENDPOINT: server.endpoint,
    S3_REGION: server.region,
    S3_ACCESS_KEY_ID: server.accessKeyId,
    S3_SECRET_ACCESS_KEY: server.secretAccessKey,
  }
  return openS3Store(url, readEnv({ ...settings, ...env }), { timeoutMs, retryDelayMs: 1 })
}

objectStoreConformance(async () => {
  // Small pages, so that a listing of seventy keys has many.
  const server = await startS3Server({ pageSize: 7 })
  return { store: open(server), leftovers: () => server.uploads.size, close: () => server.close() }
})

describe('s3', () => {
  let server: S3Server
  const start = async (options: S3ServerOptions = {}) => {
    server = await startS3Server(options)
    return open(server)
  }
  beforeEach(async () => {
    server = await startS3Server()
  })
  afterEach(async () => {
    await server.close()
  })
  const count = (operation: S3Operation) => server.log.filter((one) => one === operation).length

  it('keeps to its prefix', async () => {
    await open(server).put('a', Buffer.from('x'))
    await open(server, `s3://${server.bucket}`).put('b', Buffer.from('y'))
    await open(server, `s3://${server.bucket}/other/`).put('c', Buffer.from('z'))
    expect([...server.objects.keys()]).toEqual(['some/prefix/a', 'b', 'other/c'])
    expect(await keys(open(server), '')).toEqual(['a'])
    expect(await keys(open(server, `s3://${server.bucket}`), '')).toEqual(['b', 'other/c', 'some/prefix/a'])
  })

  it('keeps the content type, and does not list what others left under impossible names', async () => {
    const store = open(server)
    await store.put('m.json', Buffer.from('{}'), { contentType: 'application/json' })
    expect(server.objects.get('some/prefix/m.json')?.headers['content-type']).toBe('application/json')
    server.objects.set('some/prefix/a <&> b', { bytes: Buffer.from('x'), etag: '"e"', headers: {}, modifiedAt: new Date() })
    server.objects.set('some/prefix/folder/', { bytes: Buffer.alloc(0), etag: '"e"', headers: {}, modifiedAt: new Date() })
    expect(await keys(store, '')).toEqual(['m.json'])
  })

  it('sends small objects in one request, larger ones in equal parts', async () => {
    const store = open(server)
    await store.put('small', pattern(8 * mib))
    expect(server.log).toEqual(['PutObject', 'HeadObject'])
    server.log.length = 0
    await store.put('large', pattern(17 * mib))
    expect(count('UploadPart')).toBe(3)
    expect(count('CompleteMultipartUpload')).toBe(1)
    expect(digest(await read(store, 'large'))).toBe(digest(pattern(17 * mib)))
  })

  it('grows its parts with what is expected', async () => {
    // 12 GiB expected: parts of 13 MiB, so that a thousand are enough.
    await open(server).put('grown', pattern(14 * mib), { expectedBytes: 12 * 1_024 * mib })
    expect(count('UploadPart')).toBe(2)
  })

  it.each<[string, Fault[]]>([
    ['a 500 to a part', [{ on: 'UploadPart', answer: { status: 500, code: 'InternalError' } }]],
    ['a 503 with Retry-After 0', [{ on: 'UploadPart', answer: { status: 503, code: 'SlowDown', headers: { 'retry-after': '0' } } }]],
    [
      'a connection cut in the middle of a part',
      [
        { on: 'UploadPart', break: 'cut' },
        { on: 'UploadPart', break: 'cut' },
      ],
    ],
    ['an answer lost after a part was stored', [{ on: 'UploadPart', break: 'deaf' }]],
    ['a part that is never answered', [{ on: 'UploadPart', break: 'hang' }]],
    ['a lost answer to the completion', [{ on: 'CompleteMultipartUpload', break: 'deaf' }]],
    [
      'a cut listing, head and start',
      [
        { on: 'HeadObject', break: 'cut' },
        { on: 'CreateMultipartUpload', break: 'cut' },
      ],
    ],
  ])('rides out %s', async (name, faults) => {
    const store = open(server, undefined, {}, name.includes('never') ? 1_500 : undefined)
    server.fail(...faults)
    const bytes = pattern(9 * mib)
    expect(
      await store.put('kept', Readable.from([bytes.subarray(0, 5 * mib), bytes.subarray(5 * mib)], { objectMode: false }), {
        ifAbsent: true,
      }),
    ).toMatchObject({ bytes: bytes.length })
    expect(digest(await read(store, 'kept'))).toBe(digest(bytes))
    // What a request created of which the answer was lost may stay for the bucket's own clean-up; nothing else.
    expect(server.uploads.size).toBe(0)
  })

  it("knows its own object when the answer to a conditional create was lost, and another's too", async () => {
    const store = open(server)
    server.fail({ on: 'PutObject', break: 'deaf' })
    await store.put('mine', Buffer.from('x'), { ifAbsent: true })
    server.fail({ on: 'PutObject', break: 'cut' })
    const racing = store.put('theirs', Buffer.from('x'), { ifAbsent: true })
    // Between the check and the retry another writer takes the name.
    server.fail({
      on: 'PutObject',
      slow: Promise.resolve().then(
        () => void server.objects.set('some/prefix/theirs', { bytes: Buffer.from('y'), etag: '"e"', headers: {}, modifiedAt: new Date() }),
      ),
    })
    await expect(racing).rejects.toMatchObject({ code: 'conflict' })
    expect(String(await read(store, 'theirs'))).toBe('y')
  })

  it.each<[string, Fault[], RegExp]>([
    [
      'the store is down',
      Array.from({ length: 12 }, () => ({ on: 'UploadPart', answer: { status: 503, code: 'ServiceUnavailable' } }) as const),
      /UploadPart with 503 ServiceUnavailable/,
    ],
    [
      'every connection is cut',
      Array.from({ length: 12 }, () => ({ on: 'UploadPart', break: 'cut' }) as const),
      /cannot be reached \(\w+\); tried 4 times/,
    ],
    [
      'a part is refused',
      [{ on: 'UploadPart', answer: { status: 403, code: 'AccessDenied' } }],
      /UploadPart with 403 AccessDenied.*allowed to list/,
    ],
    [
      'the completion is refused',
      [{ on: 'CompleteMultipartUpload', answer: { status: 400, code: 'InvalidPart' } }],
      /CompleteMultipartUpload with 400 InvalidPart/,
    ],
    [
      'the completion fails behind a 200',
      [{ on: 'CompleteMultipartUpload', break: 'error-in-200' }],
      /CompleteMultipartUpload with 200 InternalError/,
    ],
    ['a part loses bytes', [{ on: 'UploadPart', break: 'lose' }], /answered CompleteMultipartUpload|kept \d+ of/],
  ])('fails clearly and leaves nothing when %s', async (_name, faults, message) => {
    const store = open(server)
    await store.put('old', Buffer.from('old'))
    server.fail(...faults)
    const error = await store.put('secret-name', pattern(20 * mib)).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'object_store_failed', detail: expect.stringMatching(message) })
    expect(String(error)).not.toContain('secret-name')
    expect(await keys(store, '')).toEqual(['old'])
    expect(server.uploads.size).toBe(0)
  })

  it('ends the upload as soon as a part fails, even if the source is silent', async () => {
    server.fail({ on: 'UploadPart', answer: { status: 403, code: 'AccessDenied' } })
    const source = new Readable({ read() {} })
    source.push(pattern(8 * mib + 1))
    await expect(open(server).put('stuck', source)).rejects.toMatchObject({ detail: expect.stringContaining('AccessDenied') })
    expect(source.destroyed).toBe(true)
    expect(server.uploads.size).toBe(0)
  })

  it('deletes what the store did not keep whole', async () => {
    server.fail({ on: 'PutObject', break: 'lose' })
    await expect(open(server).put('short', pattern(1_000))).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringContaining('kept 500 of 1000 bytes'),
    })
    expect(server.objects.size).toBe(0)
  })

  it('says that a put which gets a 404 failed', async () => {
    const store = open(server, 's3://another-bucket')
    for (const call of [() => store.put('a', Buffer.from('x')), () => store.get('a'), () => store.delete('a'), () => keys(store, '')])
      await expect(call()).rejects.toMatchObject({ code: 'object_store_failed', detail: expect.stringContaining('404 NoSuchBucket') })
  })

  it('goes on where a download broke, and only with the same object', async () => {
    const store = open(server)
    const bytes = pattern(3 * mib)
    await store.put('d', bytes)
    server.fail({ on: 'GetObject', break: 'truncate' }, { on: 'GetObject', break: 'truncate' })
    expect(digest(await read(store, 'd'))).toBe(digest(bytes))
    server.fail({ on: 'GetObject', break: 'truncate' })
    expect(digest(await read(store, 'd', { start: 1_000, end: 2 * mib }))).toBe(digest(bytes.subarray(1_000, 2 * mib)))
    server.fail({ on: 'GetObject', break: 'truncate' })
    const stream = await store.get('d')
    server.objects.set('some/prefix/d', { bytes: pattern(3 * mib + 1), etag: '"other"', headers: {}, modifiedAt: new Date() })
    await expect(Array.fromAsync(stream ?? [])).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringContaining('replaced'),
    })
    server.fail(...Array.from({ length: 4 }, () => ({ on: 'GetObject', break: 'truncate' }) as const))
    await expect(read(store, 'd')).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringMatching(/broke \d+ bytes before its end/),
    })
  })

  it('aborts between the parts that are on their way', async () => {
    const abort = new AbortController()
    server.fail({ on: 'UploadPart', slow: new Promise((resolve) => abort.signal.addEventListener('abort', () => setImmediate(resolve))) })
    const putting = open(server).put('a', pattern(20 * mib), { signal: abort.signal })
    await expect.poll(() => count('UploadPart'), { timeout: 20_000 }).toBeGreaterThan(1)
    abort.abort()
    await expect(putting).rejects.toMatchObject({ code: 'object_store_failed', detail: expect.stringContaining('aborted') })
    await expect.poll(() => server.uploads.size, { timeout: 20_000 }).toBe(0)
  })

  it('says which number of parts the store allows', async () => {
    await server.close()
    const store = await start({ mostParts: 2 })
    await expect(store.put('a', pattern(17 * mib))).rejects.toMatchObject({
      detail: expect.stringContaining('UploadPart with 400 InvalidArgument'),
    })
    expect(server.uploads.size).toBe(0)
  })

  it('aborts what killed processes left under its prefix, and nothing else', async () => {
    const old = new Date(Date.now() - 90_000_000)
    const leave = (id: string, name: string, startedAt: Date) => server.uploads.set(id, { name, startedAt, headers: {}, parts: new Map() })
    leave('abandoned', 'some/prefix/a', old)
    leave('young', 'some/prefix/b', new Date())
    leave('another', 'some/other', old)
    const store = open(server)
    await store.put('small', Buffer.from('x'))
    expect([...server.uploads.keys()]).toEqual(['abandoned', 'young', 'another'])
    await store.put('large', pattern(9 * mib))
    await store.put('large', pattern(9 * mib))
    expect([...server.uploads.keys()]).toEqual(['young', 'another'])
    expect(count('ListMultipartUploads')).toBe(1)
    // The whole bucket is nobody's to sweep.
    await open(server, `s3://${server.bucket}`).put('large', pattern(9 * mib))
    expect([...server.uploads.keys()]).toEqual(['young', 'another'])
    server.fail({ on: 'ListMultipartUploads', answer: { status: 403, code: 'AccessDenied' } })
    expect(await open(server).put('large', pattern(9 * mib))).toMatchObject({ bytes: 9 * mib })
  })

  it.each([
    ['S3_SECRET_ACCESS_KEY', 'x'.repeat(20), 'SignatureDoesNotMatch. Check S3_SECRET_ACCESS_KEY'],
    ['S3_ACCESS_KEY_ID', 'AKIAOTHER', 'InvalidAccessKeyId. Check S3_ACCESS_KEY_ID'],
    ['S3_REGION', 'elsewhere', 'AuthorizationHeaderMalformed. Check S3_REGION'],
  ])('names the setting to check when %s is wrong, not its value', async (name, value, advice) => {
    const error = await open(server, undefined, { [name]: value })
      .put('a', Buffer.from('x'))
      .catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'object_store_failed', detail: expect.stringContaining(advice) })
    expect(String(error)).not.toContain(value)
  })

  it.each(['s3://', 's3://a', 's3://Upper-Case', 's3://bucket/../x', 's3://bucket//x', 's3://bucket/a b'])(
    'refuses the address %j',
    (url) => {
      expect(() => open(server, url)).toThrow(expect.objectContaining({ code: 'invalid_input' }))
    },
  )

  it('says which setting is missing', () => {
    expect(() => openS3Store('s3://bucket-name', readEnv({ S3_REGION: 'eu-west-1' }))).toThrow(/S3_ACCESS_KEY_ID, which is not set/)
    expect(() => openS3Store('s3://bucket-name', readEnv({}))).toThrow(/S3_REGION, which is not set/)
  })
})
