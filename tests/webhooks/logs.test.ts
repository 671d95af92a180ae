import { createHmac } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { fixedClock } from '../../lib/platform/clock.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { webhooks } from '../../lib/routes/webhooks.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'

const test = useTestDatabase()
const secret = 'a secret of the log drain'
const minute = Date.parse('2026-11-21T12:00:00Z')

const ctx = () =>
  testContext(test.db, {
    clock: fixedClock('2026-11-21T12:05:00Z'),
    env: readEnv({ WEBHOOK_SECRETS: `logs=another secret, before,logs=${secret}` }),
  })

async function post(
  body: string,
  headers: Record<string, string> = { 'x-vercel-signature': createHmac('sha1', secret).update(body).digest('hex') },
) {
  const answer = await testServer(webhooks(), ctx()).request('/api/webhooks/logs', {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  })
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
}

const counts = async () =>
  Object.fromEntries(
    (
      await test.db.query<{ key: string; count: number }>(
        `select to_char(minute at time zone 'UTC', 'HH24:MI') || ' ' || host || ' ' || kind as key, count from caretaker.log_counts`,
      )
    ).map(({ key, count }) => [key, count]),
  )

beforeEach(() => test.db.execute('truncate caretaker.log_counts, caretaker.log_batches'))

describe('log drains', () => {
  it('of Vercel are counted by minute and status, a batch once, and no line of them is kept', async () => {
    const batch = JSON.stringify([
      { id: '1', timestamp: minute, source: 'lambda', level: 'info', proxy: { statusCode: 200, path: '/ada@example.com' } },
      { id: '2', timestamp: minute + 59_999, proxy: { statusCode: 204 } },
      { id: '3', timestamp: minute + 60_000, proxy: { statusCode: 502 } },
      { id: '4', timestamp: minute, level: 'error', message: 'ada@example.com' },
      { id: '5', timestamp: minute, statusCode: -1, level: 'FATAL' },
    ])
    expect(await post(batch)).toEqual({ status: 200, body: { lines: 5, duplicate: false } })
    expect(await post(batch)).toEqual({ status: 200, body: { lines: 5, duplicate: true } })
    const expected = { '12:00 vercel http_2xx': 2, '12:01 vercel http_5xx': 1, '12:00 vercel log_error': 1, '12:00 vercel log_fatal': 1 }
    expect(await counts()).toEqual(expected)
    await post(JSON.stringify([{ id: '6', timestamp: minute, proxy: { statusCode: 201 } }]))
    expect(await counts()).toEqual({ ...expected, '12:00 vercel http_2xx': 3 })
    expect(JSON.stringify(await test.db.query('select c::text from caretaker.log_counts c'))).not.toContain('ada@')
  })

  it('of Netlify come as one object a line, with a bearer token', async () => {
    const lines = [
      { timestamp: '2026-11-21T12:00:01Z', status_code: 404 },
      { timestamp: '2026-11-21T12:00:02Z', status_code: 200 },
      { timestamp: '2026-11-21T12:00:03Z', status_code: 401 },
      { level: 'warn' },
    ]
    const body = `${lines.map((line) => JSON.stringify(line)).join('\n')}\r\n`
    expect(
      (await post(body, { 'content-type': 'application/x-ndjson', authorization: `Bearer ${secret.replaceAll(' ', '-')}` })).status,
    ).toBe(400)
    const spaceless = testServer(webhooks(), { ...ctx(), env: readEnv({ WEBHOOK_SECRETS: 'logs=a-secret-of-the-drain' }) })
    const answer = await spaceless.request('/api/webhooks/logs', {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/x-ndjson', authorization: 'Bearer a-secret-of-the-drain' },
    })
    expect(await answer.json()).toEqual({ lines: 4, duplicate: false })
    expect(await counts()).toEqual({
      '12:00 netlify http_4xx': 1,
      '12:00 netlify http_401': 1,
      '12:00 netlify http_2xx': 1,
      '12:05 netlify log_warn': 1,
    })
  })

  it.each([
    ['a wrong signature', { 'x-vercel-signature': '0'.repeat(40) }, 'signature_invalid'],
    ['two signatures', { 'x-vercel-signature': 'a, b' }, 'signature_invalid'],
    ['no signature', {}, 'signature_invalid'],
    ['another type', { 'content-type': 'image/png' }, 'unsupported_media_type'],
  ])('are refused with %s', async (_what, headers, code) => {
    expect((await post('[]', headers as Record<string, string>)).body).toMatchObject({ code })
  })

  it.each(['{', '[1]', '"x"', '{"a":1}\nx'])('are refused when they are %s', async (body) => {
    expect(await post(body)).toMatchObject({ status: 400, body: { code: 'bad_request' } })
  })

  it('are closed while no secret is set', async () => {
    const closed = testServer(webhooks(), { ...ctx(), env: readEnv({ WEBHOOK_SECRETS: 'other=x-x-x-x-x-x' }) })
    expect((await closed.request('/api/webhooks/logs', { method: 'POST', body: '[]' })).status).toBe(503)
  })
})
