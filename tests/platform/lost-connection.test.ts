import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { openDatabase } from '../../lib/platform/db.ts'
import { useTestDatabase } from '../support/database.ts'

const test = useTestDatabase()
const pid = 'select pg_backend_pid() as pid'

it('a connection that the server closes while nothing is asked of it fails what holds it, not the process', async () => {
  const db = openDatabase({ sessionUrl: test.url, maxConnections: 2 })
  const lost = (work: (run: { query: typeof db.query }) => Promise<unknown>, kind: 'transaction' | 'session') => db[kind](work)
  for (const kind of ['transaction', 'session'] as const) {
    await expect(
      lost(async (held) => {
        const [row] = await held.query<{ pid: number }>(pid)
        await test.db.query('select pg_terminate_backend($1::int)', [row?.pid])
        // Until the news has arrived, with nothing waiting for it.
        await delay(300)
        await held.query('select 1')
      }, kind),
    ).rejects.toMatchObject({ code: 'database_unavailable' })
  }
  expect(await db.query('select 1 as one')).toEqual([{ one: 1 }])
  await db.close()
})

it('a transaction whose process stands still is ended, and lets go of its locks', async () => {
  await test.db.execute('create table held (n int); insert into held values (1)')
  const frozen = openDatabase({ sessionUrl: test.url, maxConnections: 1, idleTransactionMs: 1_000 })
  const locked = Promise.withResolvers<void>()
  const successor = Promise.withResolvers<void>()
  const stopped = frozen.transaction(async (tx) => {
    await tx.execute('update held set n = 2')
    locked.resolve()
    await successor.promise
    await tx.execute('update held set n = 3')
  })
  await locked.promise
  await test.db.execute('update held set n = n + 10')
  successor.resolve()
  await expect(stopped).rejects.toMatchObject({ code: 'database_unavailable' })
  expect(await test.db.query('select n from held')).toEqual([{ n: 11 }])
  await frozen.close()
})
