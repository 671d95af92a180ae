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
