import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { planSteps, runSteps } from '../../lib/maintenance/index.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { countsOf, openRun } from './job-run.ts'

describe('refreshing a view concurrently', () => {
  const test = useTestDatabase()
  let jobs = 0
  beforeEach(async () => {
    await test.db.execute('create schema if not exists public')
    await test.db.execute('create table visits (day date, "user" int, plan text, extra json)')
    await test.db.execute(
      `insert into visits select date '2026-01-01' + n % 30, n % 7, case when n % 7 < 3 then 'a' else 'b' end, '{}' from generate_series(1, 1000) n`,
    )
  })
  afterEach(() => test.db.execute('drop schema public cascade'))

  const warning = async (): Promise<string | undefined> => {
    const [line] = await planSteps(testContext(test.db), [{ refresh: ['v'] }])
    return line?.warnings?.[0]
  }
  const mode = async () =>
    countsOf(await runSteps(testContext(test.db), [{ refresh: ['v'] }], await openRun(test.db, `refresh ${++jobs}`)))['refresh v']?.mode
  const because = 'readers of v wait while it is refreshed, because it has no unique index on plain columns without a condition: '

  it.each([
    ['one column', 'select day, count(*) as n from visits group by day', '("day")'],
    [
      'two columns',
      'select extra::text, plan, day, count(*) over () as n from (select distinct on (plan, day) * from visits) v',
      '("plan", "day")',
    ],
    ['a column with a capital', 'select "user" as "User", sum(1) as n from visits group by 1', '("User")'],
  ])('needs a unique index, and the plan names it: %s', async (_name, query, columns) => {
    await test.db.execute(`create materialized view v as ${query}`)
    expect(await warning()).toBe(`${because}create unique index on "public"."v" ${columns}`)
    expect(await mode()).toBe('blocking')
    await test.db.execute(`create unique index on "public"."v" ${columns}`)
    expect(await warning()).toBeUndefined()
    expect(await mode()).toBe('concurrent')
  })

  it.each([
    ['no columns tell its rows apart', 'select plan from visits'],
    ['it has a row or none', `select count(*) as n from visits`],
    ['no column can be compared', 'select extra from visits'],
  ])('is told of no index where %s', async (_name, query) => {
    await test.db.execute(`create materialized view v as ${query}`)
    expect(await warning()).toBe(`${because}create unique index on "public"."v" (the columns that tell its rows apart)`)
  })

  it('is not possible the first time', async () => {
    await test.db.execute('create materialized view v as select day from visits group by day with no data')
    await test.db.execute('create unique index on v (day)')
    expect(await warning()).toBe('readers of v wait while it is refreshed, because it has never been filled')
    expect(await mode()).toBe('blocking')
    expect(await mode()).toBe('concurrent')
  })
})
