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
    sql: (...statements: string[]) =>
      statements.reduce<Promise<unknown>>((before, one) => before.then(() => test.db.execute(one)), Promise.resolve()),
  }
}

function contextOf(test: TestDatabase, policy: Omit<PolicyInput, 'app'>): Context {
  return testContext(test.db, { config: defineConfig({ app: { name: 'Test' }, ...policy }) })
}
