import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { JobStep } from '../../lib/config/index.ts'
import { checkPolicy, planSteps, runSteps } from '../../lib/maintenance/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { countsOf, openRun } from './job-run.ts'

describe('reindexing a table', () => {
  const test = useTestDatabase()
  let ctx: Context
  let jobs = 0
  const steps: JobStep[] = [{ reindex: [{ table: 't' }] }]
  const run = async (overrides: Partial<JobRun> = {}, name = `reindex ${++jobs}`) =>
    runSteps(ctx, steps, await openRun(test.db, name, overrides))

  beforeEach(async () => {
    ctx = testContext(test.db)
    await test.db.execute('create schema if not exists public')
  })
  afterEach(() => test.db.execute('drop schema public cascade'))

  const nodes = async () =>
    new Map(
      (
        await test.db.query<{ name: string; node: string }>(
          `select c.relname as name, pg_relation_filenode(c.oid)::text as node from pg_class c join pg_namespace n on n.oid = c.relnamespace
           join pg_index i on i.indexrelid = c.oid
           where c.relkind = 'i' and exists (select from pg_class t where t.relnamespace = 'public'::regnamespace and i.indrelid in (t.oid, t.reltoastrelid))`,
        )
      ).map((row) => [row.name, row.node]),
    )

  it('rebuilds every index of it and of its partitions, and drops what broken rebuilds left', async () => {
    await test.db.execute('create extension if not exists btree_gist schema public')
    await test.db.execute('create table t (id int, kind text, during int4range) partition by list (kind)')
    await test.db.execute(`create table t_a partition of t for values in ('a')`)
    await test.db.execute(`create table t_b partition of t for values in ('b') partition by range (id)`)
    await test.db.execute('create table t_b_1 partition of t_b for values from (0) to (100)')
    await test.db.execute('create index t_id on t (id)')
    await test.db.execute('create index t_a_lower on t_a (lower(kind))')
    await test.db.execute('alter table t_a add constraint apart exclude using gist (during with &&)')
    await test.db.execute(`insert into t select 7, 'a', int4range(n, n + 1) from generate_series(1, 3) n`)
    await expect(test.db.execute('create unique index concurrently t_a_id_idx_ccnew on t_a (id)')).rejects.toMatchObject({ code: '23505' })
    const before = await nodes()
    expect((await planSteps(ctx, steps)).map((line) => line.action.replace(/ \(.*\)/, ''))).toEqual([
      expect.stringMatching(/^reindex pg_toast\.pg_toast_\d+_index concurrently$/),
      expect.stringMatching(/^reindex pg_toast\.pg_toast_\d+_index concurrently$/),
      'drop t_a_id_idx_ccnew, which an unfinished rebuild left',
      'reindex t_a_id_idx concurrently',
      'reindex t_a_lower concurrently',
      'reindex t_b_1_id_idx concurrently',
      'leave out 1 of t: indexes of exclusion constraints cannot be rebuilt concurrently',
    ])
    expect(countsOf(await run())['reindex table t']).toMatchObject({ indexes: 5, leftoversDropped: 1, skippedExclusion: 1 })
    const after = await nodes()
    expect([...after.keys()].sort()).toEqual([...before.keys()].filter((name) => name !== 't_a_id_idx_ccnew').sort())
    for (const [name, node] of after) {
      if (name === 'apart') expect(node).toBe(before.get(name))
      else expect(node, name).not.toBe(before.get(name))
    }
  })

  it('goes on after the index it had reached when the invocation ended', async () => {
    await test.db.execute('create table t (a int, b int, c int)')
    for (const column of ['a', 'b', 'c']) await test.db.execute(`create index t_${column} on t (${column})`)
    const before = await nodes()
    let asked = 0
    expect(await run({ shouldHandOver: () => ++asked > 2 }, 'in pieces')).toEqual({ status: 'hand-over' })
    const between = await nodes()
    expect([...between].filter(([name, node]) => before.get(name) !== node).map(([name]) => name)).toEqual(['t_a'])
    expect(countsOf(await run({}, 'in pieces'))['reindex table t']).toMatchObject({ indexes: 3 })
    const after = await nodes()
    expect(after.get('t_a')).toBe(between.get('t_a'))
    for (const name of ['t_b', 't_c']) expect(after.get(name)).not.toBe(between.get(name))
  })

  it('has nothing to do where there is no index, and names a table that is not there', async () => {
    await test.db.execute('create table t (id int)')
    expect(countsOf(await run())['reindex table t']).toMatchObject({ indexes: 0 })
    await test.db.execute('drop table t')
    const error = await run().catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({
      code: 'policy_invalid',
      detail: expect.stringContaining('steps.0.reindex.0.table: found "t", expected a table or materialised view that exists'),
    })
    expect(await checkPolicy({ ...ctx, config: { ...ctx.config, jobs: { weekly: { steps } } } })).toMatchObject([
      { path: 'jobs.weekly.steps.0.reindex.0.table', severity: 'error' },
    ])
  })

  it('says who may drop what a broken rebuild left, when this role may only rebuild', async () => {
    await test.db.execute(`do $$ begin create role maintainer login; exception when duplicate_object then null; end $$`)
    await test.db.execute('create table t (id int)')
    await test.db.execute('insert into t values (1), (1)')
    await test.db.execute('create index t_id on t (id)')
    await expect(test.db.execute('create unique index concurrently t_id_ccnew on t (id)')).rejects.toMatchObject({ code: '23505' })
    await test.db.execute('grant usage on schema public, caretaker to maintainer')
    await test.db.execute('grant maintain on t to maintainer')
    const db = openDatabase({ sessionUrl: test.url.replace('postgres@', 'maintainer@'), maxConnections: 2 })
    try {
      const mine = testContext(db)
      const sentence =
        'the role maintainer may not drop t_id_ccnew, which an unfinished rebuild left and which belongs to postgres: drop index concurrently "public"."t_id_ccnew" as postgres, or grant "postgres" to "maintainer"'
      expect((await planSteps(mine, steps)).flatMap((line) => line.warnings ?? [])).toEqual([sentence])
      const error = await runSteps(mine, steps, await openRun(test.db, 'maintainer')).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(CaretakerError)
      expect(error).toMatchObject({ code: 'forbidden', detail: sentence })
      await test.db.execute('drop index concurrently t_id_ccnew')
      expect(await runSteps(mine, steps, await openRun(test.db, 'maintainer'))).toMatchObject({ status: 'done' })
    } finally {
      await db.close()
    }
  })
})
