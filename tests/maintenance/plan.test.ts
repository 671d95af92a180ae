import { beforeAll, describe, expect, it } from 'vitest'
import { commands, fullPlan } from '../../cli/commands/plan.ts'
import { jobs } from '../../lib/catalog.ts'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

describe('caretaker plan', () => {
  const test = useTestDatabase({ template: 'template0' })
  const policy = (rest: Omit<PolicyInput, 'app'> = {}) =>
    defineConfig({
      app: { name: 'Test' },
      retention: [
        { table: 'errors', column: 'at', olderThan: '30 days', action: { archiveTo: 'errors_archive' } },
        { table: 'cache', where: 'expires_at < now()', action: 'purge' },
      ],
      jobs: {
        nightly: {
          description: 'Tidies up',
          schedule: '0 2 * * *',
          steps: [
            { retention: ['errors', 'cache'] },
            { vacuum: ['errors'] },
            { reindex: ['errors_at'] },
            { refresh: ['per_day'] },
            { analyze: 'all' },
            { sql: "delete from cache where key like 'x%'" },
          ],
        },
      },
      ...rest,
    })

  beforeAll(async () => {
    await test.db.execute('create table errors (id int, at timestamptz not null)')
    await test.db.execute('create index errors_at on errors (at)')
    await test.db.execute('create table errors_archive (id int, at timestamptz)')
    await test.db.execute('create table cache (key text primary key, expires_at timestamptz)')
    await test.db.execute('create materialized view per_day as select at::date as day, count(*) from errors group by 1')
    await test.db.execute('create unique index on per_day (day)')
    await test.db.execute(`insert into errors select n, now() - n * interval '1 day' - interval '1 hour' from generate_series(1, 100) n`)
    await test.db.execute(`insert into cache select n::text, now() - interval '1 hour' from generate_series(1, 7) n`)
    await test.db.execute('analyze')
    await test.db.execute(`do $$ begin create role planner login; exception when duplicate_object then null; end $$`)
    await test.db.execute('grant select on all tables in schema public to planner')
  })

  it('prints each job with its next firing and counts, for a role that may only read, and changes nothing', async () => {
    const state = async () =>
      test.db.query(
        `select (select md5(string_agg(e::text, ',' order by id)) from errors e) as errors, (select count(*)::int from errors_archive) as archived,
                (select md5(string_agg(c::text, ',' order by key)) from cache c) as cache, (select count(*)::int from pg_class) as relations,
                (select json_agg(json_build_array(relname, n_tup_ins, n_tup_upd, n_tup_del, vacuum_count, analyze_count) order by relname) from pg_stat_user_tables) as stats,
                (select relfilenode::int from pg_class where relname = 'errors_at') as node`,
      )
    const before = await state()
    const db = openDatabase({ sessionUrl: test.url.replace('postgres@', 'planner@'), maxConnections: 2 })
    try {
      const config = policy()
      const ctx = testContext(db, { config, clock: fixedClock('2026-11-21T01:59:59Z') })
      const plan = await fullPlan(
        ctx,
        jobs(config).filter((job) => job.name === 'nightly'),
      )
      expect(plan.issues).toEqual([])
      expect(plan.jobs).toMatchObject([{ name: 'nightly', description: 'Tidies up', next: new Date('2026-11-21T02:00:00Z') }])
      expect(
        plan.jobs[0]?.lines.map(({ action, count, estimated }) => [action.replace(/\(.*\)/, '(…)'), count, estimated ?? false]),
      ).toEqual([
        ['archive errors to errors_archive', 71, false],
        ['purge cache', 7, false],
        ['vacuum and analyse errors (…)', 1, false],
        ['reindex errors_at (…) concurrently', 1, false],
        ['refresh per_day concurrently', 1, false],
        ['analyse every table', 0, false],
        ['run sql delete from cache where (…)', null, false],
      ])
      const warnings = plan.jobs[0]?.lines.map((line) => line.warnings?.[0])
      expect(warnings?.[0]).toBe('the role planner may not update on errors: grant update on "public"."errors" to "planner"')
      expect(warnings?.[6]).toContain('permission denied')
    } finally {
      await db.close()
    }
    expect(await state()).toEqual(before)
  })

  it('lets no job change anything while it is planned', async () => {
    const attempts = ['query', 'transaction', 'session'] as const
    const plan = await fullPlan(
      testContext(test.db, { config: policy() }),
      attempts.map((way) => ({
        name: way,
        description: way,
        schedule: null,
        run: () => Promise.reject(new Error('not run')),
        plan: async (ctx) => {
          const sql = 'delete from cache'
          if (way === 'query') await ctx.db.execute(sql)
          else if (way === 'transaction') await ctx.db.transaction((tx) => tx.execute(sql))
          else await ctx.db.session((session) => session.execute(sql))
          return []
        },
      })),
    )
    for (const job of plan.jobs) expect(job.lines[0]?.warnings?.[0]).toContain('read-only transaction')
  })

  it.each([
    ['errors', 1, 'does not fit the database: 1 error.'],
    ['warnings', undefined, 'fits the database, with 1 warning.'],
  ])('ends with the right exit code for %s', async (what, code, verdict) => {
    const config =
      what === 'errors'
        ? policy({ maintenance: { vacuum: ['eror'] } })
        : policy({
            maintenance: { refresh: ['per_day'] },
            retention: [...(policy().retention ?? []), { table: 'cache', where: `key = 'a'`, action: 'purge' }],
            jobs: {},
          })
    let printed: { value: unknown; human: string } | undefined
    const [plan] = commands
    const before = process.exitCode
    try {
      process.exitCode = undefined
      await plan?.run({
        args: ['retention'],
        flags: {},
        out: {
          json: false,
          result: (value, human) => {
            printed = { value, human }
          },
          line: () => undefined,
          progress: () => undefined,
        },
        context: () => Promise.resolve(testContext(test.db, { config })),
      })
      expect(process.exitCode).toBe(code)
    } finally {
      process.exitCode = before
    }
    expect(printed?.human.split('\n')[0]).toContain(verdict)
    expect(printed?.value).toMatchObject({ ok: code === undefined, jobs: [{ name: 'retention' }] })
  })
})
