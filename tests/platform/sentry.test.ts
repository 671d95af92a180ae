import { beforeEach, describe, expect, it } from 'vitest'
import { readEnv } from '../../lib/platform/env.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { openSentry } from '../../lib/platform/sentry.ts'
import { type SentryState, sentryApi, sentryState } from '../doubles/sentry.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'

describe('openSentry', () => {
  const test = useTestDatabase()
  let state: SentryState
  beforeEach(() => {
    state = sentryState()
    doubles.use(...sentryApi(state))
  })
  const open = (more: Record<string, string> = {}) =>
    openSentry(readEnv({ SENTRY_DSN: state.dsn, NODE_ENV: 'test', APP_VERSION: 'abc123', ...more }), globalThis.fetch)

  it('sends one envelope with the error, its cause, its code and the request id', async () => {
    const sentry = open()
    sentry.capture(new CaretakerError('backup_incomplete', 'Table sessions was not read to its end.', { cause: new TypeError('no') }), {
      requestId: 'request-1',
      tags: { job: 'backup' },
    })
    expect(await sentry.flush(2_000)).toBe(true)
    expect(state.events).toHaveLength(1)
    const [event] = state.events
    expect(event).toMatchObject({
      level: 'error',
      environment: 'test',
      release: 'abc123',
      tags: { job: 'backup', code: 'backup_incomplete', request_id: 'request-1' },
    })
    // The cause comes first.
    expect(event?.exception.values.map(({ type, value }) => [type, value])).toEqual([
      ['TypeError', 'no'],
      ['CaretakerError', 'backup_incomplete: Table sessions was not read to its end.'],
    ])
    // The innermost frame comes last.
    expect(event?.exception.values[1]?.stacktrace?.frames.at(-1)?.filename).toMatch(/sentry\.test\.ts$/)
    for (const field of ['user', 'request', 'extra', 'breadcrumbs', 'server_name']) expect(event).not.toHaveProperty(field)
  })

  it('sends nothing of a person, a row or a key', async () => {
    const sentry = open({
      STRIPE_SECRET_KEY: 'a-key-without-any-shape',
      DATABASE_URL: 'postgres://owner:hunter2hunter2@db.example.com/app',
    })
    const about = { requestId: 'request-2' }
    await test.db.execute('create table people (email text primary key, age int)')
    await test.db.execute(`insert into people values ('row-value-1', 1)`)
    const fail = async (sql: string) => sentry.capture(await test.db.execute(sql).catch((error: unknown) => error), about)
    await fail(`insert into people values ('row-value-1', 1)`)
    await fail(`insert into people values ('x', 'row-value-2 "quoted" row-value-3')`)
    await fail(`do $$ begin raise exception 'the row-value-4 of a function'; end $$`)
    const withExtras = Object.assign(new Error('mail for jane@example.com from 203.0.113.77, +49 170 1234567, Bearer abc.def-ghi'), {
      body: 'request-body',
      user: { email: 'row-value-5' },
    })
    sentry.capture(withExtras, { requestId: 'request-3', tags: { route: '/people/jane@example.com' } })
    sentry.capture(
      new Error(
        'a-key-without-any-shape sk_live_abcdefgh12345678 eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x postgres://a:secret-pass@h/db hunter2hunter2',
      ),
      about,
    )
    sentry.capture(new Error('outer', { cause: new Error('connect postgres://owner:hunter2hunter2@db.example.com/app') }), about)
    sentry.capture('row-value-6 was thrown as a string', about)
    expect(await sentry.flush(2_000)).toBe(true)
    expect(state.events).toHaveLength(7)
    const everything = state.sent.join('\n')
    for (const secret of [
      'row-value',
      'jane',
      '203.0.113',
      '170 1234567',
      'abc.def',
      'request-body',
      'a-key-without',
      'sk_live',
      'eyJ',
      'secret-pass',
    ])
      expect(everything, secret).not.toContain(secret)
    expect(everything).not.toContain('owner:hunter2')
  })

  it('drops refusals by rate limits and lost leases', async () => {
    const sentry = open()
    sentry.capture(new CaretakerError('rate_limited', 'Too many.'), { requestId: 'r' })
    sentry.capture(new CaretakerError('lease_lost', 'Taken over.'), { requestId: 'r' })
    sentry.capture(Object.assign(new Error('slow down'), { name: 'RateLimitError' }), { requestId: 'r' })
    expect(await sentry.flush(2_000)).toBe(true)
    expect(state.sent).toEqual([])
  })

  it('never throws, whatever Sentry answers', async () => {
    for (const status of [400, 429, 500]) {
      state.failWith = status
      const sentry = open()
      sentry.capture(new Error('a defect'), { requestId: 'r' })
      expect(await sentry.flush(2_000)).toBe(true)
    }
    const unreachable = openSentry(readEnv({ SENTRY_DSN: state.dsn }), () => Promise.reject(new TypeError('fetch failed')))
    unreachable.capture(new Error('a defect'), { requestId: 'r' })
    await unreachable.flush(2_000)
    expect(state.events).toEqual([])
  })

  it('waits no longer than it is told', async () => {
    const sentry = openSentry(readEnv({ SENTRY_DSN: state.dsn }), () => new Promise(() => undefined))
    sentry.capture(new Error('a defect'), { requestId: 'r' })
    expect(await sentry.flush(50)).toBe(false)
  })

  it('does nothing without a DSN', async () => {
    const sentry = openSentry(readEnv({}), () => expect.unreachable('something was sent'))
    sentry.capture(new Error('a defect'), { requestId: 'r' })
    expect(await sentry.flush(0)).toBe(true)
  })
})
