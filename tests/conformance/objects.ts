import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ObjectStore } from '../../lib/platform/objects.ts'

export interface StoreUnderTest {
  store: ObjectStore
  /** How many unfinished writes the store still holds somewhere; 0 after every test. */
  leftovers?: () => Promise<number> | number
  close?: () => Promise<void>
}

const mib = 1_048_576
/** Around the sizes at which drivers change their ways: S3's smallest part, our part of 8 MiB, Supabase's 6 MiB. */
const sizes = [0, 1, 65_536, 5 * mib - 1, 5 * mib, 5 * mib + 1, 6 * mib + 1, 8 * mib, 8 * mib + 1, 12 * mib]

const acceptedKeys = [
  'a',
  'a/b',
  'A.B_c-d=e',
  '.hidden',
  '...',
  'a=1/b=2/part-0001.zst.age',
  'x'.repeat(200),
  Array.from({ length: 8 }, () => 'y'.repeat(100)).join('/'),
]
const refusedKeys = [
  '',
  '/',
  '/a',
  'a/',
  'a//b',
  '.',
  '..',
  '../a',
  'a/../b',
  'a/./b',
  'a/..',
  'a b',
  'a\\b',
  'a%2e',
  'ä',
  'a\n',
  'a\0',
  'a?b',
  'a#b',
  '~a',
  'x'.repeat(201),
  'ab/'.repeat(301),
]

/** What every object store must do. `make` gives an empty one. */
export function objectStoreConformance(make: () => Promise<StoreUnderTest>): void {
  describe('as an object store', () => {
    let test: StoreUnderTest
    let store: ObjectStore
    beforeEach(async () => {
      test = await make()
      store = test.store
    })
    afterEach(async () => {
      // A server may still be tidying up when its client has heard of the failure.
      const { leftovers } = test
      if (leftovers !== undefined)
        await expect.poll(async () => await leftovers(), { message: 'unfinished writes left behind', timeout: 10_000 }).toBe(0)
      await test.close?.()
    })

    it('gives an address at which anyone can fetch an object until it expires, or says that it has none', async () => {
      await store.put('some/file.zip', pattern(1_000))
      const address = await store.downloadUrl('some/file.zip', { seconds: 2, fileName: 'your data.zip' })
      if (address === null) {
        expect(store.url).toMatch(/^file:/)
        return
      }
      const fetched = await fetch(address)
      expect(fetched.status).toBe(200)
      expect(digest(Buffer.from(await fetched.arrayBuffer()))).toBe(digest(pattern(1_000)))
      const other = address.replace('file.zip', 'other.zip')
      await store.put('some/other.zip', pattern(10))
      expect((await fetch(other)).ok).toBe(false)
      await expect.poll(async () => (await fetch(address)).ok, { timeout: 10_000 }).toBe(false)
      await expect(store.downloadUrl('../file.zip', { seconds: 2, fileName: 'x' })).rejects.toMatchObject({ code: 'invalid_input' })
    })

    it.each(sizes)('stores and returns %i bytes, as a whole and as a stream', async (size) => {
      const bytes = pattern(size)
      const before = Date.now()
      expect(await store.put('whole', bytes)).toMatchObject({ key: 'whole', bytes: size })
      const info = await store.put('streamed', Readable.from(pieces(bytes), { objectMode: false }))
      expect(info).toMatchObject({ key: 'streamed', bytes: size })
      // Stores keep whole seconds; a minute allows for a clock of its own.
      expect(Math.abs(info.modifiedAt.getTime() - before)).toBeLessThan(60_000)
      for (const key of ['whole', 'streamed']) {
        expect(await store.head(key)).toMatchObject({ key, bytes: size })
        expect(digest(await read(store, key))).toBe(digest(bytes))
      }
    })

    it('says null for what is absent, and deletes it without complaint', async () => {
      expect(await store.head('none')).toBeNull()
      expect(await store.get('none')).toBeNull()
      expect(await store.get('none', { range: { start: 0, end: 0 } })).toBeNull()
      expect(await store.get('none/at/all', { range: { start: 1, end: 2 } })).toBeNull()
      expect(await keys(store, '')).toEqual([])
      await store.delete('none')
      await store.delete('none/at/all')
    })

    it('overwrites, and deletes', async () => {
      await store.put('a/b', pattern(100))
      await store.put('a/b', pattern(7))
      expect((await store.head('a/b'))?.bytes).toBe(7)
      expect(digest(await read(store, 'a/b'))).toBe(digest(pattern(7)))
      await store.delete('a/b')
      expect(await store.head('a/b')).toBeNull()
      expect(await store.get('a/b')).toBeNull()
      expect(await keys(store, '')).toEqual([])
      await store.put('a/b', pattern(3))
      expect(await keys(store, '')).toEqual(['a/b'])
    })

    it('returns ranges, cut off at the end', async () => {
      const bytes = pattern(300_000)
      await store.put('r', bytes)
      for (const [start, end] of [
        [0, 300_000],
        [0, 1],
        [299_999, 300_000],
        [1_000, 200_001],
        [5, 5],
        [299_000, 400_000],
        [300_000, 300_001],
        [999_999, 1_000_000],
      ] as const)
        expect(digest(await read(store, 'r', { start, end })), `${start}-${end}`).toBe(digest(bytes.subarray(start, end)))
      await store.put('empty', new Uint8Array())
      expect(await read(store, 'empty', { start: 0, end: 10 })).toHaveLength(0)
      for (const [start, end] of [
        [-1, 5],
        [5, 4],
        [0.5, 2],
        [0, Number.NaN],
      ] as const)
        await expect(store.get('r', { range: { start, end } })).rejects.toMatchObject({ code: 'invalid_input' })
    })

    it('accepts every key of the alphabet', async () => {
      // One by one: in a folder `a` cannot be beside `a/b`.
      for (const key of acceptedKeys) {
        await store.put(key, Buffer.from(key))
        expect(await keys(store, '')).toEqual([key])
        expect(String(await read(store, key))).toBe(key)
        await store.delete(key)
      }
    })

    it.each(refusedKeys)('refuses the key %j everywhere, without repeating it', async (key) => {
      const source = Readable.from(['x'])
      for (const call of [() => store.put(key, source), () => store.get(key), () => store.head(key), () => store.delete(key)]) {
        const error = await call().then(
          () => undefined,
          (thrown: unknown) => thrown,
        )
        expect(error).toMatchObject({ code: 'invalid_input', detail: expect.stringMatching(/^key: .*expected/) })
        if (key.length > 3) expect(String(error)).not.toContain(key)
      }
      expect(source.destroyed).toBe(true)
    })

    it('lists by prefix, in key order', async () => {
      const all = [
        'b/1',
        'a.b',
        'a/b',
        'a-b',
        'a/b.c',
        'a/c/d',
        'aa/x',
        'a=b',
        'B/1',
        ...Array.from({ length: 60 }, (_, index) => `many/${index}`),
      ]
      for (const key of all) await store.put(key, Buffer.from(key))
      const sorted = [...all].sort()
      expect(await keys(store, '')).toEqual(sorted)
      for (const prefix of ['a', 'a/', 'a/b', 'a/c/', 'many/', 'many/1', 'b/1', 'b/1x', 'none', 'none/'])
        expect(await keys(store, prefix), prefix).toEqual(sorted.filter((key) => key.startsWith(prefix)))
      for await (const info of store.list('a')) expect(info).toMatchObject({ bytes: info.key.length, modifiedAt: expect.any(Date) })
      for (const prefix of ['/', '../', 'a//', 'a/../', '~'])
        await expect(keys(store, prefix), prefix).rejects.toMatchObject({ code: 'invalid_input' })
    })

    it('creates only once where that is asked for', async () => {
      await store.put('once', Buffer.from('first'), { ifAbsent: true })
      await expect(store.put('once', Buffer.from('second'), { ifAbsent: true })).rejects.toMatchObject({ code: 'conflict' })
      expect(String(await read(store, 'once'))).toBe('first')
      await store.delete('once')
      await store.put('once', Buffer.from('third'), { ifAbsent: true })
      expect(String(await read(store, 'once'))).toBe('third')
    })

    it.each([
      ['small', 20],
      ['of several parts', 8 * mib + 20],
    ])('lets one of several win who create an object (%s)', async (_name, size) => {
      const writers = size > mib ? 3 : 8
      const outcomes = await Promise.allSettled(
        Array.from({ length: writers }, (_, writer) => store.put('raced', filled(size, writer), { ifAbsent: true })),
      )
      const won = outcomes.flatMap((outcome, writer) => (outcome.status === 'fulfilled' ? [writer] : []))
      expect(won).toHaveLength(1)
      for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'conflict' })
      expect(digest(await read(store, 'raced'))).toBe(digest(filled(size, won[0] ?? -1)))
    })

    it('keeps one whole object when several write the same key', async () => {
      const size = 200_000
      const writers = Array.from({ length: 8 }, (_, writer) => writer)
      const infos = await Promise.all(
        writers.map((writer) => store.put('shared', Readable.from(pieces(filled(size + writer, writer)), { objectMode: false }))),
      )
      expect(infos.map((info) => info.bytes)).toEqual(writers.map((writer) => size + writer))
      const kept = await read(store, 'shared')
      const writer = kept[0] ?? -1
      expect(digest(kept)).toBe(digest(filled(size + writer, writer)))
    })

    describe.each([
      ['at once', 0],
      ['after some bytes', 3 * 65_536],
      ['after several parts', 9 * mib],
    ])('when the source fails %s', (_name, before) => {
      it('passes its error on and shows nothing', async () => {
        const source = failing(before, new Error('the cable is out'))
        await expect(store.put('broken', source)).rejects.toThrow('the cable is out')
        expect(await store.head('broken')).toBeNull()
        expect(await keys(store, '')).toEqual([])
        expect(source.destroyed).toBe(true)
      })

      it('keeps what was there', async () => {
        await store.put('kept', Buffer.from('old'))
        await expect(store.put('kept', failing(before, new Error('the cable is out')))).rejects.toThrow('the cable is out')
        expect(String(await read(store, 'kept'))).toBe('old')
      })

      it('takes a source that closes before its end for a failure', async () => {
        await expect(store.put('closed', failing(before, null))).rejects.toMatchObject({ code: 'object_store_failed' })
        expect(await keys(store, '')).toEqual([])
      })

      it('stops on abort, also of a source that is silent', async () => {
        const abort = new AbortController()
        const source = silentAfter(before, () => abort.abort())
        await expect(store.put('aborted', source, { signal: abort.signal })).rejects.toMatchObject({
          code: 'object_store_failed',
          detail: expect.stringContaining('aborted'),
        })
        expect(await keys(store, '')).toEqual([])
        expect(source.destroyed).toBe(true)
      })
    })

    it('does not begin what is aborted already', async () => {
      await expect(store.put('never', pattern(10), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'object_store_failed' })
      await expect(store.put('never', Readable.from(['x']), { signal: AbortSignal.abort() })).rejects.toMatchObject({
        code: 'object_store_failed',
      })
      expect(await keys(store, '')).toEqual([])
    })

    it('survives a source that fails before it is read', async () => {
      const source = new Readable({ read() {} })
      const putting = store.put('early', source)
      source.destroy(new Error('gone at once'))
      await expect(putting).rejects.toThrow('gone at once')
    })

    it('takes a source that comes byte by byte, or with empty chunks and strings', async () => {
      await store.put(
        'slow',
        Readable.from(
          (async function* () {
            for (const byte of pattern(300)) {
              yield Buffer.from([byte])
              await new Promise(setImmediate)
            }
          })(),
          { objectMode: false },
        ),
      )
      expect(digest(await read(store, 'slow'))).toBe(digest(pattern(300)))
      await store.put('odd', Readable.from([Buffer.alloc(0), 'ä', new Uint8Array([1, 2])]))
      expect([...(await read(store, 'odd'))]).toEqual([...Buffer.from('ä'), 1, 2])
      await expect(store.put('wrong', Readable.from([{ not: 'bytes' }]))).rejects.toMatchObject({ code: 'invalid_input' })
      expect(await store.head('wrong')).toBeNull()
    })

    it('reads to the end what was opened, and stops when the reader goes', async () => {
      await store.put('big', pattern(6 * mib))
      const left = await store.get('big')
      for await (const chunk of left ?? []) {
        expect((chunk as Buffer).length).toBeGreaterThan(0)
        break
      }
      expect(left?.destroyed).toBe(true)
      const abort = new AbortController()
      const stream = await store.get('big', { signal: abort.signal })
      await expect(
        (async () => {
          for await (const _chunk of stream ?? []) abort.abort()
        })(),
      ).rejects.toThrow(/abort/i)
    })
  })
}

/** Bytes that differ everywhere, so that a swapped or repeated piece shows. */
export function pattern(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let offset = 0, state = 0x9e3779b9; offset < size; offset += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    if (offset + 4 <= size) bytes.writeUInt32LE(state, offset)
    else bytes.fill(state & 255, offset)
  }
  return bytes
}

export async function read(store: ObjectStore, key: string, range?: { start: number; end: number }): Promise<Buffer> {
  const stream = await store.get(key, range === undefined ? {} : { range })
  if (stream === null) throw new Error('absent')
  return await buffer(stream)
}

export async function keys(store: ObjectStore, prefix: string): Promise<string[]> {
  const found: string[] = []
  for await (const info of store.list(prefix)) found.push(info.key)
  return found
}

export function digest(bytes: Uint8Array): string {
  return `${bytes.length}:${createHash('sha256').update(bytes).digest('hex')}`
}

/** Uneven pieces, so that none of them ends where a part does. */
export function* pieces(bytes: Buffer): Generator<Buffer> {
  for (let offset = 0, size = 1; offset < bytes.length; offset += size, size = Math.min(size * 3 + 1, 100_003))
    yield bytes.subarray(offset, offset + size)
}

function filled(size: number, value: number): Buffer {
  return Buffer.alloc(size, value)
}

/** Gives `bytes` bytes, then fails with `error`; null closes it without an end. */
function failing(bytes: number, error: Error | null): Readable {
  return stopping(bytes, (source) => source.destroy(error ?? undefined))
}

/** Gives `bytes` bytes, calls `then`, and stays silent. */
function silentAfter(bytes: number, then: () => void): Readable {
  return stopping(bytes, then)
}

function stopping(bytes: number, then: (source: Readable) => void): Readable {
  let left = bytes
  return new Readable({
    read() {
      if (left === 0) {
        setImmediate(() => then(this))
        return
      }
      const size = Math.min(left, 65_536)
      left -= size
      this.push(Buffer.alloc(size, 7))
    },
  })
}
