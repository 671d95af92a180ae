import { beforeEach, expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { eraseSubject, planSubjectErasure } from '../../../lib/gdpr/index.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()
const env = (key: string) => readEnv({ ENCRYPTION_KEY: key.repeat(32) })

beforeEach(() =>
  test.db.execute(`
    truncate caretaker.gdpr_requests cascade;
    drop schema if exists app cascade;
    create schema app;
    create table app.people (id int primary key);
    create table app.visits (id int primary key, person int references app.people, device text, city varchar(40), born date, at timestamptz, amount numeric, code varchar(8));
    insert into app.people values (1), (2);
    insert into app.visits values
      (1, 1, 'phone-7', 'Berlin', '1815-12-10', '2026-11-21 13:14:15+00', 37.5, 'x'), (2, 1, 'phone-7', null, null, null, -3, 'x'),
      (3, 1, 'laptop', 'Bonn', '1815-12-10', '2026-11-21 13:14:15+00', 40, 'x'), (4, 2, 'phone-7', 'Rome', '1900-01-02', now(), 1, 'x')`),
)

const context = (anonymise: object, key = 'ab') =>
  testContext(test.db, {
    env: env(key),
    config: defineConfig({
      app: { name: 'App' },
      gdpr: { subject: { table: 'app.people' }, tables: { 'app.visits': { erase: { anonymise: anonymise as never } } } },
    }),
  })

it('rows that stay keep pseudonyms and less precise values, the same for the same, and those of others are untouched', async () => {
  await eraseSubject(
    context({
      person: null,
      device: { pseudonym: true },
      city: { generalise: { first: 1 } },
      born: { generalise: 'year' },
      at: { generalise: 'day' },
      amount: { generalise: { step: 10 } },
    }),
    { subject: '1' },
  )
  const rows = await test.db.query<{ device: string }>(
    `select device, city, born::text, (at at time zone 'UTC')::text as at, amount::int from app.visits order by id`,
  )
  expect(rows).toEqual([
    { device: expect.stringMatching(/^[0-9a-f]{32}$/), city: 'B', born: '1815-01-01', at: '2026-11-21 00:00:00', amount: 30 },
    { device: rows[0]?.device, city: null, born: null, at: null, amount: -10 },
    { device: expect.stringMatching(/^[0-9a-f]{32}$/), city: 'B', born: '1815-01-01', at: '2026-11-21 00:00:00', amount: 40 },
    { device: 'phone-7', city: 'Rome', born: '1900-01-02', at: expect.any(String), amount: 1 },
  ])
  expect(rows[2]?.device).not.toBe(rows[0]?.device)
})

it('a pseudonym depends on the key: without it nobody can try values until one fits', async () => {
  const made: string[] = []
  for (const key of ['ab', 'cd']) {
    await test.db.execute(`truncate caretaker.gdpr_requests cascade; delete from app.visits where person is null;
      insert into app.people values (1) on conflict do nothing; insert into app.visits (id, person, device) values (9, 1, 'phone-9') on conflict do nothing`)
    await eraseSubject(context({ person: null, device: { pseudonym: true } }, key), { subject: '1' })
    const [row] = await test.db.query<{ device: string }>('select device from app.visits where id = 9')
    made.push(row?.device ?? '')
  }
  expect(new Set(made).size).toBe(2)
})

it.each([
  [{ code: { pseudonym: true } }, /cannot hold a pseudonym/],
  [{ amount: { generalise: 'year' } }, /cannot be generalised/],
  [{ born: { generalise: { step: 10 } } }, /cannot be generalised/],
])('what does not fit the column is in the way, and said before: %j', async (anonymise, message) => {
  const plan = await planSubjectErasure(context({ person: null, ...anonymise }), { subject: '1' })
  expect(plan.status === 'planned' && plan.blockers.join()).toMatch(message)
})
