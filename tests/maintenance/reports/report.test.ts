import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { checkPolicy, planSteps, runSteps, showReport, writeReport } from '../../../lib/maintenance/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { CaretakerError } from '../../../lib/platform/errors.ts'
import type { JobRun } from '../../../lib/platform/job.ts'
import type { ObjectStore } from '../../../lib/platform/objects.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { countsOf, openRun } from '../job-run.ts'

type Reports = NonNullable<PolicyInput['reports']>

describe('reports', () => {
  const test = useTestDatabase()
  let directory: string
  let objects: ObjectStore
  let jobs = 0

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'reports-'))
    objects = await openObjectStore(`file://${directory}`, readEnv({}))
  })
  afterAll(() => rm(directory, { recursive: true, force: true }))
  beforeEach(async () => {
    await test.db.execute('drop table if exists visits, monthly, typed, typed_report')
    await test.db.execute('create table visits (at timestamptz not null, user_id int, ms int, plan text)')
    await test.db.execute(
      `create table monthly (id int generated always as identity primary key, month date not null, plan text, users int not null, mean numeric(6,1), note text,
         unique nulls not distinct (month, plan))`,
    )
    await test.db.execute(
      // The first and the last moment of October in Berlin, and the ones beside them.
      `insert into visits values ('2026-09-30T21:59:59.999Z', 1, 10, 'a'), ('2026-09-30T22:00:00Z', 2, 20, 'a'), ('2026-10-15T00:00:00Z', 2, 31, 'a'),
         ('2026-10-31T22:59:59.999Z', 3, 40, 'b'), ('2026-10-31T23:00:00Z', 4, 50, 'b')`,
    )
  })

  const monthly: Reports[string] = {
    description: 'Who came',
    period: 'month',
    sql: `select (:from at time zone :timezone)::date as month, plan, count(distinct user_id) as users, avg(ms) as mean
          from visits where at >= :from and at < :to group by plan order by plan; -- every plan`,
    into: { table: 'monthly', key: ['month', 'plan'] },
    store: 'csv',
  }
  const context = (reports: Reports, overrides: Partial<Context> = {}): Context =>
    testContext(test.db, {
      config: defineConfig({ app: { name: 'Test', timezone: 'Europe/Berlin' }, reports }),
      objects: () => Promise.resolve(objects),
      ...overrides,
    })
  const slot = new Date('2026-11-01T03:00:00Z')
  const run = async (ctx: Context, name: string, overrides: Partial<JobRun> = {}, job = `report ${++jobs}`) =>
    countsOf(await runSteps(ctx, [{ report: name }], await openRun(test.db, job, { slot, ...overrides })))[`report ${name}`]
  const failure = async (ctx: Context, name: string): Promise<CaretakerError> => {
    const error = await run(ctx, name).catch((thrown: unknown) => thrown)
    if (!(error instanceof CaretakerError)) throw new Error(`expected a CaretakerError, got ${JSON.stringify(error)}`)
    return error
  }
  const kept = () => test.db.query('select month::text, plan, users, mean, note from monthly order by month, plan')
  const object = async (key: string) => {
    const stream = await objects.get(key)
    return stream === null ? null : text(stream)
  }

  it('keeps the rows of the last complete period, in the zone of the app, and as a file', async () => {
    expect(await run(context({ monthly }), 'monthly')).toEqual({
      period: '2026-10',
      object: 'reports/monthly/2026-10.csv',
      bytes: expect.any(Number),
      rows: 2,
    })
    expect(await kept()).toEqual([
      { month: '2026-10-01', plan: 'a', users: 1, mean: '25.5', note: null },
      { month: '2026-10-01', plan: 'b', users: 1, mean: '40.0', note: null },
    ])
    expect(await object('reports/monthly/2026-10.csv')).toBe(
      'month,plan,users,mean\r\n2026-10-01,a,1,25.5000000000000000\r\n2026-10-01,b,1,40.0000000000000000\r\n',
    )
  })

  it('repeated, overwrites the row of its key and leaves the other columns', async () => {
    const ctx = context({ monthly })
    await run(ctx, 'monthly')
    await test.db.execute(`update monthly set note = 'read by Ada' where plan = 'a'`)
    const [before] = await test.db.query(`select id from monthly where plan = 'a'`)
    await test.db.execute(`insert into visits values ('2026-10-02T00:00:00Z', 9, 0, 'a'), ('2026-10-02T00:00:00Z', 9, 0, null)`)
    for (const job of ['again', 'again', 'and again']) await run(ctx, 'monthly', {}, job)
    expect(await kept()).toEqual([
      { month: '2026-10-01', plan: 'a', users: 2, mean: '17.0', note: 'read by Ada' },
      { month: '2026-10-01', plan: 'b', users: 1, mean: '40.0', note: null },
      { month: '2026-10-01', plan: null, users: 1, mean: '0.0', note: null },
    ])
    expect(await test.db.query(`select id from monthly where plan = 'a'`)).toEqual([before])
  })

  it('is not kept when a key holds null or comes twice: the next time it would be there again', async () => {
    await test.db.execute('alter table monthly drop constraint monthly_month_plan_key')
    await test.db.execute('create unique index on monthly (month, plan)')
    await test.db.execute(`insert into visits values ('2026-10-02T00:00:00Z', 9, 0, null)`)
    expect(await failure(context({ monthly }), 'monthly')).toMatchObject({
      code: 'job_failed',
      detail: expect.stringContaining('whose key (month, plan) holds null'),
    })
    const twice = { ...monthly, sql: `select '2026-10-01'::date as month, 'a' as plan, n as users from generate_series(1, 2) n` }
    expect((await failure(context({ twice }), 'twice')).detail).toContain('gives two rows of one key (month, plan); monthly keeps one')
    expect(await kept()).toEqual([])
  })

  it('carries every value as it is', async () => {
    const columns = `id int primary key, n numeric, big bigint, f float8, t text, b bytea, j jsonb, a text[], d date, at timestamptz, i interval, u uuid, r int4range, yes boolean`
    await test.db.execute(`create table typed (${columns})`)
    await test.db.execute(`create table typed_report (${columns})`)
    await test.db.execute(
      `insert into typed select n, 1e-30, 9223372036854775807, 'NaN', E'a\\n"b",\\t\\\\c\u20ac', '\\xdeadbeef', '{"a":[1,null,"x"]}', array['x,y', null, '{}'],
         '0044-03-15 BC', 'infinity', '1 mon -2 days 03:00', '7d1e0a52-5f0a-4a10-9f0e-000000000001', '[1,)', n % 2 = 0 from generate_series(1, 1201) n`,
    )
    await test.db.execute('insert into typed (id) values (0)')
    const ctx = context({ typed: { sql: 'table typed', into: 'typed_report', store: 'json' } })
    expect(await run(ctx, 'typed')).toMatchObject({ rows: 1202 })
    expect(await test.db.query('(table typed except table typed_report) union all (table typed_report except table typed)')).toEqual([])
    const file = JSON.parse((await object('reports/typed/20261101T030000Z.json')) ?? '') as { rows: Record<string, unknown>[] }
    expect(file.rows).toHaveLength(1202)
    expect(file.rows[0]).toMatchObject({ id: 1, f: 'NaN', a: ['x,y', null, '{}'], j: { a: [1, null, 'x'] }, yes: false })
  })

  it('fails on a text that is too long, where a cast would cut it', async () => {
    await test.db.execute(`create table typed_report (id int primary key, t varchar(3))`)
    expect(await failure(context({ long: { sql: `select 1 as id, 'long' as t`, into: 'typed_report' } }), 'long')).toMatchObject({
      code: 'job_failed',
      detail: expect.stringContaining('22001'),
    })
  })

  it.each<[string, string, string, string]>([
    [
      'a change',
      `with x as (delete from visits returning 1) select count(*) as users from x`,
      'policy_invalid',
      'must be at the top level',
    ],
    ['a function that changes', `select nextval('s')::int as users`, 'policy_invalid', 'the query changes something'],
    ['an unknown table', 'select * from visit', 'policy_invalid', 'relation "visit" does not exist'],
    ['bad syntax', 'select 1 from from', 'policy_invalid', 'syntax error'],
    ['an error on the data', `select 1 / (ms - 10) as users from visits`, 'job_failed', 'division by zero'],
  ])('refuses %s', async (_name, sql, code, words) => {
    await test.db.execute('create sequence if not exists s')
    const error = await failure(context({ r: { sql, store: 'csv' } }), 'r')
    expect(error).toMatchObject({ code, detail: expect.stringContaining(words) })
    expect(await test.db.query(`select count(*)::int as visits, (select is_called from s) as called from visits`)).toEqual([
      { visits: 5, called: false },
    ])
  })

  it('ends at its timeout, on the server too', async () => {
    const ctx = context({ slow: { sql: 'select pg_sleep(60)', store: 'csv', timeout: '1 second' } })
    expect(await failure(ctx, 'slow')).toMatchObject({ code: 'timeout', detail: expect.stringContaining('was ended after 1 second') })
    await expect
      .poll(
        () =>
          test.db.query(
            `select 1 from pg_stat_activity where datname = current_database() and query ~ '^declare report' and state = 'active'`,
          ),
        { timeout: 20_000 },
      )
      .toEqual([])
    expect(await object('reports/slow/20261101T030000Z.csv')).toBeNull()
  })

  it('sees one moment, whatever is written while it reads', async () => {
    await test.db.execute(`insert into visits select '2026-10-10T00:00:00Z', n, 1, 'c' from generate_series(1, 3000) n`)
    const ctx = context({ all: { sql: 'select user_id, ms from visits where plan = :timezone or plan = $$c$$' } })
    let pieces = 0
    let out = ''
    await writeReport(ctx, { name: 'all', format: 'csv' }, async (piece) => {
      out += piece
      if (++pieces === 2) await test.db.execute(`delete from visits where plan = 'c'`)
    })
    expect(out.split('\r\n')).toHaveLength(3002)
  })

  it('is checked against the table that keeps it', async () => {
    await test.db.execute('create table typed (id int primary key, a int unique, b int unique, c int generated always as (a + 1) stored)')
    const issues = await checkPolicy(
      context({
        keyless: { sql: 'select 1 as users', into: 'monthly' },
        misnamed: { ...monthly, sql: 'select current_date as month, 1 as usrs' },
        nokey: { sql: 'select current_date as month, 1 as users', into: { table: 'monthly', key: ['month'] } },
        absent: { sql: 'select 1 as users', into: { table: 'monthly', key: ['month'] } },
        many: { sql: 'select 1 as a, 2 as b', into: 'typed' },
        computed: { sql: 'select 1 as id, 2 as c', into: 'typed' },
        twice: { sql: 'select 1 as id, 2 as id', into: 'typed' },
        nowhere: { sql: 'select 1 as id', into: 'montly' },
        fits: monthly,
      }),
    )
    expect(issues.map((issue) => `${issue.severity} ${issue.path}: ${issue.message}`)).toEqual([
      'error reports.keyless.into: monthly has no unique index whose columns the query gives, so a repeated report would be there twice: create unique index on "public"."monthly" (the columns that tell its rows apart)',
      'error reports.misnamed.sql: found "usrs", expected a column of monthly; did you mean "users"?',
      'error reports.misnamed.into.key: found "plan", which the query does not give; it gives month, usrs',
      'error reports.nokey.into.key: found month, on which monthly has no unique index: create unique index on "public"."monthly" ("month")',
      'error reports.absent.into.key: found "month", which the query does not give; it gives users',
      `error reports.many.into: typed has several unique indexes that the query fills; name one's columns: { table, key: ['a'] }`,
      'error reports.computed.sql: gives the column "c", which typed computes itself; leave it out',
      'error reports.twice.sql: gives two columns "id", expected each name once',
      'error reports.nowhere.into: found "montly", expected a table that exists; did you mean "monthly"?',
    ])
  })

  it('is planned with its rows and places, and reading it changes nothing', async () => {
    const ctx = context(
      { monthly },
      {
        clock: { now: () => new Date('2026-11-21T10:00:00Z'), monotonicMs: () => performance.now() },
        deadline: new Date('2026-11-21T10:10:00Z'),
      },
    )
    expect(await planSteps(ctx, [{ report: 'monthly' }, { report: 'database' }])).toEqual([
      {
        action: 'keep the report monthly of 2026-10 in monthly and as reports/monthly/2026-10.csv',
        target: 'monthly',
        count: 2,
        unit: 'rows',
      },
      expect.objectContaining({ target: 'caretaker.database_findings' }),
    ])
    const at = new Date('2026-10-05T00:00:00Z')
    expect(await showReport(ctx, { name: 'monthly', at }, 10)).toMatchObject({
      window: { label: '2026-09' },
      columns: ['month', 'plan', 'users', 'mean'],
      rows: [['2026-09-01', 'a', '1', '10.0000000000000000']],
      more: false,
    })
    let json = ''
    await writeReport(ctx, { name: 'monthly', format: 'json', at }, (piece) => {
      json += piece
      return Promise.resolve()
    })
    expect(JSON.parse(json)).toEqual({
      report: 'monthly',
      description: 'Who came',
      slot: '2026-10-05T00:00:00.000Z',
      from: '2026-08-31T22:00:00.000Z',
      to: '2026-09-30T22:00:00.000Z',
      timezone: 'Europe/Berlin',
      columns: ['month', 'plan', 'users', 'mean'],
      rows: [{ month: '2026-09-01', plan: 'a', users: 1, mean: 10 }],
    })
    expect(await kept()).toEqual([])
  })

  it('names the grants that the role lacks, to read and to keep', async () => {
    await test.db.execute(`do $$ begin create role analyst login; exception when duplicate_object then null; end $$`)
    await test.db.execute('grant usage on schema public, caretaker to analyst')
    const db = openDatabase({ sessionUrl: test.url.replace('postgres@', 'analyst@'), maxConnections: 3 })
    try {
      const ctx = context({ monthly }, { db })
      const issues = async () => (await checkPolicy(ctx)).map((issue) => `${issue.severity} ${issue.path}: ${issue.message}`)
      expect(await issues()).toEqual([
        'warning reports.monthly.sql: The report "monthly" cannot be read: permission denied for table visits (SQLSTATE 42501).',
      ])
      await test.db.execute('grant select on visits to analyst')
      expect(await issues()).toEqual([
        'warning reports.monthly.into: the role analyst may not select on monthly: grant select on "public"."monthly" to "analyst"',
        'warning reports.monthly.into: the role analyst may not insert on monthly: grant insert on "public"."monthly" to "analyst"',
        'warning reports.monthly.into: the role analyst may not update on monthly: grant update on "public"."monthly" to "analyst"',
      ])
      await test.db.execute('grant select, insert, update on monthly to analyst')
      expect(await issues()).toEqual([])
    } finally {
      await db.close()
    }
  })

  it.each([
    ['montly', 'There is no report "montly"; did you mean "monthly"? Known: monthly.'],
    ['constructor', 'There is no report "constructor". Known: monthly.'],
  ])('does not know %s', async (name, words) => {
    await expect(showReport(context({ monthly }), { name }, 1)).rejects.toMatchObject({ code: 'invalid_input', detail: words })
  })
})
