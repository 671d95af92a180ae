import { beforeEach, describe, expect, it } from 'vitest'
import { appTasks } from '../../lib/app-jobs/index.ts'
import { type CallPolicy, defineConfig } from '../../lib/config/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { Database } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import type { CaretakerError } from '../../lib/platform/errors.ts'
import { type AppState, appApi, appState } from '../doubles/app.ts'
import { testContext } from '../support/context.ts'
import { doubles } from '../support/doubles.ts'
import { nothingRecorded, type Recorded, taskProgress } from './progress.ts'

describe('an app that does not answer', () => {
  let app: AppState
  let ctx: Context
  let recorded: Recorded

  beforeEach(() => {
    app = appState()
    recorded = nothingRecorded()
    doubles.use(...appApi(app))
    ctx = context()
  })

  const context = (overrides: Partial<Context> = {}): Context =>
    testContext({} as Database, {
      config: defineConfig({ app: { name: 'Test', url: 'https://app.example' } }),
      env: readEnv({ APP_WEBHOOK_SECRET: app.secret }),
      ...overrides,
    })
  const call = (policy: Partial<CallPolicy>) =>
    appTasks(ctx, { call: { path: '/api/jobs/sync', ...policy } }, 0, 'jobs.sync.steps.0')[0]?.run(ctx, taskProgress(recorded))
  const failure = async (policy: Partial<CallPolicy>): Promise<string> => {
    const error = (await Promise.resolve(call(policy)).catch((thrown: unknown) => thrown)) as CaretakerError
    return `${error.code}: ${error.detail}`
  }

  it('ends an attempt at its timeout, and tries again', async () => {
    app.answers = ['hang']
    expect(await call({ timeout: '1 second' })).toEqual({ status: 200, attempts: 2 })
    app.answers = ['hang']
    recorded = nothingRecorded()
    expect(await failure({ timeout: '1 second', retries: 0 })).toBe(
      'timeout: call POST /api/jobs/sync: the app did not answer within 1 seconds.',
    )
  })

  it('gives a call that the end of the invocation cut short one whole invocation', async () => {
    app.answers = ['hang', 'hang']
    const shortly = () => context({ deadline: new Date(Date.now() + 6_000) })
    ctx = shortly()
    expect(await call({ retries: 0 })).toBe('hand-over')
    ctx = shortly()
    expect(await failure({ retries: 0 })).toContain('in what an invocation has, twice. Give it a shorter "timeout"')
    expect(app.calls).toHaveLength(2)
  })
})
