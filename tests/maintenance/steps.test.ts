import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { defineConfig, type JobStep } from '../../lib/config/index.ts'
import { planSteps, runSteps } from '../../lib/maintenance/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { type Database, openDatabase } from '../../lib/platform/db.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { countsOf, openRun } from './job-run.ts'

describe('steps', () => {
  const test = useTestDatabase()
  let ctx: Context
  let jobs = 0
  const run = async (steps: JobStep[], overrides: Partial<JobRun> = {}, name = `job ${++jobs}`) =>
    runSteps(ctx, steps, await openRun(test.db, name, overrides))
  const done = async (steps: JobStep[], label: string) => countsOf(await run(steps))[label]
  const failure = async (steps: JobStep[]): Promise<CaretakerError> => {
    const error = await run(steps).catch((thrown: unknown) => thrown)
    if (!(error instanceof CaretakerError)) throw new Error(`expected a CaretakerError, got ${JSON.stringify(error)}`)
    return error
  }

  beforeEach(async () => {
    ctx = testContext(test.db)
    await test.db.execute('create schema if not exists public')
  })
  afterEach(() => test.db.execute('drop schema public cascade'))

  describe('reindex', () => {
    it('rebuilds an index and drops what broken rebuilds of it left', async () => {
      await test.db.execute('create table t (id int, name text)')
      await test.db.execute('insert into t select 1, n::text from generate_series(1, 1000) n')
      await test.db.execute('create index t_name on t (name)')
      await test.db.execute('create index t_other_ccnew on t (name)')
      // What a broken CREATE or REINDEX INDEX CONCURRENTLY leaves: here a unique one that cannot be built.
      for (const name of ['t_name_ccnew', 't_name_ccold1', 'unrelated'])
        await expect(test.db.execute(`create unique index concurrently ${name} on t (id)`)).rejects.toMatchObject({ code: '23505' })
      const before = await node(test.db, 't_name')
      expect((await planSteps(ctx, [{ reindex: ['t_name'] }])).map((line) => line.target)).toEqual([
        't_name_ccold1',
        't_name_ccnew',
        't_name',
      ])
      expect(await done([{ reindex: ['t_name'] }], 'reindex t_name')).toMatchObject({ indexes: 1, leftoversDropped: 2 })
      expect(await node(test.db, 't_name')).not.toBe(before)
      expect(
        await test.db.query(
          `select c.relname as name from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = 't'::regclass order by 1`,
        ),
      ).toEqual([{ name: 't_name' }, { name: 't_other_ccnew' }, { name: 'unrelated' }])
    })

    it('cleans up after itself when the rebuild fails', async () => {
      await test.db.execute('create table t (id int)')
      await test.db.execute(
        `create function fussy(n int) returns int immutable language plpgsql as $$ begin if current_setting('fussy.mode', true) = 'yes' then raise 'no'; end if; return n; end $$`,
      )
      await test.db.execute('create index t_fussy on t (fussy(id))')
      await test.db.execute('insert into t values (1)')
      await test.db.execute(`alter database "${test.name}" set fussy.mode = 'yes'`)
      const other = openDatabase({ sessionUrl: test.url, maxConnections: 2 })
      try {
        ctx = testContext(other)
        expect(await failure([{ reindex: ['t_fussy'] }])).toMatchObject({ code: 'job_failed' })
        expect(
          await test.db.query(
            `select c.relname as name, i.indisvalid as valid from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = 't'::regclass`,
          ),
        ).toEqual([{ name: 't_fussy', valid: true }])
      } finally {
        await other.close()
        await test.db.execute(`alter database "${test.name}" reset fussy.mode`)
      }
    })
  })

  describe('refresh', () => {
    it('is concurrent where PostgreSQL can, and says why where it cannot', async () => {
      await test.db.execute('create table t (id int primary key)')
      await test.db.execute('create materialized view keyed as select id from t')
      await test.db.execute('create unique index on keyed (id)')
      await test.db.execute('create materialized view keyless as select id from t')
      await test.db.execute('create unique index on keyless (id) where id > 0')
      await test.db.execute('create unique index on keyless ((id + 1))')
      await test.db.execute('create materialized view hollow as select id from t with no data')
      await test.db.execute('create unique index on hollow (id)')
      await test.db.execute('insert into t values (1)')
      const steps: JobStep[] = [{ refresh: ['keyed', 'keyless', 'hollow'] }]
      expect((await planSteps(ctx, steps)).map((line) => line.warnings?.length ?? 0)).toEqual([0, 1, 1])
      expect(countsOf(await run(steps))).toEqual({
        'refresh keyed': { views: 1, mode: 'concurrent' },
        'refresh keyless': { views: 1, mode: 'blocking', because: 'it has no unique index on plain columns without a condition' },
        'refresh hollow': { views: 1, mode: 'blocking', because: 'it has never been filled' },
      })
      expect(
        await test.db.query(
          'select (select count(*)::int from keyed) as a, (select count(*)::int from keyless) as b, (select count(*)::int from hollow) as c',
        ),
      ).toEqual([{ a: 1, b: 1, c: 1 }])
    })
  })

  describe('sql', () => {
    it('runs once in a slot, and again only when it did not commit', async () => {
      await test.db.execute('create table reports (month date)')
      const steps: JobStep[] = [
        { sql: `insert into reports values ('2026-10-01'); ` },
        { sql: 'select 1/count(*) from reports where month > now()' },
      ]
      await expect(run(steps, {}, 'monthly')).rejects.toMatchObject({ code: 'job_failed', detail: expect.stringContaining('22012') })
      await test.db.execute(`insert into reports values ('2099-01-01')`)
      expect(await run(steps, {}, 'monthly')).toMatchObject({ status: 'done' })
      expect(await run(steps, {}, 'monthly')).toMatchObject({ status: 'done' })
      expect(await test.db.query('select count(*)::int as n from reports')).toEqual([{ n: 2 }])
    })

    it('leaves no setting to the next user of the connection', async () => {
      await run([{ sql: `select set_config('statement_timeout', '77s', false)` }])
      const values = await Promise.all(
        Array.from({ length: 10 }, () => test.db.query<{ statement_timeout: string }>('show statement_timeout')),
      )
      expect(new Set(values.map(([row]) => row?.statement_timeout))).toEqual(new Set(['0']))
    })

    it.each([
      ['VACUUM ANALYZE t', 'use the step { vacuum: [TABLE] }'],
      ['/* x */ reindex index concurrently i', 'use the step { reindex: [INDEX] }'],
      ['create unique index concurrently on t (id)', 'make indexes in a migration'],
      ['BEGIN; vacuum t; END', 'several statements'],
      [`select 1; select ';'`, 'several statements'],
      ['begin', 'begins or ends a transaction'],
      ['set statement_timeout = 0', 'whose effect ends with the session'],
      [`select 'open`, 'unterminated string'],
      ['select $1', 'without parameters'],
      ['-- nothing', 'found no statement'],
      [`do $$ begin commit; end $$`, 'leaves that to its caller'],
    ])('refuses %s', async (sql, reason) => {
      await test.db.execute('create table t (id int)')
      expect(await failure([{ sql }])).toMatchObject({ code: 'policy_invalid', detail: expect.stringContaining(reason) })
    })

    it('takes a block, a comment and semicolons in strings for what they are', async () => {
      await test.db.execute('create table t (a text)')
      await run([{ sql: `do $body$ begin insert into t values (';'); /* ; */ end $body$; -- ; done` }])
      expect(await test.db.query('select * from t')).toEqual([{ a: ';' }])
    })
  })

  describe('privileges', () => {
    const asReader = async (work: (db: Database) => Promise<void>) => {
      await test.db.execute(`do $$ begin create role reader login; exception when duplicate_object then null; end $$`)
      await test.db.execute('grant usage on schema public, caretaker to reader')
      await test.db.execute('grant select on all tables in schema public to reader')
      await test.db.execute('grant select, insert, update on caretaker.runs to reader')
      await test.db.execute(
        `do $$ begin execute 'create policy reader_runs on caretaker.runs to reader using (true) with check (true)'; exception when duplicate_object then null; end $$`,
      )
      const db = openDatabase({ sessionUrl: test.url.replace('postgres@', 'reader@'), maxConnections: 2 })
      try {
        await work(db)
      } finally {
        await db.close()
      }
    }

    it('says which grant VACUUM lacks, where PostgreSQL only warns and reports success', async () => {
      await test.db.execute('create table t (id int)')
      await asReader(async (db) => {
        ctx = testContext(db)
        const [line] = await planSteps(ctx, [{ vacuum: ['t'] }])
        expect(line?.warnings).toEqual([
          'the role reader may not vacuum t, which belongs to postgres: grant maintain on "public"."t" to "reader"',
        ])
        expect(await failure([{ vacuum: ['t'] }])).toMatchObject({
          code: 'forbidden',
          detail: expect.stringContaining('grant maintain on "public"."t" to "reader"'),
        })
        await test.db.execute('grant maintain on t to reader')
        expect(await run([{ vacuum: ['t'] }, { analyze: 'all' }])).toMatchObject({ status: 'done' })
      })
      const [stats] = await test.db.query<{ n: number }>(
        `select vacuum_count::int as n from pg_stat_user_tables where relid = 't'::regclass`,
      )
      expect(stats?.n).toBe(1)
    })
  })

  describe('a job', () => {
    it('goes on past a step that fails, but not to what may rely on it', async () => {
      await test.db.execute('create table t (id int)')
      await test.db.execute('create table u (id int, at timestamptz)')
      await test.db.execute(`insert into u values (1, now() - interval '1 year')`)
      ctx = testContext(test.db, {
        config: defineConfig({ app: { name: 'Test' }, retention: [{ table: 'u', column: 'at', olderThan: '30 days', action: 'purge' }] }),
      })
      const error = await failure([
        { vacuum: ['gone', 't'] },
        { sql: 'insert into nowhere values (1)' },
        { retention: 'all' },
        { analyze: ['u'] },
      ])
      expect(error).toMatchObject({ code: 'job_failed', issues: [{ path: 'steps.0.vacuum.0' }] })
      for (const part of [
        '3 tasks failed',
        'found "gone", expected a table or materialised view that exists',
        'relation "nowhere" does not exist',
        'purge u: not begun',
      ])
        expect(error.detail).toContain(part)
      expect(await test.db.query('select count(*)::int as n from u')).toEqual([{ n: 1 }])
      expect(
        await test.db.query(
          `select relname, vacuum_count::int as v, analyze_count::int as a from pg_stat_user_tables where schemaname = 'public' order by 1`,
        ),
      ).toEqual([
        { relname: 't', v: 1, a: 1 },
        { relname: 'u', v: 0, a: 1 },
      ])
    })

    it('stops at once when another worker has the run', async () => {
      await test.db.execute('create table t (id int)')
      await expect(
        run([{ vacuum: ['t', 't'] }], { save: () => Promise.reject(new CaretakerError('lease_lost', 'taken')) }),
      ).rejects.toMatchObject({ code: 'lease_lost' })
    })

    it('hands over between tasks', async () => {
      await test.db.execute('create table t (id int)')
      await test.db.execute('create table u (id int)')
      let asked = 0
      expect(await run([{ vacuum: ['t', 'u'] }], { shouldHandOver: () => ++asked > 1 }, 'handed')).toEqual({ status: 'hand-over' })
      expect(await run([{ vacuum: ['t', 'u'] }], {}, 'handed')).toMatchObject({ status: 'done' })
      expect(
        await test.db.query(`select relname, vacuum_count::int as v from pg_stat_user_tables where schemaname = 'public' order by 1`),
      ).toEqual([
        { relname: 't', v: 1 },
        { relname: 'u', v: 1 },
      ])
    })
  })
})

async function node(db: Database, index: string): Promise<number | undefined> {
  const [row] = await db.query<{ node: number }>('select pg_relation_filenode($1::regclass)::int as node', [index])
  return row?.node
}
