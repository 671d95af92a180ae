import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { JobStep } from '../../lib/config/index.ts'
import { planSteps, runSteps } from '../../lib/maintenance/index.ts'
import { type Database, openDatabase } from '../../lib/platform/db.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { openRun } from './job-run.ts'

describe('a role that owns nothing', () => {
  const test = useTestDatabase()
  let db: Database
  let jobs = 0

  beforeAll(async () => {
    await test.db.execute(`do $$ begin create role keeper login; exception when duplicate_object then null; end $$`)
    await test.db.execute('create schema app')
    await test.db.execute('create table app.t (id int)')
    await test.db.execute('create index t_id on app.t (id)')
    await test.db.execute('create materialized view app.v as select id from app.t')
    await test.db.execute('create unique index on app.v (id)')
    await test.db.execute('create table app.parts (id int) partition by range (id)')
    await test.db.execute('create table app.part_1 partition of app.parts for values from (0) to (10)')
    await test.db.execute('create table app.part_2 partition of app.parts for values from (10) to (20)')
    await test.db.execute('create index parts_id on app.parts (id)')
    db = openDatabase({ sessionUrl: test.url.replace('postgres@', 'keeper@'), maxConnections: 3 })
  })
  afterAll(() => db.close())

  const answer = async (step: JobStep): Promise<string> => {
    const ctx = testContext(db)
    const warnings = (await planSteps(ctx, [step])).flatMap((line) => line.warnings ?? [])
    const outcome = await runSteps(ctx, [step], await openRun(test.db, `job ${++jobs}`)).then(
      () => 'done',
      (error: { code: string; detail: string }) => `${error.code}: ${error.detail}`,
    )
    // What the plan says is what the run does.
    expect(outcome).toBe(warnings.length === 0 ? 'done' : `forbidden: ${warnings[0]}`)
    return warnings[0] ?? 'done'
  }

  it('hears of the schema first', async () => {
    expect(await answer({ vacuum: ['app.t'] })).toBe(
      'the role keeper may not vacuum app.t, because it may not use the schema app: grant usage on schema "app" to "keeper"',
    )
    await test.db.execute('grant usage on schema app to keeper')
  })

  it.each<[string, JobStep, string]>([
    ['vacuum', { vacuum: ['app.t'] }, '"app"."t"'],
    ['analyze', { analyze: ['app.t'] }, '"app"."t"'],
    ['reindex', { reindex: ['app.t_id'] }, '"app"."t"'],
    ['reindex', { reindex: [{ table: 'app.t' }] }, '"app"."t"'],
    ['refresh', { refresh: ['app.v'] }, '"app"."v"'],
  ])('hears which grant %s lacks in %j, and needs no other', async (verb, step, relation) => {
    const label = relation.replaceAll('"', '')
    await test.db.execute(`revoke maintain on ${relation} from keeper`)
    expect(await answer(step)).toBe(
      `the role keeper may not ${verb} ${label}, which belongs to postgres: grant maintain on ${relation} to "keeper"`,
    )
    await test.db.execute(`grant maintain on ${relation} to "keeper"`)
    expect(await answer(step)).toBe('done')
  })

  it.each<[string, JobStep]>([
    ['vacuum', { vacuum: ['app.parts'] }],
    ['analyze', { analyze: ['app.parts'] }],
    ['reindex', { reindex: ['app.parts_id'] }],
  ])('hears of the partitions that %s would leave out', async (verb, step) => {
    await test.db.execute('revoke maintain on app.parts, app.part_1, app.part_2 from keeper')
    await test.db.execute('grant maintain on app.parts to keeper')
    const said = await answer(step)
    expect(said).toBe(
      `the role keeper may not ${verb} app.parts's partition app.part_1 (and 1 more of its partitions), which belongs to postgres: grant maintain on app.part_1, app.part_2 to "keeper"`,
    )
    await test.db.execute(said.slice(said.indexOf('grant maintain')))
    expect(await answer(step)).toBe('done')
  })

  it('may vacuum and analyse, but no more, when it owns the database', async () => {
    await test.db.execute('revoke maintain on app.t, app.v from keeper')
    await test.db.execute(`alter database "${test.name}" owner to keeper`)
    try {
      expect(await answer({ vacuum: ['app.t'] })).toBe('done')
      expect(await answer({ analyze: ['app.t'] })).toBe('done')
      expect(await answer({ reindex: ['app.t_id'] })).toContain('may not reindex app.t')
      expect(await answer({ refresh: ['app.v'] })).toContain('may not refresh app.v')
    } finally {
      await test.db.execute(`alter database "${test.name}" owner to postgres`)
    }
  })
})
