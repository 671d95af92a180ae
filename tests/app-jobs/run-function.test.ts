import { http } from 'msw'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { appTasks } from '../../lib/app-jobs/index.ts'
import type { AppContext, AppJobFunction, AppRun, JobStep } from '../../lib/config/index.ts'
import { runSteps } from '../../lib/maintenance/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { JobOutcome } from '../../lib/platform/job.ts'
import { openRun } from '../maintenance/job-run.ts'
import { logLines, testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'

describe('a function of the policy', () => {
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

  it('gets the database, the slot and the time, and its counts are kept', async () => {
    let seen: { app: AppContext; run: AppRun } | undefined
    const outcome = await work(async function makeSuggestions(app, run) {
      seen = { app, run }
      await app.db.execute('insert into suggestions values ($1)', [1])
      const [row] = await app.db.query<{ n: number }>('select count(*)::int as n from suggestions')
      return { rows: row?.n ?? 0, note: 'no texts' }
    })
    expect(outcome).toEqual({ status: 'done', result: { rows: 1, steps: [{ task: 'run makeSuggestions', rows: 1 }] } })
    expect(seen?.run).toMatchObject({ job, slot: new Date('2026-11-21T02:00:00Z'), attempt: 1, checkpoint: null })
    expect(Object.keys(seen?.app ?? {}).sort()).toEqual(['clock', 'db', 'deadline', 'fetch', 'log', 'signal', 'supabase'])
    expect(Object.keys(seen?.app.db ?? {}).sort()).toEqual(['execute', 'query', 'transaction'])
    await expect(seen?.app.db.query('select 1')).rejects.toMatchObject({ code: 'timeout' })
  })

  it('has a Supabase client that reaches nothing any more once its time is over', async () => {
    ctx = {
      ...ctx,
      env: { ...ctx.env, SUPABASE_URL: 'https://project.supabase.example', SUPABASE_SERVICE_ROLE_KEY: 'service-key-of-the-test' },
    }
    let kept: Awaited<ReturnType<AppContext['supabase']>> | undefined
    await work(async (app) => {
      kept = await app.supabase()
    })
    const answer = await kept?.from('suggestions').insert({ n: 1 }).retry(false)
    expect(answer?.error?.message).toContain('The time of this function is over')
  })

  it('takes effect once, when it finishes in its own transaction', async () => {
    const once: AppJobFunction = async (app, run) => {
      await app.db.transaction(async (tx) => {
        await tx.execute('insert into suggestions values (1)')
        await run.finish(tx, { rows: 1 })
      })
      throw new Error('the process was killed here')
    }
    const done = { status: 'done', result: { rows: 1, steps: [{ task: 'run once', rows: 1 }] } }
    expect(await work(once)).toEqual(done)
    expect(await work(once)).toEqual(done)
    expect(await rows()).toEqual([1])
  })

  it('is not done when the transaction it finished in is rolled back', async () => {
    const undone: AppJobFunction = (app, run) =>
      app.db.transaction(async (tx) => {
        await tx.execute('insert into suggestions values (1)')
        await run.finish(tx)
        await tx.execute('select 1 / 0')
      })
    expect(await failure(undone)).toMatchObject({ code: 'job_failed', detail: expect.stringContaining('division by zero') })
    expect(await rows()).toEqual([])
    expect(await work(async () => undefined)).toMatchObject({ status: 'done' })
  })

  it('goes on from its checkpoint after a hand-over', async () => {
    const inPieces: AppJobFunction = async (app, run) => {
      const from = (run.checkpoint as number | null) ?? 0
      await app.db.transaction(async (tx) => {
        await tx.execute('insert into suggestions values ($1::int)', [from])
        await run.save(from + 1, tx)
      })
      return from < 2 ? 'hand-over' : { pieces: from + 1 }
    }
    expect(await work(inPieces)).toEqual({ status: 'hand-over' })
    expect(await work(inPieces)).toEqual({ status: 'hand-over' })
    expect(await work(inPieces)).toMatchObject({ result: { steps: [{ pieces: 3 }] } })
    expect(await rows()).toEqual([0, 1, 2])
  })

  it('may not hand over for ever', async () => {
    expect(await failure(async () => 'hand-over')).toMatchObject({
      code: 'job_failed',
      detail: 'run a function handed over without having saved anything: it would be called for ever.',
    })
  })

  it.each<[string, () => unknown, string]>([
    ['an Error', () => new Error('no route to "Ada Lovelace" <ada@example.org>, account 1234567'), 'Error: no route to "…" <…>, account …'],
    ['a TypeError', () => new TypeError('x is not a function'), 'TypeError: x is not a function'],
    ['a text', () => 'ada@example.org', 'something: a value that is not an Error was thrown'],
    ['nothing', () => undefined, 'something: a value that is not an Error was thrown'],
  ])('fails when it throws %s, without what may be about somebody', async (_name, thrown, words) => {
    const error = await failure(async () => {
      throw thrown()
    })
    expect(error).toMatchObject({ code: 'job_failed', detail: `run a function threw ${words}` })
  })

  it('fails by a statement of its own with its SQLSTATE, without the values', async () => {
    const error = await failure(async (app) => {
      await app.db.execute(`insert into suggestions values ('secret'::text::int)`)
    })
    expect(error.detail).toMatch(/^run a function threw DatabaseError: invalid input syntax .* \(SQLSTATE 22P02\)$/)
    expect(`${error.detail}${logLines(ctx).join('')}`).not.toContain('secret')
  })

  it('keeps later statements from being begun when it fails, and is called again alone', async () => {
    let calls = 0
    const flaky: AppJobFunction = async () => {
      if (++calls === 1) throw new Error('not yet')
    }
    const steps: JobStep[] = [{ sql: 'insert into suggestions values (1)' }, { run: flaky }, { sql: 'insert into suggestions values (2)' }]
    expect((await failure(steps)).detail).toContain('not begun, because an earlier step failed')
    expect(await rows()).toEqual([1])
    expect(await work(steps)).toMatchObject({ status: 'done' })
    expect(await rows()).toEqual([1, 2])
  })

  it('ends with its run: another worker has it, or the process is told to stop', async () => {
    const stop = new AbortController()
    ctx = testContext(test.db, { signal: stop.signal })
    let begun: () => void = () => undefined
    const running = new Promise<void>((resolve) => {
      begun = resolve
    })
    const working = work((app) => {
      begun()
      return new Promise((_resolve, reject) => app.signal.addEventListener('abort', () => reject(new Error('stopped'))))
    })
    await running
    stop.abort(new CaretakerError('lease_lost', 'taken'))
    await expect(working).rejects.toMatchObject({ code: 'lease_lost' })
  })

  it('has its fetch aborted with it', async () => {
    doubles.use(http.get('https://app.example/slow', () => new Promise(() => undefined)))
    const fetching: AppJobFunction = async (app) => {
      await app.fetch('https://app.example/slow')
    }
    expect((await failure([{ run: fetching, budget: '1 second' }])).code).toBe('timeout')
  })
})
