import { expect, it } from 'vitest'
import { findJob, jobs } from '../../lib/catalog.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { countPrunable, prune } from '../../lib/webhooks/index.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

const test = useTestDatabase()
const clock = fixedClock('2026-11-21T12:00:00Z')
const config = defineConfig({ app: { name: 'Test' }, webhooks: { keep: { payloads: '10 days', entries: '40 days' } } })

it('empties payloads and deletes entries by the policy, never what still waits', async () => {
  const ctx = testContext(test.db, { clock, config })
  await test.db.execute(
    `insert into caretaker.inbox (source, event_id, type, received_at, payload, state)
     select 'stripe', state || days, 'a.b', $1::timestamptz - days * interval '1 day', '\\x01', state
     from unnest(array['received', 'applied', 'ignored', 'dead']) state, unnest(array[5, 20, 50]) days`,
    [clock.now()],
  )
  expect(await countPrunable(ctx, 'payloads')).toBe(4)
  expect(await countPrunable(ctx, 'entries')).toBe(3)
  expect(await prune(ctx, 'payloads', 3)).toBe(3)
  expect(await prune(ctx, 'payloads', 3)).toBe(1)
  const left = async () =>
    (await test.db.query<{ id: string }>(`select event_id as id from caretaker.inbox where octet_length(payload) > 0 order by 1`)).map(
      ({ id }) => id,
    )
  // A dead letter may still be replayed.
  expect(await left()).toEqual(['applied5', 'dead20', 'dead5', 'dead50', 'ignored5', 'received20', 'received5', 'received50'])
  expect(await prune(ctx, 'entries', 100)).toBe(3)
  expect(await test.db.query(`select event_id as id from caretaker.inbox order by 1`)).toHaveLength(9)
  expect(await left()).toEqual(['applied5', 'dead20', 'dead5', 'ignored5', 'received20', 'received5', 'received50'])
})

it('is part of housekeeping, in batches', async () => {
  const ctx = testContext(test.db, { config })
  await test.db.execute(`truncate caretaker.inbox`)
  await test.db.execute(
    `insert into caretaker.inbox (source, event_id, type, received_at, payload, state)
     select 'stripe', 'evt_' || n, 'a.b', now() - interval '50 days', '\\x01', 'applied' from generate_series(1, 1500) n`,
  )
  await test.db.execute(
    `insert into caretaker.inbox_objects (source, object_tag, touched_at) values ('stripe', '\\x01', now() - interval '50 days'), ('stripe', '\\x02', now())`,
  )
  const run: JobRun = {
    id: 'run',
    job: 'housekeeping',
    slot: clock.now(),
    attempt: 1,
    params: {},
    checkpoint: null,
    save: () => Promise.resolve(),
    shouldHandOver: () => false,
    callForHelp: () => Promise.resolve(),
  }
  await findJob(jobs(config), 'housekeeping').run(ctx, run)
  expect(await test.db.query('select count(*)::int as entries from caretaker.inbox')).toEqual([{ entries: 0 }])
  expect(await test.db.query(`select object_tag from caretaker.inbox_objects`)).toEqual([{ object_tag: Buffer.of(2) }])
})

it('keeps entries longer than Stripe lists events', () => {
  expect(() => defineConfig({ app: { name: 'Test' }, webhooks: { keep: { entries: '30 days' } } })).toThrow(
    /webhooks.keep.entries: found "30 days", expected at least "31 days"/,
  )
})
