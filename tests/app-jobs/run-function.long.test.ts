import { HttpResponse, http } from 'msw'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { appTasks } from '../../lib/app-jobs/index.ts'
import type { AppJobFunction, JobStep } from '../../lib/config/index.ts'
import { runSteps } from '../../lib/maintenance/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { JobOutcome } from '../../lib/platform/job.ts'
import { openRun } from '../maintenance/job-run.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'

describe('a function that does not end', () => {
  const test = useTestDatabase()
  let ctx: Context
  let jobs = 0
  let job: string

  beforeEach(async () => {
    ctx = testContext(test.db)
    job = `job-${++jobs}`
    await test.db.execute('create table suggestions (n int)')
  })
  afterEach(() => test.db.execute('drop table suggestions'))

  const work = async (steps: JobStep[] | AppJobFunction): Promise<JobOutcome> =>
    runSteps(ctx, typeof steps === 'function' ? [{ run: steps }] : steps, await openRun(test.db, job), appTasks)
  const failure = async (steps: JobStep[] | AppJobFunction): Promise<CaretakerError> => {
    const error = await work(steps).catch((thrown: unknown) => thrown)
    if (!(error instanceof CaretakerError)) throw new Error(`expected a CaretakerError, got ${JSON.stringify(error)}`)
    return error
  }
  const rows = async () => (await test.db.query<{ n: number }>('select n from suggestions order by n')).map((row) => row.n)
  const shortly = (ms = 8_000) => {
    ctx = testContext(test.db, { deadline: new Date(Date.now() + ms) })
  }

  it('is ended by its budget, whatever it waits for', async () => {
    const sleeper: AppJobFunction = async (app) => {
      await app.db.query('select pg_sleep(60)')
    }
    expect(await failure([{ run: sleeper, budget: '1 second' }, { analyze: ['suggestions'] }])).toMatchObject({
      code: 'timeout',
      detail: "run sleeper was ended, because its step's budget was spent.",
    })
    await expect
      .poll(
        () =>
          test.db.query(
            `select 1 from pg_stat_activity where datname = current_database() and query = 'select pg_sleep(60)' and state = 'active'`,
          ),
        {
          timeout: 30_000,
        },
      )
      .toEqual([])
    // What the budget was spent on is remembered: a retry does not begin it again.
    expect((await failure([{ run: sleeper, budget: '1 second' }])).detail).toContain(
      "not begun, because the step's budget of 1 second is spent",
    )
  })

  it('is called again by a whole invocation when it ran out of time, once', async () => {
    let calls = 0
    const obedient: AppJobFunction = (app) => {
      calls++
      return new Promise((_resolve, reject) => app.signal.addEventListener('abort', () => reject(app.signal.reason)))
    }
    shortly()
    expect(await work(obedient)).toEqual({ status: 'hand-over' })
    shortly()
    expect(await failure(obedient)).toMatchObject({
      code: 'timeout',
      detail: expect.stringContaining('needs more time than one invocation has, twice'),
    })
    expect(calls).toBe(2)
  })

  it('reaches nothing any more once it ignored its signal', async () => {
    doubles.use(http.post('https://app.example/late', () => HttpResponse.json({})))
    const after: Record<string, unknown> = {}
    let wake: () => void = () => undefined
    const asleep = new Promise<void>((resolve) => {
      wake = resolve
    })
    let late: Promise<unknown> | undefined
    const deaf: AppJobFunction = (app, run) => {
      const attempt = async (name: string, what: () => Promise<unknown>) => {
        after[name] = await what().then(
          () => 'passed',
          (error: CaretakerError) => error.code ?? error.name,
        )
      }
      const open = app.db.transaction(async (tx) => {
        await tx.execute('insert into suggestions values (1)')
        await asleep
      })
      late = (async () => {
        await asleep
        await attempt('open transaction', () => open)
        await attempt('query', () => app.db.query('select 1'))
        await attempt('execute', () => app.db.execute('insert into suggestions values (2)'))
        await attempt('transaction', () => app.db.transaction((tx) => tx.execute('insert into suggestions values (3)')))
        await attempt('fetch', () => app.fetch('https://app.example/late', { method: 'POST' }))
        await attempt('supabase', () => app.supabase())
        await attempt('save', () => run.save(1))
        return undefined
      })()
      return late as Promise<undefined>
    }
    expect((await failure([{ run: deaf, budget: '1 second' }])).code).toBe('timeout')
    wake()
    await late
    expect(after).toEqual({
      'open transaction': 'timeout',
      query: 'timeout',
      execute: 'timeout',
      transaction: 'timeout',
      fetch: 'timeout',
      supabase: 'timeout',
      save: 'timeout',
    })
    expect(await rows()).toEqual([])
  })
})
