import { expect, it } from 'vitest'
import { claimEvent } from '../../lib/webhooks/queries.ts'
import { useTestDatabase } from '../support/database.ts'

const test = useTestDatabase()

it('reads a handful of rows to claim one of thousands, with and without statistics', async () => {
  await test.db.execute(`
    insert into caretaker.inbox (source, event_id, type, occurred_at, object_tag, payload)
    select 'stripe', 'evt_' || n, 'invoice.paid', now() + n * interval '1 second', decode(lpad(to_hex(n % 700), 32, '0'), 'hex'), '\\x00'
    from generate_series(1, 4000) n`)
  const claim = () =>
    test.db.transaction(async (tx) => {
      const claimed = await claimEvent(tx, { source: 'stripe', types: ['invoice.paid'], now: new Date('2100-01-01'), ids: null })
      const [read] = await tx.query<{ rows: number }>(
        `select (seq_tup_read + idx_tup_fetch)::int as rows from pg_stat_xact_user_tables where relid = 'caretaker.inbox'::regclass`,
      )
      return { event: claimed?.eventId, rows: read?.rows ?? Number.NaN }
    })
  const before = await claim()
  expect(before.event).toBe('evt_1')
  expect(before.rows).toBeLessThan(10)
  await test.db.execute('analyze caretaker.inbox')
  expect((await claim()).rows).toBeLessThan(10)
})
