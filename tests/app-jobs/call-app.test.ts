import { HttpResponse } from 'msw'
import { beforeEach, describe, expect, it } from 'vitest'
import { appTasks } from '../../lib/app-jobs/index.ts'
import { type CallPolicy, defineConfig } from '../../lib/config/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { Database } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { Task, TaskProgress } from '../../lib/platform/task.ts'
import { type AppState, appApi, appState } from '../doubles/app.ts'
import { logLines, testContext } from '../support/context.ts'
import { doubles } from '../support/doubles.ts'
import { nothingRecorded, type Recorded, taskProgress } from './progress.ts'

const noDatabase = {} as Database
const soon = { 'retry-after': '0' }
const status = (code: number, headers: Record<string, string> = soon) => new HttpResponse('a secret answer', { status: code, headers })

describe('calling the app', () => {
  let app: AppState
  let ctx: Context
  let recorded: Recorded

  beforeEach(() => {
    app = appState()
    recorded = nothingRecorded()
    doubles.use(...appApi(app))
    ctx = context()
  })

  function context(overrides: Partial<Context> = {}, secret: string | undefined = app.secret): Context {
    return testContext(noDatabase, {
      config: defineConfig({ app: { name: 'Test', url: 'https://app.example/' } }),
      env: readEnv(secret === undefined ? {} : { APP_WEBHOOK_SECRET: secret }),
      ...overrides,
    })
  }
  const task = (call: CallPolicy): Task => appTasks(ctx, { call }, 0, 'jobs.sync.steps.0')[0] as Task
  const call = (policy: Partial<CallPolicy> = {}, overrides: Partial<TaskProgress> = {}) =>
    task({ path: '/api/jobs/sync', ...policy }).run(ctx, taskProgress(recorded, overrides))
  const failure = async (policy: Partial<CallPolicy> = {}): Promise<string> => {
    const error = await call(policy).catch((thrown: unknown) => thrown)
    if (!(error instanceof CaretakerError)) throw new Error(`expected a CaretakerError, got ${JSON.stringify(error)}`)
    return `${error.code}: ${error.detail}`
  }

  it('is signed, says which slot it is for, and keeps the counts of the answer', async () => {
    app.answers = [HttpResponse.json({ rows: 12, sent: 3.5, name: 'Ada', nested: { a: 1 }, status: 999, 'bad name': 1 })]
    expect(await call()).toEqual({ status: 200, attempts: 1, rows: 12, sent: 3.5 })
    expect(app.calls).toEqual([
      {
        method: 'POST',
        path: '/api/jobs/sync',
        id: expect.stringMatching(/^job_[0-9a-f]{32}$/),
        body: '{"type":"job.due","timestamp":"2026-11-21T06:30:00.000Z","data":{"job":"sync","slot":"2026-11-21T06:30:00.000Z"}}',
        job: 'sync',
        slot: '2026-11-21T06:30:00.000Z',
      },
    ])
  })

  it('sends the body of the policy, or none with GET', async () => {
    await call({ body: { full: true } })
    await call({ method: 'GET', path: '/api/jobs/sync?kind=a%20b' })
    expect(app.calls.map(({ method, path, body }) => [method, path, body])).toEqual([
      ['POST', '/api/jobs/sync', '{"full":true}'],
      ['GET', '/api/jobs/sync?kind=a%20b', ''],
    ])
  })

  it('has one id a slot and step, whoever calls and however often', async () => {
    const other = { ...taskProgress(recorded).run, slot: new Date('2026-11-21T07:00:00Z') }
    app.answers = [status(503), status(503)]
    await call()
    await call({}, { run: { ...taskProgress(recorded).run, id: 'another', attempt: 4 }, inner: null })
    await call({}, { run: other, inner: null })
    await call({}, { label: 'the task #2', inner: null })
    const [a, b, c, d, e, f] = app.calls.map(({ id }) => id)
    expect(new Set([a, b, c, d])).toEqual(new Set([a]))
    expect(new Set([a, e, f]).size).toBe(3)
  })

  it.each([500, 502, 503, 504, 408, 409, 425, 429])('tries again after %i', async (code) => {
    app.answers = [status(code), status(code)]
    expect(await call()).toEqual({ status: 200, attempts: 3 })
  })

  it('tries again when the connection breaks, with a pause of its own', async () => {
    app.answers = ['break']
    expect(await call()).toEqual({ status: 200, attempts: 2 })
  })

  it.each([400, 401, 403, 404, 405, 410, 415, 422, 451])('does not try again after %i, nor in a retry of the run', async (code) => {
    app.answers = [status(code)]
    expect(await failure()).toBe(
      `upstream_failed: call POST /api/jobs/sync: the app answered ${code}, which a repetition would not change${code === 401 || code === 403 ? '; does it verify the signature with the same APP_WEBHOOK_SECRET?' : ''}.`,
    )
    expect(await failure()).toContain(`answered ${code}`)
    expect(app.calls).toHaveLength(1)
  })

  it.each([301, 302, 303, 307, 308])('does not follow %i', async (code) => {
    app.answers = [status(code, { location: 'https://evil.example/' })]
    expect(await failure()).toContain(`${code}, a redirect, which a signed call does not follow`)
    expect(app.calls).toHaveLength(1)
  })

  it('gives up after its retries, over all takings of the run', async () => {
    app.answers = Array.from({ length: 9 }, () => status(503))
    expect(await failure({ retries: 2 })).toBe('upstream_failed: call POST /api/jobs/sync: the app answered 503, the last of 3 times.')
    expect(await failure({ retries: 2 })).toContain('the last of 3 times')
    expect(app.calls).toHaveLength(3)
  })

  it('goes on counting where a killed worker stopped', async () => {
    app.answers = Array.from({ length: 9 }, () => status(500))
    // Killed while the second attempt was under way.
    recorded.inner = { attempts: 2, cutShort: 0, waits: 0, notBeforeMs: 0, ended: null }
    expect(await failure({ retries: 2 })).toContain('the last of 3 times')
    expect(app.calls).toHaveLength(1)
  })

  it('does as Retry-After says', async () => {
    app.answers = [status(429, { 'retry-after': '901' })]
    expect(await failure()).toContain('the app answered 429 and asks to be left alone for 16 minutes')

    // Longer than this invocation: the next one waits, and does not call before its time.
    recorded = nothingRecorded()
    app.answers = [status(503, { 'retry-after': '600' })]
    ctx = context({ deadline: new Date(Date.now() + 5_000) })
    expect(await call()).toBe('hand-over')
    expect(app.calls).toHaveLength(2)
    const { notBeforeMs } = recorded.inner as { notBeforeMs: number }
    expect(notBeforeMs).toBeGreaterThan(Date.now() + 500_000)
    const due = Date.now() + 200
    recorded.inner = { ...(recorded.inner as object), notBeforeMs: due }
    ctx = context()
    expect(await call()).toEqual({ status: 200, attempts: 2 })
    expect(Date.now()).toBeGreaterThanOrEqual(due)
  })

  it('begins nothing that it has no time for', async () => {
    ctx = context({ deadline: new Date(Date.now() + 3_000) })
    expect(await call()).toBe('hand-over')
    expect(app.calls).toEqual([])
  })

  it('ends when it is told to stop, as interrupted', async () => {
    app.answers = ['hang']
    const stop = new AbortController()
    ctx = context({ signal: stop.signal })
    const calling = call()
    await expect.poll(() => app.calls.length, { timeout: 20_000 }).toBe(1)
    stop.abort(new CaretakerError('lease_lost', 'taken'))
    await expect(calling).rejects.toMatchObject({ code: 'lease_lost' })
  })

  it.each([
    ['an endless body', new Response(endless(), { headers: { 'content-type': 'application/json' } })],
    ['a body that breaks off', new Response(broken(), { headers: { 'content-type': 'application/json' } })],
    ['JSON that is none', new HttpResponse('{', { headers: { 'content-type': 'application/json' } })],
    ['text', new HttpResponse('rows: 5')],
    ['nothing', new HttpResponse(null, { status: 204 })],
    ['an array', HttpResponse.json([{ rows: 1 }])],
  ])('takes %s for done, without counts', async (_name, answer) => {
    app.answers = [answer]
    expect(await call()).toEqual({ status: answer.status, attempts: 1 })
  })

  it('shows neither the answer nor the secret nor the query to anybody', async () => {
    app.answers = [status(500), status(404)]
    await failure({ path: '/api/jobs/sync?token=hush' })
    const said = `${logLines(ctx).join('')}${JSON.stringify(recorded)}`
    for (const secret of ['a secret answer', app.secret.slice(6), 'hush']) expect(said).not.toContain(secret)
  })

  it.each([
    [undefined, 'APP_WEBHOOK_SECRET is not set'],
    ['not-a-whsec-secret', 'Entry 1 of APP_WEBHOOK_SECRET is not a secret of Standard Webhooks'],
  ])('calls nobody without a secret to sign with (%s)', async (secret, why) => {
    ctx = testContext(noDatabase, { config: ctx.config, env: readEnv(secret === undefined ? {} : { APP_WEBHOOK_SECRET: secret }) })
    expect(await failure()).toContain(`not_configured: ${why}`)
    expect(app.calls).toEqual([])
    const [line] = await task({ path: '/api/jobs/sync' }).plan(ctx, planned())
    expect(line?.warnings).toEqual([expect.stringContaining(why)])
  })

  it('is planned without being made', async () => {
    const before = planned()
    expect(await task({ path: '/api/jobs/sync?token=hush', method: 'GET', retries: 1 }).plan(ctx, before)).toEqual([
      {
        action: 'call GET /api/jobs/sync, signed, with up to 1 retries',
        target: 'https://app.example/api/jobs/sync',
        count: 1,
        unit: 'objects',
      },
    ])
    expect(before.unknown).toBe(true)
    expect(app.calls).toEqual([])
  })
})

function planned() {
  return { gone: new Map<number, string[]>(), incoming: new Map<number, string[]>(), unsure: new Set<number>(), unknown: false }
}

function endless(): ReadableStream<Uint8Array> {
  return new ReadableStream({
    pull(controller) {
      controller.enqueue(new TextEncoder().encode('{"rows":1}'.padEnd(4_096)))
    },
  })
}

function broken(): ReadableStream<Uint8Array> {
  let pieces = 0
  return new ReadableStream({
    pull(controller) {
      if (pieces++ < 4) controller.enqueue(new TextEncoder().encode('{"rows":'))
      else controller.error(new Error('broken off'))
    },
  })
}
