import { describe, expect, it, vi } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { eraseSubject } from '../../../lib/gdpr/index.ts'
import { sqlState } from '../../../lib/platform/errors.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

describe('an erasure while the app goes on writing', () => {
  const test = useTestDatabase()

  it.each(['cascade', 'set null', 'no action', 'restrict'])('leaves no row that came in meanwhile, with ON DELETE %s', async (onDelete) => {
    await test.db.execute(`
      drop schema if exists app cascade; create schema app;
      create table app.people (id int primary key);
      create table app.logs (id int generated always as identity primary key, person int references app.people on delete ${onDelete}, note text);
      create table app.details (log int references app.logs on delete ${onDelete}, note text);
      create index on app.logs (person); create index on app.details (log);
      insert into app.people values (1), (2);
      insert into app.logs (person, note) select 1 + i % 2, 'of ' || (1 + i % 2) from generate_series(1, 20000) i;
      insert into app.details select id, note from app.logs;`)
    let running = true
    let written = 0
    const refused = new Set<string>()
    const writer = async () => {
      while (running) {
        try {
          await test.db.execute(
            `with made as (insert into app.logs (person, note) values (1, 'of 1') returning id) insert into app.details select id, 'of 1' from made`,
          )
          await test.db.execute(`insert into app.details select id, note from app.logs where person = 1 order by random() limit 1`)
          written++
        } catch (error) {
          refused.add(sqlState(error) ?? String(error))
        }
      }
    }
    const writers = [writer(), writer(), writer()]
    const ctx = testContext(test.db, { config: defineConfig({ app: { name: 'App' }, gdpr: { subject: { table: 'app.people' } } }) })
    try {
      await vi.waitUntil(() => written > 0, { timeout: 60_000 })
      expect(await eraseSubject(ctx, { subject: '1' })).toMatchObject({ status: 'erased' })
    } finally {
      running = false
      await Promise.all(writers)
    }
    expect(written).toBeGreaterThan(0)
    // The only thing that a writer may hear is that the person is gone (or that it stood in a deadlock's way).
    expect([...refused].filter((state) => state !== '23503' && state !== '40P01')).toEqual([])
    const left = await test.db.query(
      `select 'logs' as t, count(*)::int as n from app.logs where note = 'of 1' union all select 'details', count(*)::int from app.details where note = 'of 1' order by 1`,
    )
    expect(left).toEqual([
      { t: 'details', n: 0 },
      { t: 'logs', n: 0 },
    ])
    expect(await test.db.query('select person, count(*)::int as n from app.logs group by 1')).toEqual([{ person: 2, n: 10_000 }])
  })

  it('gives up with a sentence when a lock is never released, and has changed nothing', async () => {
    await test.db.execute(
      'drop schema if exists app cascade; create schema app; create table app.people (id int primary key); insert into app.people values (7)',
    )
    const ctx = testContext(test.db, {
      config: defineConfig({ app: { name: 'App' }, gdpr: { subject: { table: 'app.people' } } }),
      deadline: new Date(0),
    })
    await test.db.transaction(async (tx) => {
      await tx.query('select from app.people for update')
      const stopped = new AbortController()
      const erased = expect(eraseSubject({ ...ctx, signal: stopped.signal }, { subject: '7' })).rejects.toMatchObject({
        code: 'timeout',
        detail: expect.stringContaining('nothing was changed'),
      })
      await vi.waitFor(
        async () =>
          expect(
            await test.db.query(`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`),
          ).toHaveLength(1),
        { timeout: 60_000 },
      )
      stopped.abort()
      await erased
    })
    expect(await test.db.query('select id from app.people')).toEqual([{ id: 7 }])
    expect(await eraseSubject({ ...ctx, signal: new AbortController().signal }, { subject: '7' })).toMatchObject({ status: 'erased' })
  })
})
