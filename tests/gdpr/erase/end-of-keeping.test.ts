import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { eraseSubject, processRequestsJob, replayTombstones } from '../../../lib/gdpr/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()
const run = { shouldHandOver: () => false } as Parameters<typeof processRequestsJob>[1]

beforeEach(async () => {
  await test.db.execute(`
    truncate caretaker.gdpr_requests, caretaker.outbox cascade;
    drop schema if exists app cascade;
    create schema app;
    create table app.people (id int primary key);
    create table app.invoices (year int, number int, person int references app.people, primary key (year, number));
    create table app.lines (id bigint primary key, year int, number int, foreign key (year, number) references app.invoices);
    insert into app.people values (1), (2);
    insert into app.invoices select 2026, n, case when n <= 3 then 1 else 2 end from generate_series(1, 5) n;
    insert into app.lines select n, 2026, n from generate_series(1, 5) n`)
})

const clock = fixedClock('2026-11-21T10:00:00Z')
const context = () => ({
  ...testContext(test.db),
  clock,
  config: defineConfig({
    app: { name: 'App' },
    gdpr: {
      subject: { table: 'app.people' },
      tables: {
        'app.invoices': { erase: { keep: 'tax law', until: '10 years' } },
        'app.lines': { erase: { keep: 'tax law', until: '10 years' } },
      },
    },
  }),
})

const left = async () => [
  await test.db.query('select number from app.invoices order by 1'),
  await test.db.query('select id::int from app.lines order by 1'),
]

describe('rows that were kept', () => {
  it('go when their time is over, whichever table is asked first, and nobody else’s go', async () => {
    const ctx = context()
    await eraseSubject(ctx, { subject: '1' })
    expect((await left()).map((rows) => rows.length)).toEqual([5, 5])
    expect(await processRequestsJob(ctx, run)).toMatchObject({ result: { kept: { erased: {}, held: {} } } })
    const later = { ...ctx, clock: fixedClock('2036-11-21T10:00:01Z') }
    expect(await processRequestsJob(later, run)).toMatchObject({
      result: { kept: { erased: { 'app.invoices': 3, 'app.lines': 3 }, held: {} } },
    })
    expect(await left()).toEqual([
      [{ number: 4 }, { number: 5 }],
      [{ id: 4 }, { id: 5 }],
    ])
    expect(await processRequestsJob(later, run)).toMatchObject({ result: { kept: { erased: {}, held: {} } } })
  })

  it('go at the same time in a database that was restored from before the erasure', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'gdpr-kept-'))
    try {
      const made = context()
      const ctx = { ...made, objects: () => openObjectStore(`file://${folder}`, made.env) }
      await eraseSubject(ctx, { subject: '1' })
      // As the backup had it.
      await test.db.execute(`truncate caretaker.gdpr_requests cascade; insert into app.people values (1);
        update app.invoices set person = 1 where number <= 3`)
      const later = { ...ctx, clock: fixedClock('2030-01-01T10:00:00Z') }
      expect(await replayTombstones(later)).toEqual({ tombstones: 1, erased: 1 })
      expect(await eraseSubject(later, { subject: '1' })).toMatchObject({ status: 'already-erased' })
      const over = { ...ctx, clock: fixedClock('2036-11-21T10:00:01Z') }
      expect(await processRequestsJob(over, run)).toMatchObject({ result: { kept: { erased: { 'app.invoices': 3, 'app.lines': 3 } } } })
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('need a key that stays, or they could never be found again', async () => {
    await test.db.execute(`create table app.loose (person int references app.people, note text);
      create table app.named (person int references app.people, note text not null unique);
      insert into app.loose values (1, 'a'); insert into app.named values (1, 'a')`)
    const keep = { keep: 'tax law', until: '10 years' }
    const config = defineConfig({
      app: { name: 'App' },
      gdpr: {
        subject: { table: 'app.people' },
        tables: { 'app.loose': { erase: keep }, 'app.named': { erase: { ...keep, anonymise: ['note'] } } },
      },
    })
    await expect(eraseSubject({ ...context(), config }, { subject: '1' })).rejects.toMatchObject({
      code: 'policy_invalid',
      detail: expect.stringMatching(/app\.loose has neither[\s\S]*app\.named\.note is part of the key/),
    })
    expect(await test.db.query('select from app.people')).toHaveLength(2)
  })

  it('that something references stay, are told, and do not keep the others', async () => {
    const ctx = context()
    await eraseSubject(ctx, { subject: '1' })
    await test.db.execute('insert into app.lines values (99, 2026, 2)')
    const later = { ...ctx, clock: fixedClock('2036-11-21T10:00:01Z') }
    expect(await processRequestsJob(later, run)).toMatchObject({
      result: { kept: { erased: { 'app.invoices': 2, 'app.lines': 3 }, held: { 'app.invoices': 1 } } },
    })
    expect((await left())[0]).toEqual([{ number: 2 }, { number: 4 }, { number: 5 }])
    const [event] = await test.db.query<{ payload: unknown }>(`select payload from caretaker.outbox where topic = 'gdpr.kept_held'`)
    expect(event?.payload).toEqual({ rows: { 'app.invoices': 1 } })
    await test.db.execute('delete from app.lines where id = 99')
    expect(await processRequestsJob(later, run)).toMatchObject({ result: { kept: { erased: { 'app.invoices': 1 }, held: {} } } })
  })

  it('of a table that is gone are gone', async () => {
    const ctx = context()
    await eraseSubject(ctx, { subject: '1' })
    await test.db.execute('drop table app.lines; drop table app.invoices')
    const later = {
      ...ctx,
      config: defineConfig({ app: { name: 'App' }, gdpr: { subject: { table: 'app.people' } } }),
      clock: fixedClock('2036-11-21T10:00:01Z'),
    }
    await processRequestsJob(later, run)
    expect(await test.db.query('select from caretaker.gdpr_kept where erased_at is null')).toEqual([])
  })
})
