import { beforeEach, describe, expect, it } from 'vitest'
import type { JobStep } from '../../lib/config/index.ts'
import { runSteps } from '../../lib/maintenance/index.ts'
import type { JobOutcome, JobRun } from '../../lib/platform/job.ts'
import type { Task } from '../../lib/platform/task.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { openRun } from './job-run.ts'

describe("a step's budget", () => {
  const test = useTestDatabase()
  let ms: number
  let jobs = 0
  let begun: string[]

  beforeEach(() => {
    ms = 0
    begun = []
  })

  const step = (budget?: string): JobStep => ({ run: () => Promise.resolve(), ...(budget === undefined ? {} : { budget }) })
  /** Three tasks a step, each of which takes ten minutes by a clock that they move. */
  const slowTasks = (_ctx: unknown, _step: unknown, index: number): Task[] =>
    ['a', 'b', 'c'].map((name) => ({
      label: `${name} of ${index}`,
      step: index,
      changesRows: false,
      run: () => {
        begun.push(`${name}${index}`)
        ms += 600_000
        return Promise.resolve({})
      },
      plan: () => Promise.resolve([]),
    }))
  const run = async (steps: JobStep[], name = `job ${++jobs}`, overrides: Partial<JobRun> = {}): Promise<JobOutcome> => {
    const ctx = testContext(test.db, { clock: { now: () => new Date(), monotonicMs: () => ms } })
    return runSteps(ctx, steps, await openRun(test.db, name, overrides), slowTasks)
  }

  it('keeps what does not fit from being begun, and says so; other steps have their own', async () => {
    await expect(run([step('15 minutes'), step('1 hour')])).rejects.toMatchObject({
      code: 'timeout',
      detail: "c of 0: not begun, because the step's budget of 15 minutes is spent.",
    })
    expect(begun).toEqual(['a0', 'b0', 'a1', 'b1', 'c1'])
  })

  it('is one budget over all invocations and retries of the run', async () => {
    const steps = [step('15 minutes')]
    let asked = 0
    expect(await run(steps, 'handed over', { shouldHandOver: () => ++asked > 1 })).toEqual({ status: 'hand-over' })
    for (let attempt = 0; attempt < 3; attempt++)
      await expect(run(steps, 'handed over')).rejects.toMatchObject({ detail: expect.stringContaining('c of 0: not begun') })
    expect(begun).toEqual(['a0', 'b0'])
  })

  it('is given anew to each run, and none is no limit', async () => {
    for (let i = 0; i < 2; i++) await expect(run([step('15 minutes')])).rejects.toMatchObject({ code: 'timeout' })
    expect(begun).toEqual(['a0', 'b0', 'a0', 'b0'])
    expect(await run([step()])).toMatchObject({ status: 'done' })
  })

  it('ends a statement on the server', async () => {
    const ctx = testContext(test.db)
    const steps: JobStep[] = [{ sql: 'select pg_sleep(60)', budget: '1 second' }]
    await expect(runSteps(ctx, steps, await openRun(test.db, 'asleep'))).rejects.toMatchObject({
      code: 'timeout',
      detail: expect.stringContaining('its time was over. Nothing of it took effect.'),
    })
  })
})
