import { defineConfig, type JobStep, type Policy, type PolicyInput } from '../../../lib/config/index.ts'
import { planSteps, runSteps } from '../../../lib/maintenance/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import type { JobRun, PlanLine } from '../../../lib/platform/job.ts'
import { testContext } from '../../support/context.ts'
import type { TestDatabase } from '../../support/database.ts'
import { countsOf, openRun } from '../job-run.ts'

export const everyRule: JobStep[] = [{ retention: 'all' }]

type Rules = NonNullable<PolicyInput['retention']>

/** Runs and plans retention rules in the database of a test file. A share of a table counts for nothing unless `maintenance` says so. */
export function retentionRig(test: TestDatabase) {
  let jobs = 0
  const job = () => `job ${++jobs}`
  const run = async (ctx: Context, overrides: Partial<JobRun> = {}, name = job()) =>
    runSteps(ctx, everyRule, await openRun(test.db, name, overrides))
  return {
    job,
    run,
    policy: (...retention: Rules): Context => contextOf(test, { retention, maintenance: { limits: { maxShare: 1 } } }),
    /** With the limits of every rule as they are by default, or as `maintenance` says. */
    strictPolicy: (retention: Rules, maintenance?: Policy['maintenance']): Context =>
      contextOf(test, { retention, ...(maintenance === undefined ? {} : { maintenance }) }),
    /** What each task counted, by its label. */
    counts: async (ctx: Context, overrides: Partial<JobRun> = {}, name = job()) => countsOf(await run(ctx, overrides, name)),
    plan: (ctx: Context): Promise<PlanLine[]> => planSteps(ctx, everyRule),
    count: async (from: string): Promise<number | undefined> =>
      (await test.db.query<{ n: number }>(`select count(*)::int as n from ${from}`))[0]?.n,
    /** A table of monthly partitions of the last half year, in UTC, with 20 rows spread over each; their names, the oldest first. */
    async monthly(name: string): Promise<string[]> {
      await test.db.execute(`create table ${name} (id bigint not null, at timestamptz not null, note text) partition by range (at)`)
      const months = await test.db.query<{ name: string; a: string; b: string }>(
        `select format('${name}_%s', to_char(m, 'YYYY_MM')) as name, to_char(m, 'YYYY-MM-DD') as a, to_char(m + interval '1 month', 'YYYY-MM-DD') as b
         from generate_series(0, 5) n, lateral (select date_trunc('month', now() at time zone 'UTC') - n * interval '1 month' as m) x order by m`,
      )
      for (const { name: part, a, b } of months) {
        await test.db.execute(`create table ${part} partition of ${name} for values from ('${a} 00:00:00+00') to ('${b} 00:00:00+00')`)
        await test.db.execute(
          `insert into ${name} select n, '${a} 00:00:00+00'::timestamptz + n * ('${b} 00:00:00+00'::timestamptz - '${a} 00:00:00+00') / 21, 'x' from generate_series(1, 20) n`,
        )
      }
      return months.map((month) => month.name)
    },
    sql: (...statements: string[]) =>
      statements.reduce<Promise<unknown>>((before, one) => before.then(() => test.db.execute(one)), Promise.resolve()),
  }
}

function contextOf(test: TestDatabase, policy: Omit<PolicyInput, 'app'>): Context {
  return testContext(test.db, { config: defineConfig({ app: { name: 'Test' }, ...policy }) })
}
