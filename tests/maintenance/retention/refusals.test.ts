import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { useTestDatabase } from '../../support/database.ts'
import { retentionRig } from './rig.ts'

describe('what a retention rule refuses to take', () => {
  const test = useTestDatabase()
  const { strictPolicy, counts, count, plan, run, sql } = retentionRig(test)
  const rule = { table: 'logs', column: 'at', olderThan: '30 days', action: 'purge' } as const
  const failure = (ctx: Parameters<typeof run>[0]) => run(ctx).then(String, (thrown: unknown) => thrown)

  beforeEach(async () => {
    await test.db.execute('create schema if not exists public')
    await sql(
      'create table logs (id bigint primary key, at timestamptz not null, done boolean not null default false)',
      `insert into logs select n, now() - case when n <= 1800 then interval '60 days' else interval '1 day' end from generate_series(1, 3000) n`,
      'analyze logs',
    )
  })
  afterEach(() => test.db.execute('drop schema public cascade'))

  it('takes more than half of a table only when that is said', async () => {
    const [line] = await plan(strictPolicy([rule]))
    const sentence = '1800 rows are 60 % of logs, more than 50 %: if that is meant, say so with limits: { maxShare: 0.6 }'
    expect(line?.warnings).toEqual([`would be refused: ${sentence}`])
    expect(await failure(strictPolicy([rule]))).toMatchObject({ code: 'retention_refused', detail: expect.stringContaining(sentence) })
    expect(await count('logs')).toBe(3_000)
    expect(await counts(strictPolicy([{ ...rule, limits: { maxShare: 0.6 } }]))).toMatchObject({ 'purge logs': { rows: 1_800 } })
  })

  it('goes by the limit of every rule, holds anonymising and archiving to it too, and lets a thousand rows pass', async () => {
    await sql('create table logs_archive (like logs)')
    const some = { limits: { maxShare: 0.2 } }
    for (const action of ['purge', { archiveTo: 'logs_archive' }, { anonymise: { done: true } }] as const)
      expect(await failure(strictPolicy([{ ...rule, action }], some))).toMatchObject({ code: 'retention_refused' })
    await sql('delete from logs where id > 1000 and id <= 1800')
    expect(await counts(strictPolicy([rule], some))).toMatchObject({ 'purge logs': { rows: 1_000 } })
  })

  it('counts anew what statistics say is far below the limit, where they are old', async () => {
    await sql(
      `insert into logs select n, now() from generate_series(3001, 40000) n`,
      'vacuum analyze logs',
      `delete from logs where id > 3000`,
    )
    expect(await failure(strictPolicy([rule]))).toMatchObject({ code: 'retention_refused' })
  })

  it('is held to its limits once a run, not after each hand-over', async () => {
    const ctx = strictPolicy([{ ...rule, limits: { maxShare: 0.6 } }])
    let asked = 0
    expect(await counts(ctx, { shouldHandOver: () => ++asked > 2 }, 'once')).toEqual({})
    // What is left now is a larger share of a smaller table.
    await sql('delete from logs where id > 1900')
    expect(await counts(ctx, {}, 'once')).toMatchObject({ 'purge logs': { rows: 1_800 } })
  })

  it('deletes parents only where the index is that finds their children, if those are many', async () => {
    await sql(
      'create table parts (id bigint, log bigint references logs)',
      'insert into parts select n, 2999 from generate_series(1, 500) n',
      'analyze parts',
    )
    const limits = { maxShare: 1, maxUnindexed: 400 }
    const error = await failure(strictPolicy([{ ...rule, limits }]))
    expect(error).toMatchObject({
      code: 'retention_refused',
      detail: expect.stringContaining(
        'parts (about 500 rows) refers to logs by parts_log_fkey without an index, so every deleted row would scan it; first: create index concurrently on "public"."parts" ("log"). Or say that it is small enough with limits: { maxUnindexed: 500 }',
      ),
    })
    expect((await plan(strictPolicy([{ ...rule, limits }])))[0]?.warnings?.[0]).toContain('would be refused: parts')
    await sql('create index on parts (log)')
    expect(await counts(strictPolicy([{ ...rule, limits }]))).toMatchObject({ 'purge logs': { rows: 1_800 } })
  })

  it('finds the children of a batch by an index, if those are many', async () => {
    await sql('create table parts (id bigint, log bigint)', 'insert into parts select n, n from generate_series(1, 500) n', 'analyze parts')
    const ctx = strictPolicy([{ ...rule, children: [{ table: 'parts', column: 'log' }], limits: { maxShare: 1, maxUnindexed: 400 } }])
    expect(await failure(ctx)).toMatchObject({
      code: 'retention_refused',
      detail: expect.stringContaining('parts (about 500 rows) is found without an index'),
    })
  })

  it('takes nothing younger than a day, unless that is said', async () => {
    const young = { ...rule, olderThan: '3 hours' } as const
    expect(await failure(strictPolicy([young]))).toMatchObject({
      code: 'policy_invalid',
      issues: [
        {
          path: 'retention.0.olderThan',
          message: `found "3 hours", expected at least "1 day"; where rows really live shorter, say so with limits: { leastAge: '3 hours' }`,
        },
      ],
    })
    expect(await failure(strictPolicy([{ ...young, where: 'done' }]))).toMatchObject({ code: 'policy_invalid' })
    expect(await failure(strictPolicy([rule], { limits: { leastAge: '1 year' } }))).toMatchObject({ code: 'policy_invalid' })
    expect(await counts(strictPolicy([{ ...young, limits: { leastAge: '1 hour', maxShare: 1 } }]))).toMatchObject({
      'purge logs': { rows: 3_000 },
    })
  })

  it.each([
    ['random() < 0.5', 'found random(), which may answer differently'],
    ['at < clock_timestamp()', 'found clock_timestamp()'],
    ['is_done(id)', 'alter function is_done stable'],
    ['"is_done" (id)', 'found is_done()'],
    [`done); delete from logs; select (true`, 'holds a semicolon'],
    [`done) or (true`, 'unbalanced parentheses'],
    [`done and pg_sleep(0) is null`, 'found pg_sleep()'],
  ])('takes no rows by %s', async (where, message) => {
    await sql(`create function is_done(bigint) returns boolean language sql as 'select $1 < 10'`)
    expect(await failure(strictPolicy([{ table: 'logs', where, action: 'purge' }]))).toMatchObject({
      code: 'policy_invalid',
      issues: [{ path: 'retention.0.where', message: expect.stringContaining(message) }],
    })
    expect(await count('logs')).toBe(3_000)
  })

  it('takes rows by functions that answer the same each time, and by words that only look like calls', async () => {
    await sql(`create function is_done(bigint) returns boolean language sql stable as 'select $1 < 10'`)
    const where = `is_done(id) and (at < now()) and coalesce(done, true) in (false, true) and id not in (select max(id) from logs) and 'random()' <> ''`
    expect(await counts(strictPolicy([{ table: 'logs', where, action: 'purge' }]))).toMatchObject({ 'purge logs': { rows: 9 } })
  })
})
