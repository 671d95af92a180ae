import { createHash } from 'node:crypto'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import copyStreams from 'pg-copy-streams'
import { beforeAll, expect, test } from 'vitest'
import { type CopyOut, copyOutBlocks, copyOutStream } from '../../lib/backup/copy-out.ts'
import { openDatabase, type Session } from '../../lib/platform/db.ts'
import { useTestDatabase } from '../support/database.ts'

const source = useTestDatabase({ template: 'template0' })

beforeAll(async () => {
  await source.db.execute('create table t as select n, md5(n::text) from generate_series(1, 60000) n')
})

async function withSession<T>(work: (session: Session) => Promise<T>): Promise<T> {
  const db = openDatabase({ sessionUrl: source.url, maxConnections: 1, bulk: true })
  try {
    return await db.session(work)
  } finally {
    await db.close()
  }
}

interface Got {
  bytes: number
  sha256: string
}

/** Every block is hashed before the next is asked for, and spoilt then: nobody may rely on it any more. */
async function drain(copy: CopyOut, each: (block: Buffer) => Promise<void> = () => Promise.resolve()): Promise<Got> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const block of copy) {
    await each(block)
    hash.update(block)
    bytes += block.length
    block.fill(0xee)
  }
  return { bytes, sha256: hash.digest('hex') }
}

/** The same COPY through a library that makes an object a row. */
async function official(sql: string): Promise<Got> {
  const client = new pg.Client(source.url)
  await client.connect()
  const hash = createHash('sha256')
  let bytes = 0
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      hash.update(chunk)
      bytes += chunk.length
      done()
    },
  })
  await pipeline(client.query(copyStreams.to(sql)), sink)
  await client.end()
  return { bytes, sha256: hash.digest('hex') }
}

test.each([
  ['nothing', 'copy (select 1 where false) to stdout', 0],
  ['rows without columns', 'copy (select from generate_series(1, 10)) to stdout', 10],
  ['one short row', 'copy (select 1) to stdout', 1],
  ['many rows', 'copy t to stdout', 60_000],
  ['rows around the size of a block', `copy (select repeat('x', 524288 + n) from generate_series(-3, 3) n) to stdout`, 7],
  ['rows of all sizes', `copy (select n, repeat(md5(n::text), (n * 7919) % 4001) from generate_series(1, 300) n) to stdout`, 300],
  ['a value of 40 MB', `copy (select repeat('0123456789', 4000000)) to stdout`, 1],
])('%s: every byte comes, and how many rows', async (_, sql, rows) => {
  await withSession(async (session) => {
    const copy = copyOutBlocks(session.client, sql)
    expect(await drain(copy)).toEqual(await official(sql))
    expect(copy.rowCount).toBe(rows)
    // The session is good for what comes next, of either kind.
    expect(await session.query('select 1 as one')).toEqual([{ one: 1 }])
    expect((await drain(copyOutBlocks(session.client, 'copy (select 2) to stdout'))).bytes).toBe(2)
  })
})

test('a stream of it gives chunks that stay as they are', async () => {
  const sql = 'copy t to stdout'
  await withSession(async (session) => {
    const chunks: Buffer[] = []
    for await (const chunk of copyOutStream(session.client, sql)) chunks.push(chunk as Buffer)
    const all = Buffer.concat(chunks)
    expect({ bytes: all.length, sha256: createHash('sha256').update(all).digest('hex') }).toEqual(await official(sql))
  })
})

test('a client whose socket makes a buffer a read does as well', async () => {
  const client = new pg.Client(source.url)
  await client.connect()
  expect(await drain(copyOutBlocks(client, 'copy t to stdout'))).toEqual(await official('copy t to stdout'))
  expect((await client.query('select 1 as one')).rows).toEqual([{ one: 1 }])
  await client.end()
})

test('a reader who stops reading stops the server', async () => {
  await withSession(async (session) => {
    let stood = 0
    const copy = copyOutBlocks(session.client, `copy (select repeat('x', 1000) from t) to stdout`)
    const { bytes } = await drain(copy, async () => {
      if (stood > 0) return
      // It waits for us to read: the sockets' own buffers are far smaller than 60 MB.
      for (;;) {
        const [waits] = await source.db.query<{ n: number }>(
          `select count(*)::int as n from pg_stat_activity where datname = current_database() and wait_event = 'ClientWrite'`,
        )
        stood += waits?.n ?? 0
        if (stood > 0) return
      }
    })
    expect(bytes).toBe(60_000 * 1_001)
  })
})

test('an error in the middle is thrown after what came before it, and the session goes on', async () => {
  await withSession(async (session) => {
    const copy = copyOutBlocks(session.client, 'copy (select 1 / (50000 - n) from generate_series(1, 60000) n) to stdout')
    await expect(drain(copy)).rejects.toMatchObject({ code: '22012' })
    expect(await session.query('select 1 as one')).toEqual([{ one: 1 }])
    const absent = copyOutBlocks(session.client, 'copy no_such_table to stdout')
    await expect(drain(absent)).rejects.toMatchObject({ code: '42P01' })
    expect(await session.query('select 1 as one')).toEqual([{ one: 1 }])
  })
})

test.each(['a reader who leaves', 'somebody else'])('%s ends it: the connection is closed, and the server process gone', async (who) => {
  const refused = withSession(async (session) => {
    const copy = copyOutBlocks(session.client, 'copy (select generate_series(1, 100000000)) to stdout')
    for await (const _ of copy) {
      if (who === 'a reader who leaves') break
      copy.destroy(new Error('enough'))
    }
    await session.query('select 1')
  })
  await expect(refused).rejects.toThrow(who === 'somebody else' ? 'enough' : /connection lost/)
  for (;;) {
    const left = await source.db.query(
      `select from pg_stat_activity where datname = current_database() and query like 'copy%' and state = 'active'`,
    )
    if (left.length === 0) break
  }
})

test('what is ended before its turn never begins', async () => {
  const refused = withSession(async (session) => {
    const first = session.query('select pg_sleep(0.05)')
    const copy = copyOutBlocks(session.client, 'copy t to stdout')
    copy.destroy(new Error('never mind'))
    await first
    await drain(copy)
  })
  await expect(refused).rejects.toThrow('never mind')
})
